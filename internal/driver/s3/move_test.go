package s3

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// moving gives a source that moves what is done to in/done/.
func (b *bucket) moving() *source {
	return b.tidying(func(c *SourceConfig) { c.After, c.MoveTo = "move", "in/done/" })
}

// putInPieces puts an object as large inputs come: its ETag is none that a copy has.
func (b *bucket) putInPieces(key string, pieces ...[]byte) {
	b.t.Helper()
	begun, err := b.CreateMultipartUpload(b.t.Context(), &sdk.CreateMultipartUploadInput{Bucket: &b.name, Key: &key})
	if err != nil {
		b.t.Fatal(err)
	}
	var parts []types.CompletedPart
	for i, body := range pieces {
		n := aws.Int32(int32(i + 1))
		done, err := b.UploadPart(b.t.Context(), &sdk.UploadPartInput{Bucket: &b.name, Key: &key, UploadId: begun.UploadId, PartNumber: n, Body: bytes.NewReader(body)})
		if err != nil {
			b.t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{PartNumber: n, ETag: done.ETag})
	}
	if _, err := b.CompleteMultipartUpload(b.t.Context(), &sdk.CompleteMultipartUploadInput{Bucket: &b.name, Key: &key, UploadId: begun.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}); err != nil {
		b.t.Fatal(err)
	}
}

// A move that broke off between copy and deletion is made again, and leaves one copy, however the input was put.
func TestMoveLeavesOneCopy(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	large := bytes.Repeat([]byte("x"), 5<<20)
	for name, put := range map[string]func(b *bucket){
		"whole":  func(b *bucket) { _ = b.put("in/a", append(large, "end"...)) },
		"pieces": func(b *bucket) { b.putInPieces("in/a", large, []byte("end")) },
	} {
		b := newBucket(t, server)
		s := b.moving()
		put(b)
		mark := s.Mark(b.found(s, "in/a"))
		busy := 2
		s.client = newClient(b.place(), signed{&faults{RoundTripper: b.egress.Transport(), before: func(r *http.Request) *http.Response {
			if r.Method == http.MethodDelete && busy > 0 {
				busy--
				return refusal(r, http.StatusServiceUnavailable, "SlowDown")
			}
			return nil
		}}})
		for range 2 {
			wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.Unavailable, CodeSlowDown)
		}
		if err := s.Tidy(t.Context(), mark, gantry.Done, nothing); err != nil {
			t.Error(err)
		}
		got, err := b.list("")
		if keys := slices.Sorted(maps.Keys(got)); err != nil || !slices.Equal(keys, []string{"in/done/a"}) {
			t.Errorf("%s: there are %q, %v", name, keys, err)
		}
	}
}

// What has the name of a copy, and the size of one, is not one for that.
func TestMoveTrustsNoName(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.moving()
	if err := b.put("in/a", []byte("input")); err != nil {
		t.Fatal(err)
	}
	o := b.found(s, "in/a")
	for key, body := range map[string]string{"in/done/a": "another", "in/done/a~" + o.Version: "other"} {
		if err := b.put(key, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, s.Tidy(t.Context(), s.Mark(o), gantry.Done, nothing), gantry.Permanent, gantry.CodeConflict)
	if got, err := b.list("in/"); err != nil || len(got) != 3 || string(got["a"]) != "input" {
		t.Errorf("the input is nowhere any more: %q, %v", got, err)
	}
}

// A copy that was found to be wrong is none at the next try either.
func TestMoveOfWrongCopy(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.moving()
	if err := b.put("in/a", []byte("input")); err != nil {
		t.Fatal(err)
	}
	mark := s.Mark(b.found(s, "in/a"))
	s.client = newClient(b.place(), signed{&faults{RoundTripper: b.egress.Transport(), after: func(r *http.Response) {
		if isCopy(r.Request) && r.StatusCode == http.StatusOK { // a server that copies wrongly
			if err := b.put(strings.TrimPrefix(r.Request.URL.Path, "/"+b.name+"/"), []byte("wrong")); err != nil {
				t.Error(err)
			}
		}
	}}})
	for range 2 {
		wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.Transient, CodeChecksumMismatch)
	}
	wantError(t, s.Tidy(t.Context(), mark, gantry.Done, nothing), gantry.Permanent, gantry.CodeConflict)
	if got, _ := b.list("in/"); string(got["a"]) != "input" {
		t.Errorf("the input was deleted, and all that is left is %q", got)
	}
}

// What lies where an object goes and cannot be read, or changes meanwhile, is no copy, and does not mean that the object is gone.
func TestMoveReadsWhatIsThere(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	for _, c := range []struct {
		status int
		code   string
		want   gantry.Code
	}{
		{http.StatusForbidden, "InvalidObjectState", ""}, {http.StatusForbidden, "AccessDenied", ""},
		{http.StatusPreconditionFailed, "PreconditionFailed", CodeServerError}, {http.StatusNotFound, "NoSuchKey", CodeServerError},
		{http.StatusServiceUnavailable, "SlowDown", CodeSlowDown},
	} {
		b := newBucket(t, server)
		s := b.moving()
		for key, body := range map[string]string{"in/a": "input", "in/done/a": "other"} {
			if err := b.put(key, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		o := b.found(s, "in/a")
		s.client = newClient(b.place(), signed{&faults{RoundTripper: b.egress.Transport(), before: func(r *http.Request) *http.Response {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/done/a") {
				return refusal(r, c.status, c.code)
			}
			return nil
		}}})
		want := map[string]string{"in/done/a": "other", "in/done/a~" + o.Version: "input"}
		err := s.Tidy(t.Context(), s.Mark(o), gantry.Done, nothing)
		if c.want != "" {
			want = map[string]string{"in/done/a": "other", "in/a": "input"}
			if gantry.CodeOf(err) != c.want || !gantry.KindOf(err).Retryable() {
				t.Errorf("%s: %v", c.code, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", c.code, err)
		}
		got, err := b.list("")
		if err != nil || !maps.EqualFunc(got, want, func(x []byte, y string) bool { return string(x) == y }) {
			t.Errorf("%s: %q, %v", c.code, got, err)
		}
	}
}

// A copy is encrypted as what it is copied from: a server takes the bucket's default where nothing is asked for.
func TestMoveKeepsEncryption(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s := b.moving()
	if err := b.put("in/a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	mark := s.Mark(b.found(s, "in/a"))
	const header = "X-Amz-Server-Side-Encryption"
	want := map[string]string{header: "aws:kms", header + "-Aws-Kms-Key-Id": "arn:aws:kms:eu-central-1:1:key/ward", header + "-Bucket-Key-Enabled": "true"}
	asked := map[string]string{}
	f := &faults{RoundTripper: sign(t, drivertest.Egress(t).Transport(), b.server).Transport(), // the test's server has no keys
		before: func(r *http.Request) *http.Response {
			for name := range want {
				if isCopy(r) {
					asked[name] = r.Header.Get(name)
				}
				r.Header.Del(name)
			}
			return nil
		},
		after: func(r *http.Response) {
			for name, value := range want {
				if r.Request.Method == http.MethodHead {
					r.Header.Set(name, value)
				}
			}
		}}
	s.client = newClient(b.place(), signed{f})
	if err := s.Tidy(t.Context(), mark, gantry.Done, nothing); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(asked, want) {
		t.Errorf("the copy of an object under a key of KMS is asked for with %q", asked)
	}
}
