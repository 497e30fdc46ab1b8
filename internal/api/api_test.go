package api_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

// TestHandler answers over a socket, says why it is not ready, and ends with its context.
func TestHandler(t *testing.T) {
	l, err := api.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var why error
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "m 1") })
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Handler(func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				return errors.New("without a deadline")
			}
			return why
		}, metrics))
	}()
	base := "http://" + l.Addr().String()
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/metrics": "m 1"} {
		if code, text := get(t, base+path); code != 200 || text != want {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	why = errors.New("draining: the process is asked to stop")
	if code, text := get(t, base+"/readyz"); code != 503 || text != why.Error() {
		t.Errorf("%d %s", code, text)
	}
	if code, _ := get(t, base+"/healthz"); code != 200 {
		t.Errorf("a process that is not ready does not live: %d", code)
	}
	if resp, err := http.Post(base+"/readyz", "", nil); err != nil || resp.StatusCode != 405 {
		t.Errorf("%v %v", resp, err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}

// endless is a desk whose task never ends.
type endless struct{ api.Desk }

func (endless) Task(context.Context, string) (api.Task, error) {
	return api.Task{ID: "id", State: "inferring"}, nil
}

func (endless) Upload(_ context.Context, u api.Upload) (string, error) {
	_, err := io.Copy(io.Discard, u.Body)
	return "id", err
}

// TestWaitersAreAnsweredAtAStop: who waits for a task when the process ends is told how it is, and an
// upload that was taken is acknowledged.
func TestWaitersAreAnsweredAtAStop(t *testing.T) {
	l, err := api.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, api.Tasks(http.NotFoundHandler(), endless{})) }()
	codes := make(chan int, 2)
	ask := func(method, path, body string) {
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, strings.NewReader(body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			codes <- 0
			return
		}
		resp.Body.Close()
		codes <- resp.StatusCode
	}
	go ask("GET", "/api/v1/tasks/id?wait=1m", "")
	go ask("POST", "/api/v1/pipelines/echo/tasks?wait=1m", "x")
	time.Sleep(300 * time.Millisecond)
	cancel()
	for range 2 {
		select {
		case code := <-codes:
			if code != 200 && code != 201 {
				t.Errorf("status %d", code)
			}
		case <-time.After(3 * time.Second):
			t.Fatal("nobody answers")
		}
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestListenOnLoopbackAlone refuses what others could reach.
func TestListenOnLoopbackAlone(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:80", "example.org:80", "x"} {
		if l, err := api.Listen(t.Context(), address); err == nil {
			l.Close()
			t.Errorf("it listens on %s", address)
		}
	}
}
