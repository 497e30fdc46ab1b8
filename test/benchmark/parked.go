package main

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

const (
	parkedSecret = "a secret of the benchmark"
	parkedRest   = 20 * time.Second // of a measurement
	parkedAside  = 16               // uploads, and callbacks, side by side
)

const parkedPipeline = `gantry: v1
name: parked
sources:
  upload: {kind: http}
stages:
  - {name: later, each: part, call: later}
processors:
  later: {kind: http, url: "http://%s/later", timeout: 60s, limits: {concurrency: 100000}, async: {callback: hmac, secret: "${env:PARKED_SECRET}", deadline: 2h}}
sinks:
  results: {kind: dir, path: "%s"}
`

// callBacks is a service that takes every request for later and calls none of its jobs by a name: all that it keeps is
// where to answer.
type callBacks struct {
	mu sync.Mutex
	to []string
}

// ServeHTTP takes one request.
func (c *callBacks) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	c.mu.Lock()
	c.to = append(c.to, r.Header.Get("Callback-Url"))
	c.mu.Unlock()
	w.WriteHeader(http.StatusAccepted)
}

// answer sends an answer for each request so far.
func (c *callBacks) answer(ctx context.Context) error {
	c.mu.Lock()
	list := c.to
	c.to = nil
	c.mu.Unlock()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parkedAside}}
	defer client.CloseIdleConnections()
	body := []byte(`{"score":0.5}`)
	return sideBySide(ctx, len(list), func(ctx context.Context, i int) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, list[i], bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(auth.SignatureHeader, auth.SignCallback(time.Now(), body, auth.NewSecret(parkedSecret)))
		return post(client, req, http.StatusOK)
	})
}

func sideBySide(ctx context.Context, n int, do func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parkedAside)
	for i := range n {
		g.Go(func() error { return do(ctx, i) })
	}
	return g.Wait()
}

func post(client *http.Client, req *http.Request, want int) error {
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: status %d", req.Method, req.URL.Host, resp.StatusCode)
	}
	return nil
}

// measureParked has tickets outstanding that nothing but a callback ends, of as many tasks and then of one, and looks
// what a process needs while none comes. Then the callbacks are sent.
func measureParked(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	var seen [2]parkedLoad
	for i, shape := range []string{"tasks", "parts"} {
		var err error
		if seen[i], err = b.park(ctx, s, "parked_"+shape, i == 1); err != nil {
			return fmt.Errorf("%s: %w", shape, err)
		}
	}
	tasks, parts := seen[0], seen[1]
	const note = "%d tickets for callbacks alone over %s, Postgres apart; of one task each %s; of one task %s"
	r.add("parked_10k_mb", max(tasks.mb, parts.mb), "MB", atMost(100), note, s.parked, parkedRest,
		fmt.Sprintf("%.1f MB, submitted in %.0f s", tasks.mb, tasks.submitted.Seconds()), fmt.Sprintf("%.1f MB, submitted in %.0f s", parts.mb, parts.submitted.Seconds()))
	r.add("parked_cpu_pct", max(tasks.cpu, parts.cpu), "%", atMost(1), note, s.parked, parkedRest, tasks.rest(), parts.rest())
	return nil
}

// parkedLoad is what was seen of parked tickets.
type parkedLoad struct {
	submitted   time.Duration // from the first upload until all are parked
	mb          float64
	cpu, server float64       // percent of a core
	sent, ended time.Duration // from the first callback until the last was taken, and until all tasks have ended
}

func (l parkedLoad) rest() string {
	return fmt.Sprintf("%.2f %% of a core and %.2f %% in Postgres, callbacks taken in %.1f s, all ended after %.1f s", l.cpu, l.server, l.sent.Seconds(), l.ended.Seconds())
}

// park measures one shape on a database of its own.
func (b *bed) park(ctx context.Context, s settings, name string, one bool) (l parkedLoad, err error) {
	if _, err := b.admin.Exec(ctx, `create database `+name); err != nil {
		return l, err
	}
	if _, err := postgres.Migrate(ctx, b.dsn(name)); err != nil {
		return l, err
	}
	db, err := pgx.Connect(ctx, b.dsn(name))
	if err != nil {
		return l, err
	}
	defer db.Close(ctx)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return l, err
	}
	service := &callBacks{}
	server := &http.Server{Handler: service}
	go server.Serve(listener)
	defer server.Close()
	product, err := b.serve(ctx, s.binary, name, fmt.Sprintf(parkedPipeline, listener.Addr(), b.outOf(name)), "PARKED_SECRET="+parkedSecret)
	if err != nil {
		return l, err
	}
	defer product.stop()
	begun := time.Now()
	if err := uploadToPark(ctx, product.address, s.parked, one); err != nil {
		return l, err
	}
	if err := waitFor(ctx, db, fmt.Sprintf(`select (select count(*) from gantry.part where status = 1) = %d and not exists (select from gantry.task_hot where phase = 1)`, s.parked)); err != nil {
		return l, err
	}
	l.submitted = time.Since(begun)
	if err := b.rest(ctx, product.pid, &l); err != nil {
		return l, err
	}
	begun = time.Now()
	if err := service.answer(ctx); err != nil {
		return l, err
	}
	l.sent = time.Since(begun)
	err = waitFor(ctx, db, `select not exists (select from gantry.task where final_state is null)`)
	l.ended = time.Since(begun)
	return l, err
}

// rest looks at a process that has nothing to do.
func (b *bed) rest(ctx context.Context, pid int, l *parkedLoad) error {
	pause(ctx, 2*time.Second)
	_, own, _, err := procStat(pid)
	if err != nil {
		return err
	}
	server, begun := serverTime(b.postmaster), time.Now()
	pause(ctx, parkedRest)
	_, after, _, err := procStat(pid)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	l.cpu, l.server = percent(after-own, took), percent(serverTime(b.postmaster)-server, took)
	l.mb, err = memoryMB(pid, "VmRSS")
	return err
}

func percent(d, of time.Duration) float64 { return 100 * d.Seconds() / of.Seconds() }

// uploadToPark uploads n pictures, each on its own or all as one archive.
func uploadToPark(ctx context.Context, address string, n int, one bool) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: parkedAside}}
	defer client.CloseIdleConnections()
	send := func(ctx context.Context, key string, body []byte) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/api/v1/pipelines/parked/tasks", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Idempotency-Key", key)
		return post(client, req, http.StatusCreated)
	}
	if !one {
		return sideBySide(ctx, n, func(ctx context.Context, i int) error {
			p, err := tinyPicture(i)
			if err != nil {
				return err
			}
			return send(ctx, fmt.Sprint(i), p)
		})
	}
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := range n {
		p, err := tinyPicture(i)
		if err != nil {
			return err
		}
		w, err := z.CreateHeader(&zip.FileHeader{Name: fmt.Sprintf("%05d.png", i), Method: zip.Store})
		if err != nil {
			return err
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return send(ctx, "all", b.Bytes())
}

// tinyPicture is one that differs from those of other numbers.
func tinyPicture(n int) ([]byte, error) {
	p := image.NewGray(image.Rect(0, 0, 16, 16))
	for i := range p.Pix {
		p.Pix[i] = byte(i * (n%251 + 1))
	}
	p.Pix[0], p.Pix[1] = byte(n), byte(n>>8)
	var b bytes.Buffer
	err := png.Encode(&b, p)
	return b.Bytes(), err
}
