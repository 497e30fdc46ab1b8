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

// keptBucket gives what a deployment file says of blobs in a fresh bucket.
func keptBucket(t *testing.T) string {
	t.Helper()
	server := s3test.Start(t)
	client := s3.New(s3.Options{BaseEndpoint: &server.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, "")})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("kept")}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("T_S3_ID", server.AccessKey)
	t.Setenv("T_S3_SECRET", server.SecretKey)
	return "blobs: s3://kept/one\nbucket: {endpoint: " + quoted(server.Endpoint) + ", path_style: true, access_key_id: \"${env:T_S3_ID}\", secret_access_key: \"${env:T_S3_SECRET}\"}\n"
}

// TestBlobsInBucket runs commands on a deployment whose blobs lie in a bucket, and refuses one without a key.
func TestBlobsInBucket(t *testing.T) {
	server := keptBucket(t)
	file, _ := configured(t, server)
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

// TestBlobsOfTwoDatabases lets one blob store serve one database alone: the second is refused, doctor says so, and a claim
// makes the store the second's and no longer the first's.
func TestBlobsOfTwoDatabases(t *testing.T) {
	t.Setenv("GANTRY_KEY", strings.Repeat("5c", 32))
	for name, blobs := range map[string]string{"folder": "blobs: " + filepath.Join(t.TempDir(), "blobs") + "\n", "bucket": keptBucket(t)} {
		first, _ := configured(t, blobs)
		second, _ := configured(t, blobs)
		claims := func(file, said string, args ...string) {
			t.Helper()
			code, out, errs := typed(t, append([]string{"--config", file, "blobs", "claim"}, args...)...)
			if want := map[bool]int{true: exitOK, false: code}[len(args) > 0]; code != want || !strings.Contains(out+errs, said) {
				t.Errorf("%s: claim %v: %d\n%s%s", name, args, code, out, errs)
			}
		}
		claims(first, "it was never opened")
		if code, _, errs := typed(t, "--config", first, "blobs", "gc"); code != exitOK {
			t.Fatalf("%s: %d %s", name, code, errs)
		}
		claims(first, "belongs to this database already")
		refused := func(file string) {
			t.Helper()
			if code, _, errs := typed(t, "--config", file, "blobs", "gc"); code != exitFailed || !strings.Contains(errs, "it belongs to database") {
				t.Errorf("%s: not refused: %d %s", name, code, errs)
			}
			if code, out, _ := typed(t, "--config", file, "doctor"); code != exitFailed || !strings.Contains(out, "✗ owner: the blob store belongs to another database") {
				t.Errorf("%s: doctor: %d\n%s", name, code, out)
			}
		}
		refused(second)
		claims(second, "say --yes")
		refused(second)
		claims(second, "claimed: the blob store belongs to this database", "--yes")
		if code, out, errs := typed(t, "--config", second, "blobs", "gc"); code != exitOK || !strings.HasPrefix(out, "found without a row 0, ") {
			t.Errorf("%s: %d %s%s", name, code, out, errs)
		}
		if _, out, _ := typed(t, "--config", second, "doctor"); !strings.Contains(out, "✓ owner: the blob store belongs to this database") {
			t.Errorf("%s: doctor:\n%s", name, out)
		}
		refused(first)
	}
}
