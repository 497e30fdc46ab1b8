package s3

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Encryption is how the server is to encrypt what it is given (x-amz-server-side-encryption). Its keys stay at the
// server.
type Encryption struct {
	Kind      string `yaml:"kind" one:"AES256 aws:kms aws:kms:dsse" doc:"With keys of the bucket's server (AES256), with a key of AWS KMS, or twice with one; empty: as the bucket says."`
	KeyID     string `yaml:"key_id" doc:"The KMS key: its id, alias or ARN; empty: the account's own for S3."`
	BucketKey bool   `yaml:"bucket_key" doc:"Whether the bucket derives keys of its own, so that KMS is asked less often."`
}

// Bounds of AWS: object tags, and metadata of all names and values together.
const (
	maxTags     = 10
	maxTagKey   = 128
	maxTagValue = 256
	maxMetadata = 2 << 10
)

var (
	metaPattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,126}$`)
	tagPattern   = regexp.MustCompile(`^[A-Za-z0-9 +=._:/@-]*$`)
	classPattern = regexp.MustCompile(`^[A-Z0-9_]{1,64}$`)
	keyIDPattern = regexp.MustCompile(`^[A-Za-z0-9:/_.-]{1,1000}$`)
)

// labels is what goes along with each object of a sink.
type labels struct {
	metadata, tags []label // in the order of their names
	class          types.StorageClass
	acl            types.ObjectCannedACL
	encryption     types.ServerSideEncryption
	keyID          *string
	bucketKey      *bool
}

type label struct {
	name string
	of   gantry.Template
}

// labelled is labels for one object.
type labelled struct {
	*labels
	metadata map[string]string
	tagging  *string
}

func newLabels(c SinkConfig) labels {
	l := labels{class: types.StorageClass(c.StorageClass), acl: types.ObjectCannedACL(c.ACL), encryption: types.ServerSideEncryption(c.Encryption.Kind)}
	if c.Encryption.KeyID != "" {
		l.keyID = &c.Encryption.KeyID
	}
	if c.Encryption.BucketKey {
		l.bucketKey = aws.Bool(true)
	}
	for _, set := range []struct {
		from map[string]string
		to   *[]label
	}{{c.Metadata, &l.metadata}, {c.Tags, &l.tags}} {
		for _, name := range slices.Sorted(maps.Keys(set.from)) {
			t, _ := gantry.ParseTemplate(set.from[name]) // it was checked
			*set.to = append(*set.to, label{name, t})
		}
	}
	return l
}

// fill gives what goes along with a delivery whose digest is known. A value that is empty is left out.
func (l *labels) fill(ctx context.Context, out gantry.Delivery) (labelled, error) {
	x := labelled{labels: l, metadata: map[string]string{ownSum: out.SHA.String()}}
	for _, m := range l.metadata {
		value, err := m.of.Fill(ctx, out)
		if err != nil {
			return x, err
		}
		if value != "" {
			x.metadata[m.name] = value
		}
	}
	tags := url.Values{}
	for _, t := range l.tags {
		value, err := t.of.Fill(ctx, out)
		if err != nil {
			return x, err
		}
		if value != "" {
			tags.Set(t.name, value)
		}
	}
	if len(tags) > 0 {
		x.tagging = aws.String(tags.Encode())
	}
	return x, nil
}

func (x labelled) put(in *sdk.PutObjectInput) {
	in.Metadata, in.Tagging, in.StorageClass, in.ACL = x.metadata, x.tagging, x.class, x.acl
	in.ServerSideEncryption, in.SSEKMSKeyId, in.BucketKeyEnabled = x.encryption, x.keyID, x.bucketKey
}

func (x labelled) create(in *sdk.CreateMultipartUploadInput) {
	in.Metadata, in.Tagging, in.StorageClass, in.ACL = x.metadata, x.tagging, x.class, x.acl
	in.ServerSideEncryption, in.SSEKMSKeyId, in.BucketKeyEnabled = x.encryption, x.keyID, x.bucketKey
}

// checkLabels lists what is wrong with what goes along with objects. That nothing is longer than AWS allows
// follows from the bounds of the variables.
func (c SinkConfig) checkLabels() (found []gantry.FieldProblem) {
	bad := func(key, format string, args ...any) {
		found = append(found, gantry.FieldProblem{Key: key, Text: fmt.Sprintf(format, args...)})
	}
	all := len(ownSum) + 64
	for _, name := range slices.Sorted(maps.Keys(c.Metadata)) {
		t, err := gantry.ParseTemplate(c.Metadata[name])
		all += len(name) + t.Longest()
		switch {
		case err != nil:
			bad("metadata", "%s: %v", name, err)
		case !metaPattern.MatchString(name) || name == ownSum:
			bad("metadata", "%q can be no name: lower-case letters, digits, . _ and -, and not %s", name, ownSum)
		case !graphic(c.Metadata[name]):
			bad("metadata", "%s: only ASCII characters that can be seen, and spaces between them, go into a header", name)
		}
	}
	if all > maxMetadata {
		bad("metadata", "it may be %d bytes long with its names; an object has %d at most", all, maxMetadata)
	}
	if len(c.Tags) > maxTags {
		bad("tags", "an object has %d at most", maxTags)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tags)) {
		t, err := gantry.ParseTemplate(c.Tags[name])
		switch {
		case err != nil:
			bad("tags", "%s: %v", name, err)
		case name == "" || len(name) > maxTagKey || !tagPattern.MatchString(name) || strings.HasPrefix(strings.ToLower(name), "aws:"):
			bad("tags", "%q can be no name of a tag: up to %d letters, digits, spaces and + - = . _ : / @, not beginning with aws:", name, maxTagKey)
		case t.Longest() > maxTagValue:
			bad("tags", "%s: it may be %d bytes long; a tag has %d at most", name, t.Longest(), maxTagValue)
		case !tagPattern.MatchString(strings.NewReplacer("{", "", "}", "").Replace(c.Tags[name])):
			bad("tags", "%s: a tag has only letters, digits, spaces and + - = . _ : / @", name)
		}
	}
	return append(found, c.checkKeeping()...)
}

// graphic tells whether a text goes into a header as it is.
func graphic(s string) bool {
	return strings.Trim(s, " ") == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func (c SinkConfig) checkKeeping() (found []gantry.FieldProblem) {
	e := c.Encryption
	if c.StorageClass != "" && !classPattern.MatchString(c.StorageClass) {
		found = append(found, gantry.FieldProblem{Key: "storage_class", Text: "is no name of a class such as STANDARD_IA"})
	}
	if e.KeyID != "" && !keyIDPattern.MatchString(e.KeyID) {
		found = append(found, gantry.FieldProblem{Key: "encryption", Text: "key_id is no id, alias or ARN of a key"})
	}
	if (e.KeyID != "" || e.BucketKey) && !strings.HasPrefix(e.Kind, "aws:kms") {
		found = append(found, gantry.FieldProblem{Key: "encryption", Text: "key_id and bucket_key go with kind: aws:kms or aws:kms:dsse"})
	}
	if e.BucketKey && e.Kind == "aws:kms:dsse" {
		found = append(found, gantry.FieldProblem{Key: "encryption", Text: "bucket_key does not go with aws:kms:dsse"})
	}
	return found
}
