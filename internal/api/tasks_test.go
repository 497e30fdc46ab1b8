package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// counter is a desk that reads what comes and keeps nothing but its description. What it does with a real
// database is tested where both meet, in package app.
type counter struct {
	got    Upload
	size   int64
	err    error // of every method
	states []string

	mu    sync.Mutex
	looks int
}

func (c *counter) Upload(_ context.Context, u Upload) (string, error) {
	n, err := io.Copy(io.Discard, u.Body)
	c.got, c.size, c.got.Body = u, n, nil
	return "id", errors.Join(c.err, err)
}

func (c *counter) Task(context.Context, string) (Task, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	return Task{ID: "id", State: c.states[min(c.looks, len(c.states))-1]}, c.err
}

func (c *counter) Results(context.Context, string) (Results, error) { return c, c.err }
func (c *counter) Why(context.Context, string) (Why, error) {
	return Why{Task: "id", State: "queued", Causes: []Cause{{Code: "next", Text: "It is next."}}}, c.err
}
func (c *counter) Manifest() []byte { return []byte(`{"outputs": []}`) }
func (c *counter) Close()           {}

// Open gives an output that breaks off if it is asked for so.
func (c *counter) Open(_ context.Context, path string) (Output, error) {
	o := Output{Media: gantry.MediaPNG, Size: 3, SHA: sha256.Sum256([]byte("PNG")), Body: io.NopCloser(strings.NewReader("PNG"))}
	if path == "broken/1.png" {
		o.Size = 4
	}
	return o, nil
}

// served starts the API of a desk.
func served(t *testing.T, d Desk) (*tasks, string) {
	t.Helper()
	api := newTasks(d)
	api.pause = time.Millisecond
	s := httptest.NewServer(api.handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	t.Cleanup(s.Close)
	return api, s.URL
}

// send makes a request of a header given by names and values in turns.
func send(t *testing.T, method, url string, body io.Reader, header ...string) (*http.Response, problem) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(b))
	var p problem
	json.Unmarshal(b, &p)
	return resp, p
}

const uploads = "/api/v1/pipelines/echo/tasks"

// Every kind of error has its status, and no text of a fault of ours goes out.
func TestErrorsBecomeProblems(t *testing.T) {
	t.Parallel()
	const inner = "password authentication of DOE^JANE at /var/lib"
	for _, c := range []struct {
		err    error
		status int
		retry  string
	}{
		{errors.New(inner), 503, "5"},
		{gantry.Errorf(gantry.Transient, "", inner), 503, "5"},
		{gantry.Errorf(gantry.Timeout, "", inner), 503, "5"},
		{&gantry.Error{Kind: gantry.Unavailable, Code: "no_space", RetryAfter: 1500 * time.Millisecond, Err: errors.New(inner)}, 503, "2"},
		{fmt.Errorf("%w: %s", gantry.ErrNotRecorded, inner), 503, "5"},
		{gantry.Errorf(gantry.BadResponse, "", inner), 500, ""},
		{gantry.Errorf(gantry.Permanent, "corrupt", inner), 500, ""},
		{gantry.Errorf(gantry.NotFound, "no_task", "no task"), 404, ""},
		{gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "too large"), 413, ""},
		{gantry.Errorf(gantry.Illegal, gantry.CodeConflict, "other bytes"), 422, ""},
		{gantry.Errorf(gantry.Illegal, "x", "x"), 400, ""},
		{gantry.Errorf(gantry.Denied, "x", "x"), 403, ""},
	} {
		_, url := served(t, &counter{err: c.err, states: []string{"queued"}})
		for _, path := range []string{"/api/v1/tasks/id", "/api/v1/tasks/id/outputs", "/api/v1/tasks/id/why", "/api/v1/tasks/id/outputs/a/1.png"} {
			resp, p := send(t, "GET", url+path, nil)
			if resp.StatusCode != c.status || resp.Header.Get("Retry-After") != c.retry || strings.Contains(p.Detail, "DOE") || p.Kind != gantry.KindOf(c.err).String() {
				t.Errorf("%v at %s: %d, Retry-After %q, %+v", c.err, path, resp.StatusCode, resp.Header.Get("Retry-After"), p)
			}
		}
	}
}

