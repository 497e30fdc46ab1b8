package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/postgres"
)

// studyPipeline makes a task of a study once so many images are there, and calls for each of them.
const studyPipeline = `gantry: v1
name: study
sources:
  modality: {kind: dicom, aet: GANTRY, listen: "127.0.0.1:%[1]d"}
group: {by: study, count: %[2]d, cap: 12h}
stages:
  - {name: first, each: part, call: first}
processors:
  first: {kind: http, url: "http://%[3]s/null", timeout: 60s, limits: {concurrency: 8}}
sinks:
  results: {kind: dir, path: %[4]q}
`

// studySlices is how many images the study has, 167 MB at 512 x 512.
const studySlices = 324

// studySteps are the states that the task of a study goes through before its first call.
var studySteps = [...]struct {
	name string
	to   int
}{{"extracting", 1}, {"ingesting", 2}, {"inferring", 3}}

// stepSQL is when the last task came into a state.
const stepSQL = `select at from gantry.task_event where to_state = $1 and from_state <> to_state order by task_id desc limit 1`

// measureStudy sends studies of 324 images over one association and takes the time from the last byte of the last image to the first
// byte of the first call for one.
func measureStudy(ctx context.Context, b *bed, s settings, r *report) error {
	if s.binary == "" {
		return nil
	}
	if err := needPeers("dcmsend"); err != nil {
		return err
	}
	load, err := b.draw(studySlices)
	if err != nil {
		return err
	}
	calls := &firstCall{}
	service, stop, err := listening(calls)
	if err != nil {
		return err
	}
	defer stop()
	to, err := b.awaitingStudies(ctx, s, service)
	if err != nil {
		return err
	}
	defer to.stop()
	between, err := newTap(to.port)
	if err != nil {
		return err
	}
	defer between.l.Close()
	to.port = between.l.Addr().(*net.TCPAddr).Port
	db, err := pgx.Connect(ctx, b.dsn("study"))
	if err != nil {
		return err
	}
	defer db.Close(ctx)
	x := &studies{load: load, to: to, between: between, calls: calls, db: db}
	for i := range s.rounds + 1 {
		if err := x.round(ctx, i > 0); err != nil {
			return err
		}
	}
	x.report(r)
	return nil
}

// studies are rounds of sending one.
type studies struct {
	load    *imaging
	to      receiver
	between *tap
	calls   *firstCall
	db      *pgx.Conn

	waits, sent []time.Duration
	steps       [len(studySteps)][]time.Duration
}

// round sends a study and waits for all its calls; the first does not count.
func (x *studies) round(ctx context.Context, counts bool) error {
	study, err := x.load.write(studySlices)
	if err != nil {
		return err
	}
	x.calls.expect()
	took, err := x.to.take(ctx, study.Files, 1)
	if err != nil {
		return err
	}
	at, err := x.calls.await(ctx, studySlices)
	if err != nil || !counts {
		return err
	}
	last := x.between.lastData()
	x.waits, x.sent = append(x.waits, at.Sub(last)), append(x.sent, took)
	for k, state := range studySteps {
		var reached time.Time
		if err := x.db.QueryRow(ctx, stepSQL, state.to).Scan(&reached); err != nil {
			return fmt.Errorf("when the task was %s: %w", state.name, err)
		}
		x.steps[k] = append(x.steps[k], reached.Sub(last))
	}
	return nil
}

func (x *studies) report(r *report) {
	var way []string
	for k, state := range studySteps {
		way = append(way, fmt.Sprintf("%s after %.0f", state.name, millis(quantile(x.steps[k], 0.5))))
	}
	r.add("ct324_last_byte_to_call_ms", millis(quantile(x.waits, 0.5)), "ms", atMost(300), "%d images, %.0f MB, dcmsend over one association in %.1f s; %d rounds, %.0f to %.0f ms, the task %s; MONAI Deploy published 14 + 12 s on 48 processors",
		studySlices, float64(x.load.bytes)/1e6, quantile(x.sent, 0.5).Seconds(), len(x.waits), millis(quantile(x.waits, 0)), millis(quantile(x.waits, 1)), strings.Join(way, ", "))
}

// awaitingStudies starts the product with a DICOM source whose studies have a known number of images.
func (b *bed) awaitingStudies(ctx context.Context, s settings, service string) (receiver, error) {
	port, err := freePort()
	if err != nil {
		return receiver{}, err
	}
	if _, err := b.admin.Exec(ctx, `create database study`); err != nil {
		return receiver{}, err
	}
	if _, err := postgres.Migrate(ctx, b.dsn("study")); err != nil {
		return receiver{}, err
	}
	product, err := b.serve(ctx, s.binary, "study", fmt.Sprintf(studyPipeline, port, studySlices, service, b.outOf("study")))
	if err != nil {
		return receiver{}, err
	}
	return receiver{title: "GANTRY", port: port, pid: product.pid, stop: product.stop}, listensOn(ctx, port)
}

// firstCall is a service that answers nothing and notes when the first of the calls began.
type firstCall struct {
	mu    sync.Mutex
	first time.Time
	calls int
}

// ServeHTTP takes a call.
func (f *firstCall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if f.first.IsZero() {
		f.first = time.Now()
	}
	f.mu.Unlock()
	io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusNoContent)
	f.mu.Lock()
	f.calls++
	f.mu.Unlock()
}

// expect forgets the calls so far.
func (f *firstCall) expect() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.first, f.calls = time.Time{}, 0
}

// await waits for n calls and says when the first began.
func (f *firstCall) await(ctx context.Context, n int) (time.Time, error) {
	for range 1200 {
		f.mu.Lock()
		first, calls := f.first, f.calls
		f.mu.Unlock()
		if calls == n {
			return first, nil
		}
		pause(ctx, 100*time.Millisecond)
		if ctx.Err() != nil {
			return first, context.Cause(ctx)
		}
	}
	return time.Time{}, fmt.Errorf("%d of %d calls within two minutes", f.calls, n)
}

// tap stands between a sender and a receiver and notes when the last PDU with data had gone through (PS3.8 section 9.3.5).
type tap struct {
	l  net.Listener
	to int

	mu   sync.Mutex
	data time.Time
}

// pduData is the type of P-DATA-TF.
const pduData = 4

func newTap(to int) (*tap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tap{l: l, to: to}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go t.join(c)
		}
	}()
	return t, nil
}

// join sends on both ways what comes.
func (t *tap) join(c net.Conn) {
	defer c.Close()
	peer, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", t.to))
	if err != nil {
		return
	}
	defer peer.Close()
	go func() { io.Copy(c, peer); c.Close() }()
	var head [6]byte // type, reserved, length
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		if _, err := peer.Write(head[:]); err != nil {
			return
		}
		if _, err := io.CopyN(peer, c, int64(binary.BigEndian.Uint32(head[2:]))); err != nil {
			return
		}
		if head[0] == pduData {
			t.mu.Lock()
			t.data = time.Now()
			t.mu.Unlock()
		}
	}
}

// lastData is when the last data had gone through.
func (t *tap) lastData() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.data
}
