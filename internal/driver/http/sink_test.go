package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// store is a web server that keeps each file that came whole, and never in the place of another.
type store struct {
	known int // the status for what is there already
	mu    sync.Mutex
	files map[string][]byte
}

// ServeHTTP takes a PUT below /in/ or a POST to it.
func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // not a whole request
	}
	name := strings.TrimPrefix(r.URL.Path, "/in/")
	if r.Method == http.MethodPost {
		name, _ = url.PathUnescape(r.Header.Get(pathHeader))
	} else if r.Header.Get("If-None-Match") != "*" {
		w.WriteHeader(http.StatusPreconditionRequired)
		return
	}
	sha := gantry.Digest(sha256.Sum256(body))
	if r.Header.Get("Content-Digest") != digest(sha) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := path.Dir(name); p != "."; p = path.Dir(p) {
		if _, taken := s.files[p]; taken {
			w.WriteHeader(http.StatusConflict)
			return
		}
	}
	was, there := s.files[name]
	if !there {
		s.files[name] = body
		w.WriteHeader(http.StatusCreated)
		return
	}
	if s.known == http.StatusOK && bytes.Equal(was, body) {
		w.WriteHeader(http.StatusOK)
		return
	}
	if s.known != http.StatusOK {
		w.Header().Set("Repr-Digest", "sha-512=:eA==:, "+digest(sha256.Sum256(was)))
		w.WriteHeader(s.known)
		return
	}
	w.WriteHeader(http.StatusConflict)
}

func (s *store) list() (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.files), nil
}

func openSink(t *testing.T, c SinkConfig, h http.Handler) *sink {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c.URL = server.URL + c.URL
	s, err := NewSink(t.Context(), c, drivertest.Egress(t))
	if err != nil {
		t.Fatal(err)
	}
	return s.(*sink)
}

// Both methods do what every sink must do, whatever the server says of what it has already.
func TestSink(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method string
		known  int
	}{
		"put 412": {"put", 412}, "put 409": {"put", 409}, "put 200": {"", 200}, "post 409": {"post", 409}, "post 200": {"post", 200},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Sink(t, func(t *testing.T) drivertest.Shelf {
				s := &store{known: c.known, files: map[string][]byte{}}
				return drivertest.Shelf{Sink: openSink(t, SinkConfig{URL: "/in/", Method: c.method}, s), List: s.list}
			})
		})
	}
}

func delivery(name, body string) gantry.Delivery {
	return gantry.Delivery{
		Path: name, Media: gantry.MediaPNG, Size: int64(len(body)), SHA: sha256.Sum256([]byte(body)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil },
	}
}

