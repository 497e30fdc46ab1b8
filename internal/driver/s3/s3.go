// Package s3 takes objects from a bucket and lays results into one, on AWS or any server that speaks
// its protocol. Read place.go (where a bucket is), client.go (the SDK without a client, retries and
// credentials of its own), direct.go (the two requests that are made without it), errors.go (what the answers mean), then source.go (what a pipeline file may
// say, and reading an object), watch.go (what is listed when, side by side), pass.go (one listing that announces), listing.go
// (its pages), later.go (announcements and what is put off), memory.go (for who has no ledger), hear.go (objects that others
// tell of), event.go (what their messages say), follow.go (what the bucket says to that), queue.go (messages from SQS),
// describe.go (what else is known of an object), after.go (what becomes of it), sink.go (one delivery),
// upload.go (one in pieces) and body.go (bytes that are checked before their last one leaves).
package s3

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	defaultRegion = "us-east-1"
	maxKey        = 1024 // bytes of an object's key, as AWS has it
)

var (
	bucketPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	regionPattern = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	awsPattern    = regexp.MustCompile(`(^|\.)s3[a-z0-9-]*(\.dualstack)?(\.[a-z0-9-]+)?(\.vpce)?\.amazonaws\.com(\.cn)?$`) // S3, not a server of one's own there
)

// place says where a bucket is.
type place struct {
	bucket, endpoint, region string
	pathStyle                bool
}

// base is the server's URL.
func (p place) base() string {
	if p.endpoint != "" {
		return strings.TrimSuffix(p.endpoint, "/")
	}
	host := "https://s3." + p.regionOr() + ".amazonaws.com"
	if strings.HasPrefix(p.region, "cn-") {
		host += ".cn"
	}
	return host
}

func (p place) regionOr() string {
	if p.region != "" {
		return p.region
	}
	return defaultRegion
}

// String names the bucket. Two places are one if they have one name, as far as their settings tell: the server goes by its own, and all
// regions of AWS know a bucket by one. Sources have it on record.
func (p place) String() string { return "s3 " + p.server() + "/" + p.bucket }

// server names the server, however the bucket is addressed there. All names and addresses that a machine has for itself are one.
func (p place) server() string {
	u, err := url.Parse(p.base())
	if err != nil {
		return p.base()
	}
	host, port := strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), u.Port()
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		host = "localhost"
	}
	switch {
	case awsPattern.MatchString(host) && strings.HasSuffix(host, ".cn"):
		return "aws-cn"
	case awsPattern.MatchString(host) && strings.Contains(host, "us-gov-"):
		return "aws-us-gov"
	case awsPattern.MatchString(host):
		return "aws"
	case port == "" && u.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	return net.JoinHostPort(host, port)
}

// inPath tells whether the bucket stands in the path. It has to where it cannot be the first label of
// a host name: before an address, and where it has labels of its own, which no certificate covers.
func (p place) inPath(u *url.URL) bool {
	_, err := netip.ParseAddr(u.Hostname())
	return p.pathStyle || err == nil || strings.Contains(p.bucket, ".")
}

// target is where the calls go; the bucket is part of it, in the host name or as the model.
func (p place) target() gantry.Target {
	u, err := url.Parse(p.base())
	if err != nil {
		return gantry.Target{Scheme: "https", Model: p.bucket}
	}
	t := gantry.Target{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port()}
	if p.inPath(u) {
		t.Model = p.bucket
	} else {
		t.Host = p.bucket + "." + t.Host
	}
	return t
}

// check says what is wrong with a place.
func (p place) check() []gantry.FieldProblem {
	var found []gantry.FieldProblem
	if !bucketPattern.MatchString(p.bucket) {
		found = append(found, gantry.FieldProblem{Key: "bucket", Text: "is no name of a bucket: 3 to 63 lower-case letters, digits, dots and hyphens"})
	}
	if p.region != "" && !regionPattern.MatchString(p.region) {
		found = append(found, gantry.FieldProblem{Key: "region", Text: "is no name of a region"})
	}
	if u, err := url.Parse(p.endpoint); p.endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "") {
		found = append(found, gantry.FieldProblem{Key: "endpoint", Text: "is not http:// or https:// with a host, a port if need be, and nothing else"})
	}
	return found
}

// checkPrefix says what is wrong with the beginning of keys.
func checkPrefix(key, prefix string) []gantry.FieldProblem {
	if len(prefix) > maxKey || !utf8.ValidString(prefix) {
		return []gantry.FieldProblem{{Key: key, Text: "is no beginning of a key"}}
	}
	return nil
}
