package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/gantry-imaging/gantry/internal/doctor"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestDoctorTriesSinks puts and takes away an object in each bucket for results, as deliveries are put, and looks at the bucket and the
// queue of each source.
func TestDoctorTriesSinks(t *testing.T) {
	server := s3test.Start(t)
	client := s3.New(s3.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("results")}); err != nil {
		t.Fatal(err)
	}
	queues := s3test.StartQueues(t)
	queue, err := sqs.New(sqs.Options{BaseEndpoint: &queues.Endpoint, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")}).
		CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String("drop")})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOOK_TOKEN", "of the sender")
	t.Setenv("STORE_ID", server.AccessKey)
	t.Setenv("STORE_SECRET", server.SecretKey)
	file := filepath.Join(t.TempDir(), "p.yaml")
	err = os.WriteFile(file, fmt.Appendf(nil, `gantry: v1
name: probed
sources:
  inbox: {kind: dir, path: .}
  drop: {kind: s3, bucket: results, prefix: in/, endpoint: %[1]q, path_style: true, auth: store, discover: [sqs, webhook, poll], token: "${env:HOOK_TOKEN}", queue_url: %[2]q, queue_endpoint: %[3]q}
  lost: {kind: s3, bucket: nowhere, endpoint: %[1]q, path_style: true, auth: store}
  mute: {kind: s3, bucket: results, prefix: no/, endpoint: %[1]q, path_style: true, auth: store, discover: sqs, queue_url: %[4]q, queue_endpoint: %[3]q}
sinks:
  good: {kind: s3, bucket: results, prefix: out/, endpoint: %[1]q, path_style: true, auth: store, tags: {task: "{task}"}}
  missing: {kind: s3, bucket: elsewhere, endpoint: %[1]q, path_style: true, auth: store}
stages: [{name: find, call: finder}]
processors: {finder: {kind: http, url: %[1]q}}
auth: {store: {kind: aws, access_key_id: "${env:STORE_ID}", secret_access_key: "${env:STORE_SECRET}"}}
`, server.Endpoint, *queue.QueueUrl, queues.Endpoint, *queue.QueueUrl+"-not"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	dsn := postgrestest.Durable(t)
	code, out, errs := operated(t, dsn, "doctor", "--json", "-f", file)
	var found []doctor.Finding
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != exitFailed {
		t.Fatalf("%d %v\n%s%s", code, err, out, errs)
	}
	levels := map[string]doctor.Level{}
	for _, f := range found {
		levels[f.Check] = f.Level
	}
	for check, want := range map[string]doctor.Level{"sink good of probed: write": doctor.OK, "sink good of probed: conditional puts": doctor.OK,
		"sink good of probed: tags": doctor.OK, "sink good of probed: delete": doctor.OK, "sink missing of probed: write": doctor.Problem,
		"source drop of probed: list": doctor.OK, "source drop of probed: versioning": doctor.OK, "source drop of probed: queue": doctor.OK,
		"source drop of probed: webhook": "", "source lost of probed: list": doctor.Problem, "source lost of probed: versioning": "", "source mute of probed: list": doctor.OK, "source mute of probed: queue": doctor.Problem} {
		if levels[check] != want {
			t.Errorf("%s: %q, want %q", check, levels[check], want)
		}
	}
	if strings.Contains(out, server.SecretKey) {
		t.Error("the secret is printed")
	}
	os.Unsetenv("HOOK_TOKEN")
	if _, out, _ = operated(t, dsn, "doctor", "-f", file); !strings.Contains(out, "✗ source drop of probed: webhook: read secret ${env:HOOK_TOKEN}: not set") {
		t.Errorf("without a token:\n%s", out)
	}
	os.Unsetenv("STORE_SECRET")
	if _, out, _ = operated(t, dsn, "doctor", "-f", file); !strings.Contains(out, "✗ sink good of probed: write: read secret ${env:STORE_SECRET}: not set") {
		t.Errorf("without a secret:\n%s", out)
	}
	left, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("results")})
	if err != nil || aws.ToInt32(left.KeyCount) > 1 { // the gateway keeps a folder
		t.Errorf("%v, %v", left.Contents, err)
	}
}
