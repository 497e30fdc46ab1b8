package s3

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// keepVersions makes the bucket keep all versions, or no more new ones.
func (b *bucket) keepVersions(status types.BucketVersioningStatus) {
	b.t.Helper()
	_, err := b.PutBucketVersioning(b.t.Context(), &sdk.PutBucketVersioningInput{Bucket: &b.name,
		VersioningConfiguration: &types.VersioningConfiguration{Status: status}})
	if err != nil {
		b.t.Fatal(err)
	}
}

// announced puts an object and gives it as a source announces it.
func (b *bucket) announced(key string, body []byte) gantry.Object {
	b.t.Helper()
	if err := b.put(key, body); err != nil {
		b.t.Fatal(err)
	}
	out, err := b.HeadObject(b.t.Context(), &sdk.HeadObjectInput{Bucket: &b.name, Key: &key})
	if err != nil {
		b.t.Fatal(err)
	}
	return gantry.Object{Ref: key, Name: path.Base(key), Version: strings.Trim(aws.ToString(out.ETag), `"`), Size: int64(len(body))}
}

// over is a source of the bucket with something between it and the server.
func (b *bucket) over(copy string, f *faults) *source {
	b.t.Helper()
	f.RoundTripper = drivertest.Egress(b.t).Transport()
	c := SourceConfig{Bucket: b.name, Endpoint: b.server.Endpoint, PathStyle: true, Copy: copy}
	s, err := NewSource(b.t.Context(), c, sign(b.t, f, b.server))
	if err != nil {
		b.t.Fatal(err)
	}
	return s.(*source)
}

