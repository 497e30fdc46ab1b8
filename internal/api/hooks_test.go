package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// teller takes notifications and answers as it is told. What it does with a real database is tested where both meet.
type teller struct {
	err    error
	unread bool
	hold   chan struct{} // nil: it answers at once
	source string
	body   string
}

func (x *teller) Hook(_ context.Context, kind, source string, _ http.Header, body io.Reader) error {
	x.source = kind + " " + source
	if x.hold != nil {
		<-x.hold
	}
	if x.unread {
		return x.err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	x.body = string(b)
	return x.err
}

func telling(t *testing.T, x Hooks, set func(*hooks)) string {
	t.Helper()
	h := newHooks(x)
	if set != nil {
		set(h)
	}
	server := httptest.NewServer(h.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })))
	t.Cleanup(server.Close)
	return server.URL
}

func tell(t *testing.T, url string, body io.Reader, headers ...string) (status int, header http.Header, text string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(b)
}

// What a source says is the status that senders understand: whatever may go better later is 503, and no text of it
// leaves.
func TestHookStatuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		err    error
		status int
		code   string
		after  string
	}{
		{"taken", nil, 200, "", ""},
		{"nobody's", gantry.Errorf(gantry.NotFound, CodeNoSource, "no"), 404, "no_source", ""},
		{"a stranger's", gantry.Errorf(gantry.Denied, CodeBadToken, "no"), 401, "bad_token", ""},
		{"nonsense", gantry.Errorf(gantry.Illegal, "not_understood", "no"), 400, "not_understood", ""},
		{"the bucket denies it", gantry.Errorf(gantry.Denied, "access_denied", "JANE"), 503, "access_denied", "5"},
		{"the bucket is gone", gantry.Errorf(gantry.NotFound, "bucket_missing", "JANE"), 503, "bucket_missing", "5"},
		{"it is too young", &gantry.Error{Kind: gantry.Unavailable, Code: "unsettled", RetryAfter: 90 * time.Second, Err: errors.New("JANE")}, 503, "unsettled", "90"},
		{"no database", errors.New("JANE"), 503, "transient", "5"},
		{"a server's fault", gantry.Errorf(gantry.Permanent, "refused", "JANE"), 503, "refused", "5"},
	} {
		x := &teller{err: c.err}
		url := telling(t, x, nil)
		status, header, text := tell(t, url+"/hooks/s3/p.in", strings.NewReader("{}"))
		if status != c.status || c.code != "" && !strings.Contains(text, `"code":"`+c.code+`"`) || header.Get("Retry-After") != c.after || strings.Contains(text, "JANE") ||
			x.body != "{}" || x.source != "s3 p.in" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, %v, %s; got %q for %q", c.name, status, header, text, x.body, x.source)
		}
	}
}

// A source that pipelines share goes by its name alone.
func TestHookOfShared(t *testing.T) {
	t.Parallel()
	x := &teller{}
	if status, _, text := tell(t, telling(t, x, nil)+"/hooks/s3/incoming", strings.NewReader("{}")); status != 200 || x.source != "s3 incoming" {
		t.Errorf("%d %s for %q", status, text, x.source)
	}
}

// What cannot be a notification is refused before anybody is asked, or while it is read.
func TestHookRefusesRequests(t *testing.T) {
	t.Parallel()
	x := &teller{}
	url := telling(t, x, func(h *hooks) { h.limit, h.idle = 100, 100*time.Millisecond })
	for _, c := range []struct {
		name, path string
		body       io.Reader
		header     string
		status     int
	}{
		{"no source", "/hooks/s3/", strings.NewReader("{}"), "", 404},
		{"three names", "/hooks/s3/p.in.x", strings.NewReader("{}"), "", 404},
		{"capitals", "/hooks/s3/P.in", strings.NewReader("{}"), "", 404},
		{"another kind", "/hooks/gcs/p.in", strings.NewReader("{}"), "", 404},
		{"compressed", "/hooks/s3/p.in", strings.NewReader("{}"), "gzip", 415},
		{"long", "/hooks/s3/p.in", strings.NewReader(strings.Repeat("x", 101)), "", 413},
		{"long, of unknown length", "/hooks/s3/p.in", io.MultiReader(strings.NewReader(strings.Repeat("x", 101))), "", 413},
		{"no hook", "/elsewhere", nil, "", 418},
	} {
		if status, _, text := tell(t, url+c.path, c.body, "Content-Encoding", c.header); status != c.status {
			t.Errorf("%s: %d %s", c.name, status, text)
		}
	}
	slow, w := io.Pipe()
	go func() { w.Write([]byte("{")); time.Sleep(time.Second); w.Close() }()
	if status, _, text := tell(t, url+"/hooks/s3/p.in", slow); status != http.StatusRequestTimeout {
		t.Errorf("slow: %d %s", status, text)
	}
	if status, _, _ := tell(t, telling(t, nil, nil)+"/hooks/s3/p.in", strings.NewReader("{}")); status != 404 {
		t.Errorf("with nobody to take any: %d", status)
	}
}

// There is an end to how many are taken at once.
func TestHooksAtOnce(t *testing.T) {
	t.Parallel()
	x := &teller{hold: make(chan struct{}), unread: true}
	url := telling(t, x, func(h *hooks) { h.slots = make(chan struct{}, 1); h.slots <- struct{}{} })
	status, header, text := tell(t, url+"/hooks/s3/p.in", strings.NewReader("{}"))
	if status != 503 || header.Get("Retry-After") == "" || !strings.Contains(text, `"busy"`) {
		t.Errorf("%d %s", status, text)
	}
}
