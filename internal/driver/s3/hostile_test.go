package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/driver/s3/s3test"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// private stands in every key and hostile answer. No error may repeat it.
const private = "DOE^JANE"

// faults stands between the driver and a real server and does wrong.
type faults struct {
	http.RoundTripper
	// before answers in the server's place, or gives nil to let a request pass.
	before func(*http.Request) *http.Response
	// after changes an answer.
	after func(*http.Response)
}

// RoundTrip does wrong or sends.
func (f *faults) RoundTrip(req *http.Request) (*http.Response, error) {
	if f.before != nil {
		if resp := f.before(req); resp != nil {
			if req.Body != nil {
				io.Copy(io.Discard, req.Body)
				req.Body.Close()
			}
			return resp, nil
		}
	}
	resp, err := f.RoundTripper.RoundTrip(req)
	if err == nil && f.after != nil {
		f.after(resp)
	}
	return resp, err
}

// refusal is an error as S3 says it.
func refusal(req *http.Request, status int, code string) *http.Response {
	body := fmt.Sprintf("<Error><Code>%s</Code><Message>%s</Message><Key>%s</Key></Error>", code, private, private)
	return &http.Response{StatusCode: status, Status: strconv.Itoa(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header: http.Header{"Content-Type": {"application/xml"}, "Retry-After": {"7"}}, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
}

// wantError holds an error to its kind and code, and to silence about what others said.
func wantError(t *testing.T, err error, kind gantry.Kind, code gantry.Code) {
	t.Helper()
	if err == nil || gantry.KindOf(err) != kind || gantry.CodeOf(err) != code {
		t.Errorf("got %v (%s, %s), want %s, %s", err, gantry.KindOf(err), gantry.CodeOf(err), kind, code)
	}
	if err != nil && strings.Contains(err.Error(), private) {
		t.Errorf("the error quotes foreign text: %v", err)
	}
}

func delivery(path string, body []byte) gantry.Delivery {
	return gantry.Delivery{Path: path, Media: gantry.MediaDICOM, Size: int64(len(body)), SHA: sha256.Sum256(body),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }}
}

// What a server says becomes a kind and a code, for each operation alike.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		said   string
		kind   gantry.Kind
		code   gantry.Code
	}{
		{500, "InternalError", gantry.Transient, CodeServerError},
		{502, "", gantry.Transient, CodeServerError},
		{503, "SlowDown", gantry.Unavailable, CodeSlowDown},
		{503, "ServiceUnavailable", gantry.Unavailable, CodeSlowDown},
		{429, "TooManyRequests", gantry.Unavailable, CodeSlowDown},
		{507, "", gantry.Unavailable, CodeNoSpace},
		{403, "AccessDenied", gantry.Denied, CodeAccessDenied},
		{403, "SignatureDoesNotMatch", gantry.Denied, CodeAccessDenied},
		{400, "ExpiredToken", gantry.Unavailable, CodeExpired},
		{403, "RequestTimeTooSkewed", gantry.Denied, CodeClockSkew},
		{404, "NoSuchBucket", gantry.NotFound, CodeBucketMissing},
		{501, "NotImplemented", gantry.Permanent, CodeNotImplemented},
		{400, "InvalidRequest", gantry.Permanent, CodeRefused},
		{400, "BadDigest", gantry.Transient, CodeChecksumMismatch},
		{400, "RequestTimeout", gantry.Transient, CodeServerError},
		{413, "EntityTooLarge", gantry.Permanent, gantry.CodeTooLarge},
		{400, "<not xml", gantry.Permanent, CodeRefused},
	} {
		e := signed{&faults{before: func(r *http.Request) *http.Response { return refusal(r, c.status, c.said) }}}
		p := SourceConfig{Bucket: "somewhere", Endpoint: "http://s3.test", PathStyle: true}
		src, err := NewSource(t.Context(), p, e)
		if err != nil {
			t.Fatal(err)
		}
		_, err = src.Open(t.Context(), private+".dcm")
		wantError(t, err, c.kind, c.code)
		if gantry.RetryAfterOf(err) != 7*time.Second {
			t.Errorf("%d: the pause that was asked for is lost: %v", c.status, gantry.RetryAfterOf(err))
		}
		wantError(t, src.Watch(t.Context(), nil), c.kind, c.code)
		snk, err := NewSink(t.Context(), SinkConfig{Bucket: "somewhere", Endpoint: "http://s3.test", PathStyle: true}, e)
		if err != nil {
			t.Fatal(err)
		}
		snk.(*sink).server.learn(wordKept) // so that it does not look first
		wantError(t, snk.Deliver(t.Context(), delivery("t/"+private, []byte("x"))), c.kind, c.code)
	}
}

