package pipeline

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// BlobBucket says how the bucket of a blob store is reached. Without keys it is done with the SDK's default chain:
// environment, shared files, web identity, container, instance.
type BlobBucket struct {
	Endpoint        string           `yaml:"endpoint" filled:"true" doc:"The server, if it is not AWS: https://store.local:9000."`
	Region          string           `yaml:"region" filled:"true" doc:"The region of the bucket; us-east-1 without it."`
	PathStyle       bool             `yaml:"path_style" doc:"Whether the bucket stands in the path and not in the host name, as most servers that are not AWS want it."`
	AccessKeyID     gantry.SecretRef `yaml:"access_key_id" doc:"A reference to the id of an access key."`
	SecretAccessKey gantry.SecretRef `yaml:"secret_access_key" doc:"A reference to the access key."`
	SessionToken    gantry.SecretRef `yaml:"session_token" doc:"A reference to the token of temporary keys."`
	Profile         string           `yaml:"profile" filled:"true" doc:"A profile of the SDK's shared files."`
	RoleARN         string           `yaml:"role_arn" filled:"true" doc:"A role to take on."`
}

// Check refuses half of a pair of keys, keys beside a profile, and what is no server.
func (b BlobBucket) Check() (found []gantry.FieldProblem) {
	u, err := url.Parse(b.Endpoint)
	if b.Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "") {
		found = append(found, gantry.FieldProblem{Key: "endpoint", Text: "it is not http:// or https:// with a host, a port if need be, and nothing else"})
	}
	keys := b.AccessKeyID != "" || b.SecretAccessKey != "" || b.SessionToken != ""
	if keys && (b.AccessKeyID == "" || b.SecretAccessKey == "") {
		found = append(found, gantry.FieldProblem{Key: "access_key_id", Text: "access_key_id and secret_access_key belong together"})
	}
	if keys && b.Profile != "" {
		found = append(found, gantry.FieldProblem{Key: "profile", Text: "profile and keys exclude one another"})
	}
	return found
}

var bucketAddress = regexp.MustCompile(`^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_.-]+)*/?$`)

// checkBlobs holds blobs and bucket to one another.
func (d Deployment) checkBlobs() []gantry.FieldProblem {
	in := strings.HasPrefix(d.Blobs, "s3://")
	switch {
	case in && !bucketAddress.MatchString(d.Blobs):
		return []gantry.FieldProblem{{Key: "blobs", Text: "it is no address such as s3://bucket/prefix"}}
	case !in && d.Bucket != BlobBucket{}:
		return []gantry.FieldProblem{{Key: "bucket", Text: "it means nothing unless blobs is s3://bucket/prefix"}}
	}
	return nil
}
