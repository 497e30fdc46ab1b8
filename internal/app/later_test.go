package app_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/driver/dir"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// laterConfig is that of a driver for services that answer later, as small as one can be.
type laterConfig struct {
	URL       string           `yaml:"url"`
	Poll      time.Duration    `yaml:"poll"`
	Callback  gantry.SecretRef `yaml:"callback"`
	Deadline  time.Duration    `yaml:"deadline"`
	Heartbeat time.Duration    `yaml:"heartbeat"`
}

// Target is where the service is.
func (c laterConfig) Target() gantry.Target {
	u, err := url.Parse(c.URL)
	if err != nil {
		return gantry.Target{}
	}
	return gantry.Target{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port()}
}

// later speaks to a farm.
type later struct {
	conf   laterConfig
	client http.Client
}

// laterDrivers are the kinds that these tests need.
func laterDrivers() *driver.Register {
	r := driver.New()
	driver.Source(r, "dir", dir.NewSource)
	driver.Sink(r, "dir", dir.NewSink)
	driver.Processor(r, "later", func(_ context.Context, c laterConfig, e gantry.Egress) (gantry.Processor, error) {
		return &later{c, http.Client{Transport: e.Transport()}}, nil
	})
	return r
}

func (l *later) Deferral() *gantry.Deferral {
	return &gantry.Deferral{Poll: l.conf.Poll, Callback: l.conf.Callback, Deadline: l.conf.Deadline, Heartbeat: l.conf.Heartbeat}
}

func (l *later) Process(context.Context, *gantry.Request) error {
	return gantry.Errorf(gantry.Illegal, "", "it answers later")
}

// ask makes a request and gives what was answered.
func (l *later) ask(ctx context.Context, method, path string, body io.Reader, set map[string]string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, l.conf.URL+path, body)
	if err != nil {
		return 0, nil, err
	}
	for k, v := range set {
		req.Header.Set(k, v)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*gantry.Error](err); ok {
			return 0, nil, e
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return 0, nil, err
	case resp.StatusCode == 404:
		return 404, b, gantry.Errorf(gantry.Transient, gantry.CodeJobLost, "the service does not know the job")
	case resp.StatusCode == 410:
		return 410, b, gantry.Errorf(gantry.Permanent, gantry.CodeJobFailed, "the job failed")
	case resp.StatusCode >= 500:
		return resp.StatusCode, b, gantry.Errorf(gantry.Transient, "http_500", "the service is ill")
	}
	return resp.StatusCode, b, nil
}

func (l *later) Submit(ctx context.Context, r *gantry.Request, callback string) (gantry.Ticket, error) {
	body, err := r.Open(ctx, 0)
	if err != nil {
		return gantry.Ticket{}, err
	}
	defer body.Close()
	status, b, err := l.ask(ctx, http.MethodPost, "/jobs", body, map[string]string{"Idempotency-Key": r.Key, "Gantry-Callback": callback})
	if err != nil {
		return gantry.Ticket{}, err
	}
	if status == 200 {
		return gantry.Ticket{}, r.Receive(ctx, gantry.MediaJSON, int64(len(b)), bytes.NewReader(b))
	}
	return gantry.Ticket{ID: string(b)}, nil
}

func (l *later) Poll(ctx context.Context, t gantry.Ticket) (gantry.Progress, error) {
	status, _, err := l.ask(ctx, http.MethodGet, "/jobs/"+t.ID, nil, nil)
	return gantry.Progress{Ready: status == 200}, err
}

func (l *later) Collect(ctx context.Context, t gantry.Ticket, r *gantry.Request) error {
	_, b, err := l.ask(ctx, http.MethodGet, "/jobs/"+t.ID+"/result", nil, nil)
	if err != nil {
		return err
	}
	return r.Receive(ctx, gantry.MediaJSON, int64(len(b)), bytes.NewReader(b))
}

func (l *later) Unpack(ctx context.Context, cb gantry.Callback, r *gantry.Request) error {
	if cb.Status == gantry.CallbackFailed {
		return gantry.Errorf(gantry.Permanent, gantry.CodeJobFailed, "the job failed")
	}
	body, err := cb.Body(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	return r.Receive(ctx, cb.Header.Get("Content-Type"), -1, body)
}

func (l *later) Abandon(ctx context.Context, t gantry.Ticket) error {
	_, _, err := l.ask(ctx, http.MethodDelete, "/jobs/"+t.ID, nil, nil)
	return err
}

// hook is the way in for callbacks, to whichever installation is open.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	open []*app.App

	handler func(*app.App) http.Handler // nil: the app alone
}

func newHook(t testing.TB) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.URL.Path, "/callbacks/")
		h.mu.Lock()
		list := slices.Clone(h.open)
		h.mu.Unlock()
		if len(list) == 0 {
			w.WriteHeader(503)
			return
		}
		if h.handler != nil {
			h.handler(list[len(list)-1]).ServeHTTP(w, r)
			return
		}
		v, err := list[len(list)-1].Callback(r.Context(), token, r.Header, gantry.CallbackStatus(r.Header.Get("Gantry-Status")), r.Body)
		if err != nil {
			w.WriteHeader(503)
			io.WriteString(w, err.Error())
			return
		}
		io.WriteString(w, strconv.Itoa(int(v)))
	}))
	t.Cleanup(h.Close)
	return h
}

// let makes an installation the one that callbacks come to; nil: none is.
func (h *hook) let(a *app.App) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = nil
	if a != nil {
		h.open = []*app.App{a}
	}
}

// signed is a signature "t=TIME,v1=HMAC" over TIME.BODY.
type check struct {
	sum  interface{ Sum([]byte) []byte }
	w    io.Writer
	want []byte
}

func (s check) Write(p []byte) (int, error) { return s.w.Write(p) }

func (s check) Verify() error {
	if !hmac.Equal(s.sum.Sum(nil), s.want) {
		return errors.New("forged")
	}
	return nil
}

func signatures(secret string, h http.Header, now time.Time) (app.Signature, error) {
	at, code, ok := strings.Cut(strings.TrimPrefix(h.Get("Gantry-Signature"), "t="), ",v1=")
	sec, err := strconv.ParseInt(at, 10, 64)
	want, herr := hex.DecodeString(code)
	if !ok || err != nil || herr != nil || now.Sub(time.Unix(sec, 0)).Abs() > 5*time.Minute {
		return nil, errors.New("no signature")
	}
	m := hmac.New(sha256.New, []byte(secret))
	io.WriteString(m, at+".")
	return check{m, m, want}, nil
}

// logger writes into the book.
func (l *logBook) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