// What was announced is what is read: not what took its place, and not what is gone.
func TestChangedBetweenListAndOpen(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	for name, change := range map[string]func(key string) error{
		"replaced": func(key string) error { return b.put(key, []byte("other bytes")) },
		"deleted":  b.remove,
	} {
		s := b.source(func(c *SourceConfig) { c.Prefix = name })
		if err := b.put(name, []byte("some bytes")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int32
		err := s.Watch(ctx, func(ctx context.Context, o gantry.Object) error {
			defer cancel()
			if seen.Add(1) > 1 {
				return nil
			}
			if err := change(o.Ref); err != nil {
				t.Error(err)
			}
			_, err := s.Open(ctx, o.Ref)
			wantError(t, err, gantry.NotFound, gantry.CodeSourceGone)
			if name == "replaced" { // the control: not bound to the ETag, other bytes are read
				s.forget(o.Ref)
				r, err := s.Open(ctx, o.Ref)
				if err != nil {
					t.Error(err)
					return err
				}
				defer r.Close()
				if got, _ := io.ReadAll(r); string(got) != "other bytes" {
					t.Errorf("the control read %q", got)
				}
			}
			return err
		})
		cancel()
		if err != nil || seen.Load() == 0 {
			t.Errorf("%s: %v after %d announcements", name, err, seen.Load())
		}
		if len(s.etags) != 0 {
			t.Errorf("%s: %d ETags are kept after their announcements", name, len(s.etags))
		}
	}
}

// cutting makes a server's bodies end early, n times.
func cutting(n int, at int64) func(*http.Response) {
	var cuts atomic.Int32
	return func(resp *http.Response) {
		if resp.Request.Method == http.MethodGet && resp.StatusCode < 300 && cuts.Add(1) <= int32(n) {
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(resp.Body, at), resp.Body}
		}
	}
}

// A reading that is cut short goes on where it was, bound to the same object.
func TestReadingGoesOn(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	body := bytes.Repeat([]byte("0123456789"), 50_000)
	read := func(key string, n int, at int64, between func()) ([]byte, error) {
		if err := b.put(key, body); err != nil {
			t.Fatal(err)
		}
		cut := cutting(n, at)
		s, err := NewSource(t.Context(), SourceConfig{Bucket: b.name, Endpoint: b.server.Endpoint, PathStyle: true},
			sign(t, &faults{RoundTripper: drivertest.Egress(t).Transport(), after: cut}, b.server))
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Open(t.Context(), key)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		between()
		return io.ReadAll(r)
	}
	nothing := func() {}
	for n := range maxResumes + 1 {
		if got, err := read("a.dcm", n, 1000, nothing); err != nil || !bytes.Equal(got, body) {
			t.Errorf("cut %d times: %d bytes, %v", n, len(got), err)
		}
	}
	_, err := read("a.dcm", maxResumes+1, 1000, nothing)
	wantError(t, err, gantry.Transient, "short_body")
	_, err = read("a.dcm", 1, 0, nothing) // no progress
	wantError(t, err, gantry.Transient, "short_body")
	_, err = read("a.dcm", 1, 1000, func() { b.put("a.dcm", bytes.ToUpper(append(body, 'x'))) })
	wantError(t, err, gantry.NotFound, gantry.CodeSourceGone)
}

// serveSource gives a source on a server of our own.
func serveSource(t *testing.T, h http.HandlerFunc) *source {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s, err := NewSource(t.Context(), SourceConfig{Bucket: "bucket", Endpoint: server.URL, PathStyle: true, Poll: time.Millisecond}, drivertest.Egress(t))
	if err != nil {
		t.Fatal(err)
	}
	s.(*source).pause = time.Millisecond
	return s.(*source)
}

