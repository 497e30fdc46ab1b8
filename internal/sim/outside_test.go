package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// plans gives a process the pipelines with its own ways to the services.
type plans map[int32]*engine.Plan

// Plan finds a version.
func (p plans) Plan(_ context.Context, id int32) (*engine.Plan, error) { return p[id], nil }

func (r *run) plans(p *proc, w gantry.WorkerID) plans {
	out := plans{}
	for i, x := range r.world.pipelines {
		plan := &engine.Plan{Pipeline: x, ID: r.ids[i].pipeline}
		for _, st := range x.Stages {
			var calls []engine.Call
			for _, name := range st.Call {
				s := r.services[name]
				calls = append(calls, engine.Call{Name: name, Limiter: s.limiter, Timeout: callTimeout, Units: s.concurrency, Processor: processor{s, p, w}})
			}
			plan.Calls = append(plan.Calls, calls)
		}
		var s gantry.Sink = sink{r, p, w}
		if r.broken.ManifestFirst {
			s = &hasty{Sink: s, kept: map[string][]gantry.Delivery{}}
		}
		plan.Sinks = []engine.Sink{{Name: "out", Limiter: r.sinkLimiter, Sink: s}}
		out[plan.ID] = plan
	}
	return out
}

// service is an inference service, which all processes share.
type service struct {
	serviceSpec
	run     *run
	limiter int32

	received map[string]int // by key
}

// processor is a process's way to a service.
type processor struct {
	*service
	p *proc
	w gantry.WorkerID
}

// manner is how a service takes a request.
type manner int

const (
	answers manner = iota
	breaks
	busy
	hangs
)

// manner says how the service takes the nth request of a key. What fails for a while gets through in the end.
func (s *service) manner(key string, n int) manner {
	d := s.run.dice.of("manner", s.name+key, 0)
	if !d.hits(s.run.faults.service) || n > 1+d.more(1).below(2) {
		return answers
	}
	return []manner{breaks, busy, hangs}[d.more(2+n).below(3)]
}

// Process sends a request to the service.
func (x processor) Process(ctx context.Context, req *gantry.Request) error {
	m := gate.MeterFrom(ctx)
	if m == nil {
		x.run.check.fail("a request to %s is on no record", x.name)
		return errNet
	}
	digests, err := x.read(ctx, m, req)
	if err != nil {
		return err
	}
	began := time.Now()
	var v visit
	o := op{kind: "process", name: x.name + " " + req.Key, odds: often, lo: 100 * time.Microsecond, hi: 2 * time.Millisecond}
	err = x.p.call(ctx, o, func() error {
		v = x.arrive(req.Key, began)
		return nil
	})
	if err != nil {
		x.part(v)
		return transient(err)
	}
	media, body, err := x.work(ctx, req.Key, digests, v)
	if terr := x.p.thaw(); terr != nil {
		return terr
	}
	if err != nil {
		return err
	}
	m.Answered()
	return req.Receive(ctx, media, int64(len(body)), m.CountResponse(bytes.NewReader(body)))
}

func transient(err error) error {
	return gantry.Errorf(gantry.Transient, "network", "send: %w", err)
}

// read reads what is sent.
func (x processor) read(ctx context.Context, m *gate.Meter, req *gantry.Request) (out []gantry.Digest, err error) {
	for i := range req.Items {
		r, err := req.Open(ctx, i)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(m.CountRequest(r))
		r.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, sha256.Sum256(b))
	}
	return out, nil
}

// visit is a request that is at the service.
type visit struct {
	n    int // of its key
	took time.Duration
	how  manner
	end  func() // nil: it never came
}

// arrive is the moment at which a request reaches the service.
func (x processor) arrive(key string, began time.Time) visit {
	x.received[key]++
	v := visit{n: x.received[key]}
	v.how = x.manner(key, v.n)
	v.took = x.run.dice.of("work", x.name+key, v.n).between(x.lo, x.hi)
	if v.how == hangs {
		v.took = time.Hour
	}
	over := x.run.check.received(x, key, began)
	// A process that is stopped cannot close its connection, but its target was promised no more than this.
	last := time.AfterFunc(callTimeout-time.Since(began), over)
	v.end = func() { last.Stop(); over() }
	return v
}

// part is the end of a visit whose client hears no more of it. That the client is dead the service does not
// notice, and works on.
func (x processor) part(v visit) {
	if v.end != nil && !x.p.isDead() {
		v.end()
	}
}

// work is what the service does with a request that it received.
func (x processor) work(ctx context.Context, key string, digests []gantry.Digest, v visit) (string, []byte, error) {
	timer := time.NewTimer(v.took)
	defer timer.Stop()
	select {
	case <-timer.C:
		v.end()
	case <-ctx.Done():
		v.end()
		return "", nil, ctx.Err()
	case <-x.p.dead:
		return "", nil, errDead
	}
	switch v.how {
	case breaks:
		return "", nil, gantry.Errorf(gantry.Transient, "reset", "read answer: the connection broke")
	case busy:
		e := gantry.Errorf(gantry.Unavailable, "http_429", "read answer: not now")
		e.RetryAfter = x.run.dice.of("after", x.name+key, v.n).between(100*time.Millisecond, 3*time.Second)
		return "", nil, e
	}
	return x.answerTo(x.run.world.dice, digests)
}

