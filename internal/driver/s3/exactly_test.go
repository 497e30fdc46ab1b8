package s3

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestHookWithoutItsBucket acknowledges nothing while the bucket is not there, as after a gateway came up without its volume.
func TestHookWithoutItsBucket(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s, d := b.hooked(nil)
	if err := s.Hook(t.Context(), nil, said(b.name, "0123", "a"), d.announce); err != nil || len(d.take()) != 1 {
		t.Errorf("an object that is gone: %v", err)
	}
	if _, err := b.DeleteBucket(t.Context(), &sdk.DeleteBucketInput{Bucket: &b.name}); err != nil {
		t.Fatal(err)
	}
	err := s.Hook(t.Context(), nil, said(b.name, "0123", "a"), d.announce)
	wantError(t, err, gantry.Unavailable, CodeBucketMissing)
	if got := d.take(); len(got) > 0 {
		t.Errorf("announced %q", summary(got))
	}
}

// TestKeyIsNoPath takes the key of an event for a key at a server that keeps keys as paths: what lies outside of the prefix, or is
// left out, is not read through it, and one object is one ref however its key is spelled.
func TestKeyIsNoPath(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	for _, key := range []string{"elsewhere/secret", "in/a", "in/out/result"} {
		if err := b.put(key, []byte(key)); err != nil {
			t.Fatal(err)
		}
	}
	s, d := b.hooked(func(c *SourceConfig) { c.Prefix, c.Exclude = "in/", []string{"in/out/"} })
	for key, want := range map[string]string{
		"in/../elsewhere/secret": "", "in/x/../out/result": "", "in//out/result": "",
		"in/./a": "in/a", "in//a": "in/a", "in/x/../a": "in/a", "in/a": "in/a",
	} {
		if err := s.Hook(t.Context(), nil, said(b.name, "", key), d.announce); err != nil {
			t.Errorf("%s: %v", key, err)
		}
		got := ""
		for _, o := range d.take() {
			if o.Status == gantry.Accepted {
				got += o.Ref
			}
		}
		if got != want {
			t.Errorf("the event of %q is taken as %q, not as %q", key, got, want)
		}
	}
}

// TestKeyThatIsListed takes a key that looks like a path and is one of the bucket's own, as on AWS.
func TestKeyThatIsListed(t *testing.T) {
	t.Parallel()
	s := serveSource(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("list-type") {
			io.WriteString(w, `<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated><Contents><Key>in//a</Key><Size>1</Size><ETag>"e"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents></ListBucketResult>`)
			return
		}
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Content-Length", "1")
		w.Header().Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
	})
	o, err := s.lookExactly(t.Context(), "in//a")
	if err != nil || o == nil || o.Ref != "in//a" {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestEventsSayWhatListingsSay has a server tell of an object that was put under a key with two slashes.
func TestEventsSayWhatListingsSay(t *testing.T) {
	t.Parallel()
	bodies := make(chan []byte, 8)
	front := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- body
	}))
	t.Cleanup(front.Close)
	b := newBucket(t, s3test.StartTelling(t, front.URL))
	s, d := b.hooked(func(c *SourceConfig) { c.Prefix, c.Discover = "in/", []string{"webhook", "poll"} })
	if err := b.put("in//a.dcm", []byte("one object")); err != nil {
		t.Fatal(err)
	}
	var told []string
	for deadline := time.After(20 * time.Second); len(told) == 0; {
		select {
		case body := <-bodies: // the first is a test
			if err := s.Hook(t.Context(), nil, body, d.announce); err != nil {
				t.Log(err)
			}
			told = summary(d.take())
		case <-deadline:
			t.Fatal("the server told of nothing")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var listed []string
	s.Watch(ctx, func(_ context.Context, o gantry.Object) error { listed = append(listed, o.Ref); cancel(); return nil })
	if len(told) != 1 || len(listed) != 1 || told[0] != "accepted "+listed[0] {
		t.Errorf("one object was put; events told of %q, the listing of %q", told, listed)
	}
}