func TestWaiting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		query    string
		states   []string
		looks    int
		manifest bool
		state    string
	}{
		{"", []string{"queued"}, 1, false, "queued"},
		{"", []string{"done"}, 1, false, "done"},
		{"?wait=0s", []string{"inferring"}, 1, false, "inferring"},
		{"?wait=20s", []string{"queued", "inferring", "done"}, 3, true, "done"},
		{"?wait=20s", []string{"queued", "failed"}, 2, false, "failed"},
		{"?wait=20s", []string{"cancelled"}, 1, false, "cancelled"},
		{"?wait=10ms", []string{"queued"}, 0, false, "queued"},
	} {
		d := &counter{states: c.states}
		_, url := served(t, d)
		resp, _ := send(t, "GET", url+"/api/v1/tasks/id"+c.query, nil)
		var x Task
		if err := json.NewDecoder(resp.Body).Decode(&x); err != nil || resp.StatusCode != 200 || x.State != c.state || (x.Manifest != nil) != c.manifest || c.looks > 0 && d.looks != c.looks {
			t.Errorf("%s of %v: %d, %+v after %d looks, %v", c.query, c.states, resp.StatusCode, x, d.looks, err)
		}
	}
}

// A task that cannot be looked at any more after it was taken is taken all the same.
func TestUploadIsAnsweredWhenItIsDurable(t *testing.T) {
	t.Parallel()
	_, url := served(t, blind{&counter{}})
	resp, _ := send(t, "POST", url+uploads, strings.NewReader("x"))
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 201 || string(b) != `{"id":"id","state":"queued"}`+"\n" {
		t.Errorf("%d, %s", resp.StatusCode, b)
	}
}

// blind is a desk that takes uploads and can say nothing about tasks.
type blind struct{ *counter }

func (blind) Task(context.Context, string) (Task, error) {
	return Task{}, errors.New("connection refused")
}

func TestOutput(t *testing.T) {
	t.Parallel()
	_, url := served(t, &counter{})
	resp, _ := send(t, "GET", url+"/api/v1/tasks/id/outputs/a/1.png", nil)
	b, _ := io.ReadAll(resp.Body)
	h := resp.Header
	if string(b) != "PNG" || h.Get("Content-Type") != "image/png" || h.Get("Content-Length") != "3" || h.Get("Cache-Control") != "no-store" ||
		h.Get("Content-Disposition") != "attachment" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%q, %v", b, h)
	}
	broken, err := http.Get(url + "/api/v1/tasks/id/outputs/broken/1.png")
	if err == nil {
		_, err = io.ReadAll(broken.Body)
		broken.Body.Close()
	}
	if err == nil {
		t.Error("an output that breaks off was taken for whole")
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	_, url := served(t, &counter{states: []string{"queued"}})
	for path, want := range map[string]string{
		"GET /healthz": "418", "POST /hooks/x": "418", "GET /api/openapi.json": "200", "GET /api/v1/tasks/id": "200", "HEAD /api/v1/tasks/id": "200", "GET /api/v1/tasks/id/why": "200", "GET /api/v1/none": "404 no_route",
		"GET /api/v1/tasks/": "404 no_route", "DELETE /api/v1/tasks/id": "404 no_route", "GET " + uploads: "404 no_route", "PUT " + uploads: "404 no_route",
	} {
		method, path, _ := strings.Cut(path, " ")
		resp, p := send(t, method, url+path, nil)
		if got := strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", p.Code)); got != want {
			t.Errorf("%s %s: %s, want %s", method, path, got, want)
		}
	}
}