func TestHostileListings(t *testing.T) {
	t.Parallel()
	const entry = `<Contents><Key>%s</Key><Size>%s</Size><ETag>"e"</ETag><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`
	page := func(inside string) string {
		return "<ListBucketResult><Name>bucket</Name>" + inside + "</ListBucketResult>"
	}
	for name, c := range map[string]struct {
		answer string
		code   gantry.Code
	}{
		"not xml":          {private, CodeMalformedAnswer},
		"another answer":   {"<Other></Other>", CodeMalformedAnswer},
		"nothing":          {"", CodeMalformedAnswer},
		"cut":              {page("x")[:20], CodeMalformedAnswer},
		"no key":           {page(fmt.Sprintf(entry, "", "1")), CodeMalformedAnswer},
		"a negative size":  {page(fmt.Sprintf(entry, "a", "-1")), CodeMalformedAnswer},
		"a size too large": {page(fmt.Sprintf(entry, "a", "99999999999999999999")), CodeMalformedAnswer},
		"a bad escape":     {page("<EncodingType>url</EncodingType>" + fmt.Sprintf(entry, "%zz", "1")), CodeMalformedAnswer},
		"no token":         {page("<IsTruncated>true</IsTruncated>"), CodeMalformedAnswer},
		"one token":        {page("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"), CodeMalformedAnswer},
		"too much":         {page("<x>" + strings.Repeat(private, maxAnswer/len(private)) + "</x>"), gantry.CodeTooLarge},
	} {
		s := serveSource(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, c.answer) })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		err := s.Watch(ctx, func(context.Context, gantry.Object) error { return nil })
		cancel()
		if gantry.KindOf(err) != gantry.BadResponse || gantry.CodeOf(err) != c.code || strings.Contains(err.Error(), private) {
			t.Errorf("%s: %v (%s)", name, err, gantry.CodeOf(err))
		}
	}
}

// A range that is not the one asked for would put wrong bytes into the middle.
func TestWrongRange(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"bytes 0-9/10", "bytes 50-9/10", ""} {
		s := serveSource(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"e"`)
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", from)
				w.WriteHeader(http.StatusPartialContent)
				io.WriteString(w, "56789")
				return
			}
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "01234")
		})
		r, err := s.Open(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if wantError(t, err, gantry.BadResponse, CodeMalformedAnswer); string(got) != "01234" {
			t.Errorf("read %q", got)
		}
		r.Close()
	}
}

// A put whose answer is lost was kept or was not: the next look tells.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	b := newBucket(t, s3test.Start(t))
	var lose atomic.Int32
	lost := gantry.Errorf(gantry.Transient, gate.CodeConnectionReset, "lost")
	f := &losing{faults: faults{RoundTripper: drivertest.Egress(t).Transport()}, lose: &lose, err: lost}
	s := b.sink(sign(t, f, b.server))
	lose.Store(1)
	if err := s.Deliver(t.Context(), delivery("t/a", []byte("kept"))); err != nil {
		t.Errorf("a put that was kept: %v", err)
	}
	lose.Store(-1) // before it is sent
	if err := s.Deliver(t.Context(), delivery("t/b", []byte("not kept"))); !errors.Is(err, lost) {
		t.Errorf("a put that was not kept: %v", err)
	}
	if got, err := b.list("out/"); err != nil || len(got) != 1 {
		t.Errorf("the bucket holds %d objects, %v", len(got), err)
	}
}

// losing loses the answers of puts.
type losing struct {
	faults
	lose *atomic.Int32
	err  error
}

// RoundTrip sends and loses.
func (l *losing) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPut {
		return l.faults.RoundTrip(req)
	}
	if l.lose.Load() < 0 {
		return nil, l.err
	}
	resp, err := l.faults.RoundTrip(req)
	if err == nil && l.lose.Load() > 0 {
		resp.Body.Close()
		return nil, l.err
	}
	return resp, err
}