func TestSinkRequests(t *testing.T) {
	t.Parallel()
	const sum = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:" // of "hello"
	want := http.Header{
		"Accept-Encoding": {"identity"}, "User-Agent": {"gantry"}, "X-Site": {"north"}, "Content-Type": {gantry.MediaPNG},
		"Content-Length": {"5"}, "Idempotency-Key": {"task/a%20b%3F%25.png"}, "X-Gantry-Path": {"task/a%20b%3F%25.png"}, "Content-Digest": {sum},
	}
	for method, line := range map[string]string{
		"put": "PUT /base/in/task/a%20b%3F%25.png?k=1", "post": "POST /base/in?k=1",
	} {
		var got seen
		s := openSink(t, SinkConfig{URL: "/base/in?k=1", Method: method, Headers: map[string]string{"x-site": "north"}}, capture(&got))
		if err := s.Deliver(t.Context(), delivery("task/a b?%.png", "hello")); err != nil {
			t.Fatal(err)
		}
		if got.query != line || string(got.body) != "hello" {
			t.Errorf("%s with %q, want %s", got.query, got.body, line)
		}
		header := want.Clone()
		if method == "put" {
			header.Set("If-None-Match", "*")
		}
		if diff := cmp.Diff(header, got.header); diff != "" {
			t.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
}

// A file whose size and digest nobody knows is sent as it comes.
func TestSinkOfUnknownSize(t *testing.T) {
	t.Parallel()
	var got seen
	out := delivery("a", "hello")
	out.Size, out.SHA, out.Media = -1, gantry.Digest{}, ""
	if err := openSink(t, SinkConfig{}, capture(&got)).Deliver(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	if got.size != -1 || string(got.body) != "hello" || got.header.Get("Content-Digest") != "" || got.header.Get("Content-Type") != mediaOctets {
		t.Errorf("%+v", got)
	}
}

func TestSinkStatuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]struct {
		kind gantry.Kind
		code gantry.Code
	}{
		409: {gantry.Permanent, gantry.CodeConflict}, 412: {gantry.Permanent, gantry.CodeConflict}, 413: {gantry.Permanent, "http_413"},
		401: {gantry.Denied, "http_401"}, 404: {gantry.NotFound, "http_404"}, 429: {gantry.Unavailable, "http_429"},
		503: {gantry.Unavailable, "http_503"}, 500: {gantry.Transient, "http_500"}, 308: {gantry.BadResponse, CodeRedirect},
	} {
		s := openSink(t, SinkConfig{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Content-Digest", digest(sha256.Sum256([]byte("other"))))
			w.WriteHeader(status)
			io.WriteString(w, secret)
		}))
		err := s.Deliver(t.Context(), delivery("a", "hello"))
		if err == nil || gantry.KindOf(err) != want.kind || gantry.CodeOf(err) != want.code || strings.Contains(err.Error(), secret) {
			t.Errorf("%d: %v (%s, %s)", status, err, gantry.KindOf(err), gantry.CodeOf(err))
		}
		if got := gantry.RetryAfterOf(err); (got == 7*time.Second) != (want.kind == gantry.Unavailable) {
			t.Errorf("%d: Retry-After %s", status, got)
		}
	}
	for _, status := range []int{200, 201, 202, 204} {
		s := openSink(t, SinkConfig{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(status)
		}))
		if err := s.Deliver(t.Context(), delivery("a", "hello")); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// A success before the file was sent is none: nobody can have kept it.
func TestSinkAnsweredEarly(t *testing.T) {
	t.Parallel()
	s := openSink(t, SinkConfig{}, http.NotFoundHandler())
	s.rt = roundTrip(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	})
	if err := s.Deliver(t.Context(), delivery("a", "hello")); gantry.CodeOf(err) != CodeAnsweredEarly || gantry.KindOf(err) != gantry.BadResponse {
		t.Errorf("%v", err)
	}
}

func TestSinkOfManifests(t *testing.T) {
	t.Parallel()
	s := &store{files: map[string][]byte{}}
	to := openSink(t, SinkConfig{URL: "/in", ManifestOnly: true}, s)
	last := delivery("task/manifest.json", "{}")
	last.Manifest = true
	for _, out := range []gantry.Delivery{delivery("task/1.png", "x"), last} {
		if err := to.Deliver(t.Context(), out); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string][]byte{"task/manifest.json": []byte("{}")}, s.files); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestSinkConfig(t *testing.T) {
	t.Parallel()
	const url = "http://hooks.test/in"
	for _, c := range []SinkConfig{{URL: url}, {URL: url + "?x=1", Method: "post", ManifestOnly: true, Headers: map[string]string{"X-Site": "n"}}} {
		if found := c.Check(); len(found) != 0 || c.Target().Key() != "http://hooks.test" {
			t.Errorf("%+v: %v, %s", c, found, c.Target().Key())
		}
	}
	for _, c := range []struct {
		config SinkConfig
		key    string
	}{
		{SinkConfig{}, "url"}, {SinkConfig{URL: "http://me:s3cr3t@hooks.test"}, "url"}, {SinkConfig{URL: url, Method: "patch"}, "method"},
		{SinkConfig{URL: url, Headers: map[string]string{"x-gantry-path": "s3cr3t"}}, "headers"},
		{SinkConfig{URL: url, Headers: map[string]string{"If-None-Match": "s3cr3t"}}, "headers"},
		{SinkConfig{URL: url, Headers: map[string]string{"Authorization": "s3cr3t"}}, "headers"},
		{SinkConfig{URL: url, Headers: map[string]string{"Content-Digest": "s3cr3t"}}, "headers"},
	} {
		found := c.config.Check()
		if len(found) != 1 || found[0].Key != c.key || strings.Contains(found[0].Text, "s3cr3t") {
			t.Errorf("%+v: %v", c.config, found)
		}
		if s, err := NewSink(t.Context(), c.config, drivertest.Egress(t)); s != nil || gantry.CodeOf(err) != CodeBadConfig {
			t.Errorf("%+v: %v, %v", c.config, s, err)
		}
	}
}
