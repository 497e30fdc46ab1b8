package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

const idlePipeline = `gantry: v1
name: idle
sources:
  upload: {kind: http}
stages:
  - {name: nothing, each: part, call: nothing}
processors:
  nothing: {kind: http, url: "http://%s/null", timeout: 60s}
sinks:
  results: {kind: dir, path: "%s"}
`

// clockIn notes when the first byte of each task's first request was there.
type clockIn struct {
	mu    sync.Mutex
	first map[string]time.Time // by the task's public id
}

// ServeHTTP answers nothing.
func (c *clockIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	task, _, _ := strings.Cut(r.Header.Get("Idempotency-Key"), "/")
	c.mu.Lock()
	if c.first[task].IsZero() {
		c.first[task] = at
	}
	c.mu.Unlock()
	io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusNoContent)
}

// measureIdleCall uploads pictures one by one to a process that has nothing to do, and looks how long it
// takes from the row of the task to its first call on the wire.
func measureIdleCall(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	if _, err := b.admin.Exec(ctx, `create database idle_call`); err != nil {
		return err
	}
	if _, err := postgres.Migrate(ctx, b.dsn("idle_call")); err != nil {
		return err
	}
	db, err := pgx.Connect(ctx, b.dsn("idle_call"))
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	clock := &clockIn{first: map[string]time.Time{}}
	service := &http.Server{Handler: clock}
	go service.Serve(l)
	defer service.Close()
	product, err := b.serve(ctx, s.binary, "idle_call", fmt.Sprintf(idlePipeline, l.Addr(), b.outOf("idle_call")))
	if err != nil {
		return err
	}
	defer product.stop()
	commits, err := uploadOneByOne(ctx, db, product.address, s.pings)
	if err != nil {
		return err
	}
	waits, err := clock.waits(ctx, db)
	if err != nil {
		return err
	}
	if len(waits) < s.pings {
		return fmt.Errorf("%d of %d tasks were called for", len(waits), s.pings)
	}
	commit := quantile(commits, 0.5)
	r.add("idle_call_commits", float64(quantile(waits, 0.5))/float64(commit), "commits", atMost(8), "from the task's row, before its commit, to the first byte at the service; p50 %.2f ms, p99 %.2f ms; one-row commit %.2f ms",
		millis(quantile(waits, 0.5)), millis(quantile(waits, 0.99)), millis(commit))
	return nil
}

// served is the product in a process of its own.
type served struct {
	address string
	pid     int
	stop    func()
}

// outOf is the folder for what the product on a database of the bed's server delivers.
func (b *bed) outOf(name string) string { return filepath.Join(b.home, name, "out") }

// serve starts the product on a database of the bed's server, with one pipeline and more environment.
func (b *bed) serve(ctx context.Context, binary, name, pipeline string, env ...string) (*served, error) {
	program, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	home := filepath.Join(b.home, name)
	if err := os.MkdirAll(b.outOf(name), 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(home, "pipeline.yaml")
	if err := os.WriteFile(file, []byte(pipeline), 0o644); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	l.Close()
	c := exec.CommandContext(ctx, program, "--home", home, "--database-url", b.dsn(name), "serve", "--pipelines", file, "--listen", address)
	c.Stderr, c.Env = os.Stderr, append(os.Environ(), env...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	if err := c.Start(); err != nil {
		return nil, err
	}
	stop := func() { c.Process.Signal(syscall.SIGTERM); c.Wait() }
	for range 100 {
		if resp, err := http.Get("http://" + address + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return &served{address, c.Process.Pid, stop}, nil
			}
		}
		pause(ctx, 100*time.Millisecond)
	}
	stop()
	return nil, fmt.Errorf("serve is not ready at %s", address)
}

// uploadOneByOne uploads n pictures and times a one-row commit before each.
func uploadOneByOne(ctx context.Context, db *pgx.Conn, address string, n int) (commits []time.Duration, err error) {
	if _, err := db.Exec(ctx, `create table one_row(n int)`); err != nil {
		return nil, err
	}
	pictures, err := drawPictures(1)
	if err != nil {
		return nil, err
	}
	for i := range n {
		pause(ctx, 20*time.Millisecond)
		began := time.Now()
		if _, err := db.Exec(ctx, `insert into one_row values (1)`); err != nil {
			return nil, err
		}
		commits = append(commits, time.Since(began))
		pause(ctx, 20*time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/api/v1/pipelines/idle/tasks?wait=10s", bytes.NewReader(pictures[0]))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Idempotency-Key", fmt.Sprint(i))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			return nil, fmt.Errorf("upload: status %d", resp.StatusCode)
		}
	}
	return commits, nil
}

// waits gives the time from each task's row to its first request.
func (c *clockIn) waits(ctx context.Context, db *pgx.Conn) (all []time.Duration, err error) {
	rows, err := db.Query(ctx, `select public_id, created_at from gantry.task`)
	if err != nil {
		return nil, err
	}
	var id string
	var at time.Time
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = pgx.ForEachRow(rows, []any{&id, &at}, func() error {
		if first, ok := c.first[id]; ok {
			all = append(all, first.Sub(at))
		}
		return nil
	})
	return all, err
}