func (s *source) readRange(ctx context.Context, place string, from, n int64) ([]byte, error) {
	r, err := s.OpenRange(ctx, place, from, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// What has a place follows from the setting and from what the bucket keeps.
func TestLocate(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	asks := func(r *http.Request) bool { return r.URL.Query().Has("versioning") }
	reads := func(r *http.Request) bool { return r.URL.Query().Has("versionId") }
	looks := func(r *http.Request) bool { return r.Method == http.MethodHead }
	for name, c := range map[string]struct {
		copy      string
		keep      bool
		suspend   bool // after the source has asked
		deny      func(*http.Request) bool
		status    int   // with which it is denied
		requests  int32 // for three objects
		located   bool
		versioned bool
	}{
		"auto, no versions":                {copy: "auto", requests: 1},
		"auto, versions":                   {copy: "auto", keep: true, requests: 1 + 1 + 3, located: true, versioned: true},
		"auto, versions no more":           {copy: "auto", keep: true, suspend: true, requests: 1 + 1 + 3},
		"auto, may not ask":                {copy: "auto", keep: true, deny: asks, status: 403, requests: 1},
		"auto, asks what is not known":     {copy: "auto", keep: true, deny: asks, status: 404, requests: 1},
		"auto, may not read a version":     {copy: "auto", keep: true, deny: reads, status: 403, requests: 3},
		"auto, versions are not found":     {copy: "auto", keep: true, deny: reads, status: 404, requests: 1 + 2*3},
		"auto, may not look":               {copy: "auto", keep: true, deny: looks, status: 501, requests: 1 + 3},
		"always, versions":                 {copy: "always", keep: true},
		"never, no versions":               {copy: "never", located: true},
		"never, versions, which it leaves": {copy: "never", keep: true, located: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(t, server)
			if c.keep {
				b.keepVersions(types.BucketVersioningStatusEnabled)
			}
			var requests atomic.Int32
			s := b.over(c.copy, &faults{before: func(r *http.Request) *http.Response {
				requests.Add(1)
				if c.deny != nil && c.deny(r) {
					return refusal(r, c.status, "Refused")
				}
				return nil
			}})
			body := []byte("0123456789")
			if c.suspend {
				if _, err := s.Locate(t.Context(), b.announced("a", body)); err != nil {
					t.Fatal(err)
				}
				b.keepVersions(types.BucketVersioningStatusSuspended)
				requests.Store(2)
			}
			var place string
			for _, key := range []string{"x/DOE^JANE ä.dcm", "b", "c"} {
				o := b.announced(key, body)
				at, err := s.Locate(t.Context(), o)
				if err != nil || (at != "") != c.located || strings.Contains(at, `"version"`) != c.versioned {
					t.Errorf("%q, %v", at, err)
				}
				if place == "" {
					place = at
				}
			}
			if requests.Load() != c.requests {
				t.Errorf("%d requests, want %d", requests.Load(), c.requests)
			}
			if got, err := s.readRange(t.Context(), place, 3, 4); c.located && (err != nil || string(got) != "3456") {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// Failures to learn of versions are not taken for an answer.
func TestLocateAsksAgain(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	b.keepVersions(types.BucketVersioningStatusEnabled)
	refused := map[string]bool{}
	s := b.over("auto", &faults{before: func(r *http.Request) *http.Response {
		kind := r.Method + r.URL.RawQuery
		if refused[kind] {
			return nil
		}
		refused[kind] = true
		return refusal(r, http.StatusServiceUnavailable, "SlowDown")
	}})
	o := b.announced("a", []byte("body"))
	for range 3 { // versions, the object, its version
		_, err := s.Locate(t.Context(), o)
		wantError(t, err, gantry.Unavailable, CodeSlowDown)
	}
	if at, err := s.Locate(t.Context(), o); at == "" || err != nil {
		t.Errorf("in the end %q, %v", at, err)
	}
	for _, o := range []gantry.Object{{Ref: "a", Size: 1}, {Ref: "a", Version: "e"}, {Ref: "\xff", Version: "e", Size: 1}} {
		if at, err := b.source(func(c *SourceConfig) { c.Copy = "never" }).Locate(t.Context(), o); at != "" || err != nil {
			t.Errorf("%+v has the place %q, %v", o, at, err)
		}
	}
}

// An object that was replaced or deleted is gone, but for one whose version is kept. Where neither the
// request nor the look at the answer holds the reading to the ETag, other bytes come.
func TestRangesAreOfOneObject(t *testing.T) {
	t.Parallel()
	server := s3test.Start(t)
	first, second := []byte("first bytes"), []byte("other bytes")
	for name, c := range map[string]struct {
		copy    string
		ignores bool // If-Match
		hides   bool // the ETag
		got     string
	}{
		"in a bucket without versions":      {copy: "never"},
		"whatever the server thinks":        {copy: "never", ignores: true},
		"the request alone":                 {copy: "never", hides: true},
		"in a bucket with versions":         {copy: "auto", got: "first"},
		"the control, held to nothing":      {copy: "never", ignores: true, hides: true, got: "other"},
		"with versions and held to nothing": {copy: "auto", ignores: true, hides: true, got: "first"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBucket(t, server)
			if c.copy == "auto" {
				b.keepVersions(types.BucketVersioningStatusEnabled)
			}
			s := b.over(c.copy, &faults{after: func(resp *http.Response) {
				if c.hides {
					resp.Header.Del("ETag")
				}
			}})
			if c.ignores {
				s.client = newClient(b.place(), unbound{sign(t, &faults{RoundTripper: drivertest.Egress(t).Transport(), after: func(resp *http.Response) {
					if c.hides {
						resp.Header.Del("ETag")
					}
				}}, server)})
			}
			place, err := s.Locate(t.Context(), b.announced("a", first))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.readRange(t.Context(), place, 0, 5); err != nil || string(got) != "first" {
				t.Fatalf("before: %q, %v", got, err)
			}
			for _, change := range []func() error{func() error { return b.put("a", second) }, func() error { return b.put("a", second[:2]) }, func() error { return b.remove("a") }} {
				if err := change(); err != nil {
					t.Fatal(err)
				}
				got, err := s.readRange(t.Context(), place, 0, 5)
				if c.got == "" {
					wantError(t, err, gantry.NotFound, gantry.CodeSourceGone)
				} else if err != nil || string(got) != c.got {
					t.Errorf("read %q, %v", got, err)
				}
				if c.got == "other" {
					break
				}
			}
		})
	}
}

// unbound takes the conditions from requests before they are signed, as a server that knows none would.
type unbound struct{ gantry.Egress }

func (u unbound) Transport() http.RoundTripper { return unboundTrip{u.Egress.Transport()} }

type unboundTrip struct{ http.RoundTripper }

func (u unboundTrip) RoundTrip(req *http.Request) (*http.Response, error) {
	req.Header.Del("If-Match")
	return u.RoundTripper.RoundTrip(req)
}

// A range that is cut short goes on where it was, and ends where it should.
func TestRangesGoOn(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	body := bytes.Repeat([]byte("0123456789"), 50_000)
	o := b.announced("a", body)
	read := func(n int, at int64) ([]byte, error) {
		s := b.over("never", &faults{after: cutting(n, at)})
		place, err := s.Locate(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return s.readRange(t.Context(), place, 1234, 400_000)
	}
	for n := range maxResumes + 1 {
		if got, err := read(n, 1000); err != nil || !bytes.Equal(got, body[1234:401_234]) {
			t.Errorf("cut %d times: %d bytes, %v", n, len(got), err)
		}
	}
	_, err := read(maxResumes+1, 1000)
	wantError(t, err, gantry.Transient, "short_body")
	_, err = read(1, 0)
	wantError(t, err, gantry.Transient, "short_body")
}

// Places that are none, and answers that are not the range.
func TestHostileRanges(t *testing.T) {
	t.Parallel()
	const place = `{"key":"a","etag":"\"e\""}`
	for name, c := range map[string]struct {
		place string
		n     int64
		begin string
		kind  gantry.Kind
		code  gantry.Code
	}{
		"no JSON":        {"DOE^JANE", 4, "", gantry.Illegal, CodeBadPath},
		"no key":         {`{"etag":"e"}`, 4, "", gantry.Illegal, CodeBadPath},
		"no ETag":        {`{"key":"a"}`, 4, "", gantry.Illegal, CodeBadPath},
		"a long key":     {`{"etag":"e","key":"` + strings.Repeat("k", 2000) + `"}`, 4, "", gantry.Illegal, CodeBadPath},
		"nothing":        {place, 0, "", gantry.Illegal, CodeBadPath},
		"no range":       {place, 4, "", gantry.BadResponse, CodeMalformedAnswer},
		"another range":  {place, 4, "bytes 7-10/20", gantry.BadResponse, CodeMalformedAnswer},
		"a longer range": {place, 4, "bytes 6-99/200", gantry.BadResponse, CodeMalformedAnswer},
		"half a range":   {place, 4, "bytes 6-9", gantry.BadResponse, CodeMalformedAnswer},
	} {
		s := serveSource(t, func(w http.ResponseWriter, r *http.Request) {
			if c.begin != "" {
				w.Header().Set("Content-Range", c.begin)
			}
			w.WriteHeader(http.StatusPartialContent)
			io.WriteString(w, private)
		})
		_, err := s.readRange(t.Context(), c.place, 6, c.n)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		wantError(t, err, c.kind, c.code)
	}
	s := serveSource(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 6-9/20")
		io.WriteString(w, "0123456789")
	})
	if got, err := s.readRange(t.Context(), place, 6, 4); string(got) != "0123" || err != nil {
		t.Errorf("of a longer body came %q, %v", got, err)
	}
}
