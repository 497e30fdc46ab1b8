package app_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
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

const farmSecret = "a secret of the farm"

// job is one that a farm was given.
type job struct {
	id, key, callback, sum string
	began                  time.Time
	submits                int
	ready, lost, dropped   bool
}

// farm is a service that answers later, and counts what it is asked.
type farm struct {
	*httptest.Server
	work time.Duration // a job takes; below 0: it never ends

	mu        sync.Mutex
	jobs      map[string]*job // by id
	byKey     map[string]*job
	order     []*job
	most, now int                    // jobs at once
	polls     int                    //
	taken     func(*job)             // runs before the 202 is sent
	verdicts  map[gantry.Verdict]int // that the farm was told
}

func newFarm(t testing.TB, work time.Duration) *farm {
	f := &farm{work: work, jobs: map[string]*job{}, byKey: map[string]*job{}, verdicts: map[gantry.Verdict]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /jobs", f.submit)
	mux.HandleFunc("GET /jobs/{id}", f.poll)
	mux.HandleFunc("GET /jobs/{id}/result", f.result)
	mux.HandleFunc("DELETE /jobs/{id}", f.drop)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *farm) submit(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	key := r.Header.Get("Idempotency-Key")
	f.mu.Lock()
	j := f.byKey[key]
	if j == nil || j.lost || j.dropped {
		j = &job{id: strconv.Itoa(len(f.order) + 1), key: key, sum: digest(b), began: time.Now()}
		f.byKey[key], f.jobs[j.id] = j, j
		f.order = append(f.order, j)
		f.now++
		f.most = max(f.most, f.now)
		if f.work >= 0 {
			time.AfterFunc(f.work, func() { f.finish(j) })
		}
	}
	j.submits++
	j.callback = r.Header.Get("Gantry-Callback")
	taken := f.taken
	f.mu.Unlock()
	if taken != nil {
		taken(j)
	}
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, j.id)
}

// finish ends the work on a job. It counts no longer against what the farm does at once.
func (f *farm) finish(j *job) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !j.ready && !j.dropped {
		j.ready = true
		f.now--
	}
}

func (f *farm) poll(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.polls++
	switch j := f.jobs[r.PathValue("id")]; {
	case j == nil || j.lost:
		w.WriteHeader(404)
	case !j.ready:
		w.WriteHeader(202)
	}
}

func (f *farm) result(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	j := f.jobs[r.PathValue("id")]
	f.mu.Unlock()
	w.Write(j.answer())
}

func (j *job) answer() []byte {
	b, _ := json.Marshal(map[string]any{"sha256": j.sum, "score": 0.5})
	return b
}

func (f *farm) drop(_ http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j := f.jobs[r.PathValue("id")]; j != nil && !j.ready && !j.dropped {
		j.dropped = true
		f.now--
	}
}

// all gives the jobs in the order in which they came.
func (f *farm) all() []job {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []job
	for _, j := range f.order {
		out = append(out, *j)
	}
	return out
}

// call sends a callback for a job, signed with a secret, and gives what the gateway made of it.
func (f *farm) call(callback, secret string, status gantry.CallbackStatus, body []byte) (gantry.Verdict, error) {
	at := strconv.FormatInt(time.Now().Unix(), 10)
	m := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(m, "%s.%s", at, body)
	req, err := http.NewRequest(http.MethodPost, callback, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Gantry-Signature", "t="+at+",v1="+hex.EncodeToString(m.Sum(nil)))
	req.Header.Set("Gantry-Status", string(status))
	req.Header.Set("Content-Type", gantry.MediaJSON)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	v, err := strconv.Atoi(string(b))
	if err != nil {
		return 0, fmt.Errorf("callback: %d %s", resp.StatusCode, b)
	}
	f.mu.Lock()
	f.verdicts[gantry.Verdict(v)]++
	f.mu.Unlock()
	return gantry.Verdict(v), nil
}

// hook is the way in for callbacks, to whichever installation is open.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	open []*app.App
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
