package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
)

// TestBlobsInBucket runs commands on a deployment whose blobs lie in a bucket, and refuses one without a key.
func TestBlobsInBucket(t *testing.T) {
	server := s3test.Start(t)
	client := s3.New(s3.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("kept")}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("T_S3_ID", server.AccessKey)
	t.Setenv("T_S3_SECRET", server.SecretKey)
	file, _ := configured(t, "blobs: s3://kept/one\nbucket: {endpoint: "+quoted(server.Endpoint)+", path_style: true, access_key_id: \"${env:T_S3_ID}\", secret_access_key: \"${env:T_S3_SECRET}\"}\n")
	if code, _, errs := typed(t, "--config", file, "blobs", "gc"); code != exitFailed || !strings.Contains(errs, "a blob store in a bucket keeps no copy of it") {
		t.Errorf("without a key: %d\n%s", code, errs)
	}
	t.Setenv("GANTRY_KEY", strings.Repeat("5c", 32))
	if code, out, errs := typed(t, "--config", file, "doctor", "--json"); !strings.Contains(out, "never opened") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	code, out, errs := typed(t, "--config", file, "blobs", "gc", "--json")
	var done map[string]int
	if err := json.Unmarshal([]byte(out), &done); code != exitOK || err != nil || len(done) != 5 || done["deleted"] != 0 {
		t.Errorf("%d: %v\n%s%s", code, err, out, errs)
	}
	if code, out, errs := typed(t, "--config", file, "blobs", "gc", "--dry-run", "--grace", "2h"); code != exitOK || !strings.HasPrefix(out, "would be: found without a row 0, ") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if code, _, errs := typed(t, "--config", file, "blobs", "gc", "--grace", "1m"); code != exitUsage || !strings.Contains(errs, "at least 1h") {
		t.Errorf("%d\n%s", code, errs)
	}
	if code, out, _ := typed(t, "--config", file, "doctor", "--json"); !strings.Contains(out, "has this deployment's key") {
		t.Errorf("%d\n%s", code, out)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "home", "blobs")); !os.IsNotExist(err) {
		t.Errorf("a folder of blobs was made: %v", err)
	}
	t.Setenv("GANTRY_KEY", strings.Repeat("6d", 32))
	if code, _, errs := typed(t, "--config", file, "blobs", "gc"); code != exitFailed || !strings.Contains(errs, "made with another deployment key") {
		t.Errorf("with another key: %d\n%s", code, errs)
	}
	if _, out, _ := typed(t, "--config", file, "doctor", "--json"); !strings.Contains(out, "made with another deployment key") {
		t.Errorf("with another key:\n%s", out)
	}
}
