package pipeline

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestBlobBucket reads what a deployment says about a blob store in a bucket; its address is no path.
func TestBlobBucket(t *testing.T) {
	t.Parallel()
	const src = `gantry: v1
blobs: "s3://${env:BUCKET}/prod/one"
blob_grace: 72h
bucket:
  endpoint: https://store.local:9000
  region: eu-central-1
  path_style: true
  access_key_id: "${env:ID}"
  secret_access_key: "${file:/run/secrets/s3}"
`
	got, err := ParseDeployment("/etc/gantry/gantry.yaml", []byte(src), fake{}, variables("BUCKET", "kept"))
	want := &Deployment{Gantry: "v1", Blobs: "s3://kept/prod/one", BlobGrace: 72 * time.Hour, Bucket: BlobBucket{Endpoint: "https://store.local:9000", Region: "eu-central-1",
		PathStyle: true, AccessKeyID: "${env:ID}", SecretAccessKey: "${file:/run/secrets/s3}"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, src := range []string{"gantry: v1\nblobs: s3://kept\n", "gantry: v1\nblobs: s3://kept/\nbucket: {profile: gantry, role_arn: \"arn:aws:iam::1:role/x\"}\n"} {
		if _, err := ParseDeployment("gantry.yaml", []byte(src), fake{}, variables()); err != nil {
			t.Errorf("%q: %v", src, err)
		}
	}
}

// TestBlobBucketMistakes have their lines, and print no secret.
func TestBlobBucketMistakes(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"blobs: s3://UP\n":                                              "2:1: blobs: it is no address such as s3://bucket/prefix",
		"blobs: s3://kept/a//b\n":                                       "2:1: blobs: it is no address such as s3://bucket/prefix",
		"blobs: kept\nbucket: {path_style: true}\n":                     "3:1: bucket: it means nothing unless blobs is s3://bucket/prefix",
		"bucket: {region: x}\n":                                         "2:1: bucket: it means nothing unless blobs is s3://bucket/prefix",
		"blobs: s3://kept\nbucket: {endpoint: store.local}\n":           "3:10: endpoint: it is not http:// or https:// with a host, a port if need be, and nothing else",
		"blobs: s3://kept\nbucket: {access_key_id: \"${env:ID}\"}\n":    "3:10: access_key_id: access_key_id and secret_access_key belong together",
		"blobs: s3://kept\nbucket: {secret_access_key: do-not-print}\n": "3:29: secret_access_key: a secret stands here as a reference, ${env:NAME} or ${file:/path}, never itself",
		"blobs: s3://kept\nbucket: {profile: p, access_key_id: \"${env:ID}\", secret_access_key: \"${env:S}\"}\n": "3:10: profile: profile and keys exclude one another",
		"blob_grace: 1m\n": "2:13: blob_grace: it must be at least 1h",
	} {
		_, err := ParseDeployment("/etc/gantry/gantry.yaml", []byte("gantry: v1\n"+src), fake{}, variables())
		problems, ok := errors.AsType[Problems](err)
		if !ok || len(problems) != 1 {
			t.Errorf("%q: %v", src, err)
			continue
		}
		if got := fmt.Sprintf("%d:%d: %s", problems[0].Line, problems[0].Col, problems[0].Text); got != want || strings.Contains(err.Error(), "do-not-print") {
			t.Errorf("%q:\n got %s\nwant %s", src, got, want)
		}
	}
}