// stored is an object at the sink.
type stored struct {
	body []byte
	puts int
}

// sink is a process's way to the sink, which keeps what is there (If-None-Match: *).
type sink struct {
	run *run
	p   *proc
	w   gantry.WorkerID
}

// Deliver puts one file.
func (s sink) Deliver(ctx context.Context, out gantry.Delivery) error {
	m := gate.MeterFrom(ctx)
	if m == nil {
		s.run.check.fail("a file goes to the sink on no record")
		return errNet
	}
	r, err := out.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	body, err := io.ReadAll(m.CountRequest(r))
	if err != nil {
		return err
	}
	if s.run.busy(out.Path) {
		return gantry.Errorf(gantry.Unavailable, "http_503", "put file: slow down")
	}
	o := op{kind: "sink", name: out.Path, odds: often, bounded: true, lo: 500 * time.Microsecond, hi: 20 * time.Millisecond}
	err = s.p.call(ctx, o, func() error { return s.run.put(s.w, out, body) })
	if err != nil && gantry.KindOf(err) == gantry.Transient {
		return transient(err)
	}
	m.LastByte()
	return err
}

// busy tells whether the sink takes a file some other time. It does so for no task very often.
func (r *run) busy(path string) bool {
	r.landing.Lock()
	defer r.landing.Unlock()
	task := taskOf(path)
	r.refused[path]++
	n := r.refused[path]
	if d := r.dice.of("sink", path, 0); !d.hits(r.faults.sink) || n > 1+d.more(1).below(2) || r.refused[task] >= 4 {
		return false
	}
	r.refused[task]++
	return true
}

// put is what the sink does.
func (r *run) put(w gantry.WorkerID, out gantry.Delivery, body []byte) error {
	r.check.delivered(w, out.Path)
	if out.Manifest {
		r.check.manifest(out.Path, body)
	}
	x := r.sink[out.Path]
	switch {
	case x == nil:
		r.sink[out.Path] = &stored{body, 1}
		return nil
	case r.broken.Overwrite:
		x.body, x.puts = body, x.puts+1
		return nil
	case bytes.Equal(x.body, body):
		return nil
	}
	return gantry.Errorf(gantry.Permanent, gantry.CodeConflict, "put file: other bytes are there")
}

// hasty is a sink that keeps files back until the manifest is there: the control of the order.
type hasty struct {
	gantry.Sink
	mu   sync.Mutex
	kept map[string][]gantry.Delivery // by task
}

// Deliver delivers the manifest before what it speaks of.
func (h *hasty) Deliver(ctx context.Context, out gantry.Delivery) error {
	task := taskOf(out.Path)
	h.mu.Lock()
	if !out.Manifest {
		h.kept[task] = append(h.kept[task], out)
		h.mu.Unlock()
		return nil
	}
	kept := h.kept[task]
	delete(h.kept, task)
	h.mu.Unlock()
	if err := h.Sink.Deliver(ctx, out); err != nil {
		return err
	}
	for _, x := range kept {
		if err := h.Sink.Deliver(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// blobs is a process's way to the blob store, which all share.
type blobs struct{ p *proc }

// Stage reads bytes into memory.
func (b blobs) Stage(_ context.Context, r io.Reader, _, limit int64) (gantry.Staged, error) {
	all, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	return &staged{b.p, all, sha256.Sum256(all)}, nil
}

// Open finds bytes by where they lie.
func (b blobs) Open(_ context.Context, location string) (gantry.Blob, error) {
	b.p.run.landing.Lock()
	defer b.p.run.landing.Unlock()
	all, ok := b.p.run.blobs[location]
	if !ok {
		b.p.run.check.fail("there are no bytes at %s", location)
		return nil, fmt.Errorf("open blob: it is not there")
	}
	return blob{bytes.NewReader(all)}, nil
}

type blob struct{ *bytes.Reader }

// Close does nothing.
func (blob) Close() error { return nil }

type staged struct {
	p   *proc
	all []byte
	sha gantry.Digest
}

func (s *staged) Size() int64        { return int64(len(s.all)) }
func (s *staged) SHA() gantry.Digest { return s.sha }
func (s *staged) Discard()           {}

// Inline gives what is small.
func (s *staged) Inline() []byte {
	if len(s.all) > gantry.InlineLimit {
		return nil
	}
	return s.all
}

// Commit makes the bytes durable.
func (s *staged) Commit(ctx context.Context) (string, error) {
	at := s.sha.String()
	o := op{kind: "blob", name: at, odds: often, bounded: true, lo: 200 * time.Microsecond, hi: 5 * time.Millisecond}
	return at, s.p.call(ctx, o, func() error {
		s.p.run.blobs[at] = s.all
		return nil
	})
}

func isManifest(path string) bool { return strings.HasSuffix(path, "/"+gantry.ManifestName) }
