package s3

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A key may mean two: the one that is there, and of two that are there the one with the event's ETag.
func TestHookFindsTheKey(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	for key, body := range map[string]string{"a b": "one", "a+b": "other", "c+d": "third"} {
		if err := b.put(key, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	etags := map[string]string{}
	collect(t, b.source(nil), 3, func(o gantry.Object) error { etags[o.Ref] = o.Version; return nil })
	s, d := b.hooked(nil)
	for _, c := range []struct{ key, etag, want string }{
		{"a+b", "", "accepted a+b"}, {"a+b", etags["a+b"], "accepted a+b"}, {"a+b", etags["a b"], "accepted a b"}, {"c+d", etags["c+d"], "accepted c+d"},
		{"c%2Bd", etags["c+d"], "accepted c+d"}, {"c%2Bd", "", "accepted c+d"},
	} {
		if err := s.Hook(t.Context(), nil, said(b.name, c.etag, c.key), d.announce); err != nil {
			t.Fatal(err)
		}
		want(t, d.take(), c.want)
	}
	if err := s.Hook(t.Context(), nil, said(b.name, "0123", "c%2Bd"), d.announce); err != nil { // neither is it
		t.Fatal(err)
	}
	want(t, d.take(), "source_gone c%2Bd")
}

// An object that is replaced or deleted while it is read ends as superseded or gone; what took its place is announced. One
// that never rests is left to a later time.
func TestHookWhileTheObjectChanges(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s, d := b.hooked(nil)
	change := func(key string, do func(n int) error) error {
		t.Helper()
		if err := b.put(key, []byte("first")); err != nil {
			t.Fatal(err)
		}
		n := 0
		d.fail = func(o gantry.Object) error {
			if o.Status != gantry.Accepted {
				return nil
			}
			n++
			if err := do(n); err != nil {
				t.Fatal(err)
			}
			r, err := s.Open(t.Context(), o.Ref)
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			return err
		}
		return s.Hook(t.Context(), nil, said(b.name, "", key), d.announce)
	}
	if err := change("replaced", func(n int) error {
		if n == 1 {
			return b.put("replaced", []byte("second"))
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	got := d.take()
	want(t, got, "accepted replaced", "superseded replaced", "accepted replaced")
	if got[0].Version != got[1].Version || got[1].Version == got[2].Version {
		t.Errorf("%+v", got)
	}
	if err := change("deleted", func(int) error { return b.remove("deleted") }); err != nil {
		t.Error(err)
	}
	got = d.take()
	want(t, got, "accepted deleted", "source_gone deleted")
	if got[0].Version != got[1].Version {
		t.Errorf("%+v", got)
	}
	err := change("restless", func(n int) error { return b.put("restless", fmt.Appendf(nil, "body %d", n)) })
	if gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != CodeRestless || gantry.RetryAfterOf(err) == 0 {
		t.Error(err)
	}
	if n := len(d.take()); n > 3*maxFollow {
		t.Errorf("%d announcements", n)
	}
}

// A young object has to come again when it has settled.
func TestHookSettles(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	s, d := b.hooked(func(c *SourceConfig) { c.Settle = 2 * time.Second })
	if err := b.put("a", nil); err != nil {
		t.Fatal(err)
	}
	err := s.Hook(t.Context(), nil, said(b.name, "", "a"), d.announce)
	if after := gantry.RetryAfterOf(err); gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != CodeUnsettled || after <= 0 || after > 2*time.Second {
		t.Errorf("%v, after %s", err, after)
	}
	want(t, d.take())
	time.Sleep(gantry.RetryAfterOf(err) + time.Second) // the server's clock tells seconds
	if err := s.Hook(t.Context(), nil, said(b.name, "", "a"), d.announce); err != nil {
		t.Error(err)
	}
	want(t, d.take(), "accepted a")
}

// While the bucket does not answer as it should, nothing is announced and the event has to come again.
func TestHookOverABadBucket(t *testing.T) {
	t.Parallel()
	for status, kind := range map[int]gantry.Kind{500: gantry.Transient, 503: gantry.Unavailable, 403: gantry.Denied, 301: gantry.Permanent} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(server.Close)
		s, err := NewSource(t.Context(), SourceConfig{Bucket: "bucket", Endpoint: server.URL, Discover: []string{"webhook"}, Token: "${env:T}"}, drivertest.Egress(t))
		if err != nil {
			t.Fatal(err)
		}
		d := &desk{}
		if err := s.(gantry.Hooked).Hook(t.Context(), nil, said("bucket", "", "a"), d.announce); err == nil || gantry.KindOf(err) != kind {
			t.Errorf("%d: %v", status, err)
		}
		want(t, d.take())
	}
}
