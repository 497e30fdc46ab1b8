package models

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"image"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// call sends one request without a network.
func call(h http.Handler, method, path string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestEnhance(t *testing.T) {
	t.Parallel()
	h := Handler(Options{})
	for name, body := range map[string][]byte{"png": encoded(t, xray()), "dicom": slice(), "colour": encoded(t, colours(50, 40))} {
		w := call(h, "POST", "/v1/enhance", bytes.NewReader(body), "Content-Type", "application/octet-stream")
		if w.Code != 200 || w.Header().Get("Content-Type") != gantry.MediaPNG {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		got := decoded(t, w.Body.Bytes())
		p, err := newService(Options{}).decode(body)
		if err != nil {
			t.Fatal(err)
		}
		if got.Bounds() != image.Rect(0, 0, p.width, p.height) {
			t.Errorf("%s: became %v", name, got.Bounds())
		}
		if _, deep := got.(*image.Gray16); deep != (name == "dicom") {
			t.Errorf("%s: became a %T", name, got)
		}
	}
}

func TestQuality(t *testing.T) {
	t.Parallel()
	h := Handler(Options{})
	for name, body := range map[string][]byte{"png": encoded(t, xray()), "dicom": slice()} {
		w := call(h, "POST", "/v1/quality", bytes.NewReader(body))
		if w.Code != 200 || w.Header().Get("Content-Type") != gantry.MediaJSON {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"score", "sharpness", "contrast", "noise", "width", "height"} {
			if v, ok := got[key].(float64); !ok || v <= 0 {
				t.Errorf("%s: %s is %v", name, key, got[key])
			}
		}
		if m, _ := got["model"].(map[string]any); m["name"] != "gantry-quality" || m["version"] == "" || len(got) != 7 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestRefusalsOverHTTP is the table of what a caller may do wrong, for both services.
func TestRefusalsOverHTTP(t *testing.T) {
	t.Parallel()
	good := encoded(t, xray())
	h := Handler(Options{MaxBody: int64(len(good))})
	type row struct {
		method, path string
		body         io.Reader
		headers      []string
		status       int
		code         gantry.Code
	}
	rows := map[string]row{
		"no such path":   {"POST", "/v2/enhance", nil, nil, 404, "not_found"},
		"health by POST": {"POST", "/healthz", nil, nil, 405, "method_not_allowed"},
	}
	for _, path := range []string{"/v1/enhance", "/v1/quality", "/v1/mask"} {
		for name, r := range map[string]row{
			"GET":            {"GET", path, nil, nil, 405, "method_not_allowed"},
			"empty":          {"POST", path, http.NoBody, nil, 422, gantry.CodeEmpty},
			"text":           {"POST", path, strings.NewReader("hello"), []string{"Content-Type", "image/png"}, 415, gantry.CodeUnsupportedFormat},
			"zip":            {"POST", path, strings.NewReader("PK\x03\x04" + strings.Repeat("x", 500)), nil, 422, gantry.CodeMalformed},
			"jpeg":           {"POST", path, strings.NewReader("\xff\xd8\xff\xe0 JFIF"), nil, 422, gantry.CodeMalformed},
			"gzip":           {"POST", path, bytes.NewReader(good), []string{"Content-Encoding", "gzip"}, 415, gantry.CodeUnsupportedFormat},
			"announced big":  {"POST", path, bytes.NewReader(append(good, 0)), nil, 413, gantry.CodeTooLarge},
			"streamed big":   {"POST", path, io.MultiReader(bytes.NewReader(good), strings.NewReader("x")), nil, 413, gantry.CodeTooLarge},
			"broken off":     {"POST", path, io.MultiReader(bytes.NewReader(good[:99]), brokenReader{}), nil, 400, gantry.CodeTruncated},
			"truncated png":  {"POST", path, bytes.NewReader(good[:len(good)-2000]), nil, 422, gantry.CodeMalformed},
			"65535 squared":  {"POST", path, bytes.NewReader(bare(65535, 65535, 16, 6)), nil, 422, gantry.CodeTooLarge},
			"truncated dicm": {"POST", path, bytes.NewReader(slice()[:9000]), nil, 422, gantry.CodeTruncated},
			"two frames":     {"POST", path, bytes.NewReader(twoFrames(t)), nil, 422, gantry.CodeUnsupportedFormat},
		} {
			rows[path+" "+name] = r
		}
	}
	for name, r := range rows {
		w := call(h, r.method, r.path, r.body, r.headers...)
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
			t.Errorf("%s: %d, no JSON: %q", name, w.Code, w.Body)
			continue
		}
		if w.Code != r.status || p.Status != r.status || p.Code != r.code || p.Title == "" || p.Detail == "" ||
			w.Header().Get("Content-Type") != "application/problem+json" || w.Header().Get("Retry-After") != "" {
			t.Errorf("%s: %d %+v, want %d %s", name, w.Code, p, r.status, r.code)
		}
		if r.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s: no Allow", name)
		}
	}
	if w := call(h, "POST", "/v1/quality", bytes.NewReader(good)); w.Code != 200 {
		t.Errorf("a body of just MaxBody: %d", w.Code)
	}
}

// brokenReader is a connection that broke; its words must not reach the answer.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("peer 10.1.2.3 reset") }

// twoFrames is a sound DICOM file with a Number of Frames of 2.
func twoFrames(t *testing.T) []byte {
	b := written(t, func(m *dicom.Image) { m.Rows, m.Columns = 3, 2 })
	rows := bytes.Index(b, []byte("\x28\x00\x10\x00US"))
	frames := []byte("\x28\x00\x08\x00IS\x02\x002 ")
	b = bytes.Join([][]byte{b[:rows], frames, b[rows:]}, nil)
	at := bytes.Index(b, []byte("\xe0\x7f\x10\x00OW"))
	b[at+8] *= 2
	return append(b, b[len(b)-12:]...)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	w := call(Handler(Options{Fail: 1}), "GET", "/healthz", nil)
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"status":"ok"`) || !strings.Contains(w.Body.String(), "gantry-clahe") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestFailures checks that the same calls fail in every run with a seed, about as many as asked
// for, and how a failure looks.
func TestFailures(t *testing.T) {
	t.Parallel()
	body := encoded(t, image.NewGray(image.Rect(0, 0, 4, 4)))
	run := func(o Options) string {
		h := Handler(o)
		var out strings.Builder
		for range 200 {
			w := call(h, "POST", "/v1/quality", bytes.NewReader(body))
			switch {
			case w.Code == 200:
				out.WriteByte('.')
				continue
			case w.Code == 503 || w.Code == 429:
				if w.Header().Get("Retry-After") != "1" {
					t.Fatalf("%d without Retry-After", w.Code)
				}
			case w.Header().Get("Retry-After") != "":
				t.Fatalf("%d with Retry-After", w.Code)
			}
			if want := o.Status; want != 0 && w.Code != want || !strings.Contains(w.Body.String(), `"code":"simulated"`) {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			out.WriteByte('x')
		}
		return out.String()
	}
	once := run(Options{Fail: 0.3, Seed: 7})
	if again := run(Options{Fail: 0.3, Seed: 7, Status: 429}); again != once {
		t.Errorf("the same seed:\n%s\n%s", once, again)
	}
	if other := run(Options{Fail: 0.3, Seed: 8, Status: 500}); other == once {
		t.Error("another seed fails the same calls")
	}
	if n := strings.Count(once, "x"); n < 40 || n > 80 {
		t.Errorf("%d of 200 failed, about 60 were asked for", n)
	}
	if strings.Contains(run(Options{}), "x") || strings.Contains(run(Options{Fail: 1}), ".") {
		t.Error("none and all are not exact")
	}
	if w := call(Handler(Options{Fail: 1, Status: 200}), "POST", "/v1/quality", bytes.NewReader(body)); w.Code != 503 {
		t.Errorf("a status that is no failure: %d", w.Code)
	}
}

// TestShare checks the draw itself, over many calls and seeds.
func TestShare(t *testing.T) {
	t.Parallel()
	for _, share := range []float64{0.01, 0.5, 0.9} {
		n := 0
		for seed := range uint64(10) {
			for i := range uint64(10_000) {
				if fails(seed, i, share) {
					n++
				}
			}
		}
		if got := float64(n) / 100_000; got < share-0.01 || got > share+0.01 {
			t.Errorf("share %v came to %v", share, got)
		}
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := Handler(Options{Latency: 3 * time.Second})
		start := time.Now()
		if w := call(h, "POST", "/v1/quality", strings.NewReader("no image")); w.Code != 415 || time.Since(start) != 3*time.Second {
			t.Errorf("%d after %v", w.Code, time.Since(start))
		}
		if w := call(h, "GET", "/healthz", nil); w.Code != 200 || time.Since(start) != 3*time.Second {
			t.Errorf("health: %d after %v", w.Code, time.Since(start))
		}
	})
}

// TestCallerLeaves checks that a caller who goes away during the latency ends the call.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := Handler(Options{Latency: time.Hour})
		r := httptest.NewRequest("POST", "/v1/quality", strings.NewReader("x"))
		ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(ctx))
		if time.Since(start) != time.Minute {
			t.Errorf("lasted %v", time.Since(start))
		}
	})
}

// TestConcurrent calls the services from many goroutines; every answer must be the one that a
// lone caller gets, though they share their memory.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	h := Handler(Options{})
	bodies := [][]byte{encoded(t, xray()), slice(), encoded(t, colours(90, 70)), encoded(t, colours(33, 200)), []byte("none")}
	ask := func(i int) string {
		path := []string{"/v1/enhance", "/v1/quality", "/v1/mask"}[i%3]
		return call(h, "POST", path, bytes.NewReader(bodies[i/3])).Body.String()
	}
	want := make([]string, 3*len(bodies))
	for i := range want {
		want[i] = ask(i)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for k := range 2 * len(want) {
				if i := (g + 3*k) % len(want); ask(i) != want[i] {
					t.Errorf("request %d was answered differently", i)
				}
			}
		})
	}
	wg.Wait()
}

// TestUnknownErrors checks that the text of an error that nobody classified stays inside.
func TestUnknownErrors(t *testing.T) {
	t.Parallel()
	p := problemOf(errors.New("secret of the house"))
	if p.Status != 500 || p.Detail != "" || p.Code != "internal" {
		t.Errorf("%+v", p)
	}
	w := httptest.NewRecorder()
	p.write(w)
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestLargeBuffersGo checks that the memory of one large request is not kept for ever.
func TestLargeBuffersGo(t *testing.T) {
	t.Parallel()
	s := newService(Options{})
	s.buffers.New = func() any { return nil }
	large := bytes.NewBuffer(make([]byte, 0, poolLimit+1))
	s.release(large)
	if s.buffers.Get() != nil {
		t.Error("a buffer over the limit was kept")
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in     Options
		status int
		body   int64
	}{
		{Options{}, 503, DefaultMaxBody},
		{Options{Status: 429, MaxBody: 10}, 429, 10},
		{Options{Status: 302, MaxBody: -1}, 503, DefaultMaxBody},
		{Options{Status: 600}, 503, DefaultMaxBody},
	} {
		if s := newService(c.in); s.opt.Status != c.status || s.opt.MaxBody != c.body {
			t.Errorf("%+v became %+v", c.in, s.opt)
		}
	}
}
