package http

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/models"
)

var signing = auth.NewSecret("whsec_test")

// reference serves the reference services and counts their requests by method.
func reference(t *testing.T) (url string, posts *atomic.Int32) {
	t.Helper()
	h := models.Handler(models.Options{Secret: signing})
	posts = new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.Close()
		h.(io.Closer).Close()
	})
	return server.URL, posts
}

// openReference makes a processor of the mirror, in one of the ways in which the service answers later.
func openReference(t *testing.T, url, style, query string, change func(*AsyncConfig)) *processor {
	t.Helper()
	c := patient(change)
	if style == "json" {
		c.Async.Status, c.Async.Result = "/status", "/result"
	}
	c.URL = url + "/async/v1/identity?style=" + style + "&" + query
	return openAt(t, c)
}

// until polls until a job is no more at work.
func until(t *testing.T, p *processor, ticket gantry.Ticket) error {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if x, err := p.Poll(t.Context(), ticket); err != nil || x.Ready {
			return err
		}
	}
	t.Fatal("it does not end")
	return nil
}

// The reference service answers later in each of its styles, and the driver takes each.
func TestReferenceService(t *testing.T) {
	t.Parallel()
	url, posts := reference(t)
	for i, style := range []string{"plain", "json", "redirect"} {
		p := openReference(t, url, style, "after=50ms", nil)
		var out []output
		req := request(&out, "PNG of a patient")
		ticket, err := p.Submit(t.Context(), req, "")
		if err != nil || !strings.HasPrefix(ticket.ID, "/async/jobs/") || int(posts.Load()) != i+1 {
			t.Fatalf("%s: %+v, %v, %d requests", style, ticket, err, posts.Load())
		}
		if err := until(t, p, ticket); err != nil {
			t.Errorf("%s: %v", style, err)
		}
		for range 2 { // a fetch may come again
			if err := p.Collect(t.Context(), ticket, req); err != nil {
				t.Errorf("%s: %v", style, err)
			}
		}
		if len(out) != 2 || out[0].Body != "PNG of a patient" || out[0].Media != gantry.MediaDICOM {
			t.Errorf("%s: %v", style, out)
		}
		if err := p.Abandon(t.Context(), ticket); err != nil {
			t.Errorf("%s: %v", style, err)
		}
		_, err = p.Poll(t.Context(), ticket)
		wantError(t, style, err, gantry.NotFound, gantry.CodeJobLost)
	}
}

// What becomes of jobs that bring nothing.
func TestReferenceFaults(t *testing.T) {
	t.Parallel()
	url, _ := reference(t)
	for _, c := range []struct {
		style, query string
		kind         gantry.Kind
		code         gantry.Code
	}{
		{"plain", "fault=lost", gantry.NotFound, gantry.CodeJobLost},
		{"plain", "fault=fail", gantry.Permanent, gantry.CodeJobFailed}, // 422: it speaks of the request that it was given
		{"json", "fault=fail", gantry.Permanent, gantry.CodeJobFailed},
		{"json", "fault=lost", gantry.NotFound, gantry.CodeJobLost},
	} {
		p := openReference(t, url, c.style, c.query, nil)
		ticket, err := p.Submit(t.Context(), request(nil, "x"), "")
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, c.style+" "+c.query, until(t, p, ticket), c.kind, c.code)
	}
	p := openReference(t, url, "plain", "fault=never&retry_after=9", nil)
	ticket, err := p.Submit(t.Context(), request(nil, "x"), "")
	if x, perr := p.Poll(t.Context(), ticket); err != nil || perr != nil || ticket.After != 9*time.Second || x != (gantry.Progress{After: 9 * time.Second}) {
		t.Errorf("%+v, %+v, %v, %v", ticket, x, err, perr)
	}
	wantError(t, "a fetch too early", p.Collect(t.Context(), ticket, request(nil)), gantry.Transient, CodeNotReady)
}

// desk takes callbacks as the engine does: what is signed right counts, the first answer wins.
type desk struct {
	mu       sync.Mutex
	verdicts []api.CallbackVerdict
	answer   *gantry.Callback
	beats    int
}

func (d *desk) Callback(_ context.Context, _ string, h http.Header, status gantry.CallbackStatus, body io.Reader) (api.CallbackVerdict, error) {
	v := auth.NewCallbackVerifier(signing, h.Get(auth.SignatureHeader), time.Now())
	b, err := io.ReadAll(io.TeeReader(body, v))
	if err != nil {
		return api.CallbackUnknown, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	verdict := api.CallbackAccepted
	switch {
	case v.Check() != nil:
		verdict = api.CallbackForged
	case status == gantry.CallbackRunning:
		d.beats++
	case d.answer != nil:
		verdict = api.CallbackDuplicate
	default:
		d.answer = &gantry.Callback{Header: h, Status: status, Body: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(b)), nil
		}}
	}
	d.verdicts = append(d.verdicts, verdict)
	return verdict, nil
}

// came waits for so many verdicts.
func (d *desk) came(t *testing.T, n int) []api.CallbackVerdict {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		d.mu.Lock()
		got := append([]api.CallbackVerdict(nil), d.verdicts...)
		d.mu.Unlock()
		if len(got) >= n {
			return got
		}
	}
	t.Fatalf("%d callbacks do not come", n)
	return nil
}

// From the request to the signed callback and the output: the reference service, the route and the driver.
func TestReferenceCallbacks(t *testing.T) {
	t.Parallel()
	url, posts := reference(t)
	calls := func(a *AsyncConfig) { a.Poll, a.Callback, a.Secret = 0, "hmac", "${env:S}" }
	for i, c := range []struct {
		query string
		want  []api.CallbackVerdict
	}{
		{"after=20ms", []api.CallbackVerdict{api.CallbackAccepted}},
		{"fault=early", []api.CallbackVerdict{api.CallbackAccepted}},
		{"fault=twice", []api.CallbackVerdict{api.CallbackAccepted, api.CallbackDuplicate}},
		{"fault=forged", []api.CallbackVerdict{api.CallbackForged, api.CallbackAccepted}},
	} {
		d := &desk{}
		gantryd := httptest.NewServer(api.TakeCallbacks(http.NotFoundHandler(), d))
		p := openReference(t, url, "plain", c.query, calls)
		var out []output
		req := request(&out, "PNG of a patient")
		ticket, err := p.Submit(t.Context(), req, gantryd.URL+"/callbacks/0123456789abcdef")
		if err != nil || ticket.ID == "" || int(posts.Load()) != i+1 {
			t.Fatalf("%s: %+v, %v", c.query, ticket, err)
		}
		if c.query == "fault=early" && len(d.came(t, 1)) != 1 {
			t.Error("the callback did not come before the ticket")
		}
		got := d.came(t, len(c.want))
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: %v, want %v", c.query, got, c.want)
				break
			}
		}
		if err := p.Unpack(t.Context(), *d.answer, req); err != nil || len(out) != 1 || out[0].Body != "PNG of a patient" || out[0].Media != gantry.MediaDICOM {
			t.Errorf("%s: %v, %v", c.query, err, out)
		}
		gantryd.Close()
	}
	d := &desk{}
	gantryd := httptest.NewServer(api.TakeCallbacks(http.NotFoundHandler(), d))
	defer gantryd.Close()
	p := openReference(t, url, "plain", "fault=fail", calls)
	if _, err := p.Submit(t.Context(), request(nil, "x"), gantryd.URL+"/callbacks/0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	d.came(t, 1)
	wantError(t, "fail", p.Unpack(t.Context(), *d.answer, request(nil)), gantry.Permanent, gantry.CodeJobFailed)
}
