package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
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
	x.run.check.begins(x, began)
	var v visit
	o := op{kind: "process", name: x.name + " " + req.Key, odds: often, lo: 100 * time.Microsecond, hi: 2 * time.Millisecond}
	err = x.p.call(ctx, o, func() error {
		v = x.arrive(req.Key, began)
		if x.run.poisoned(taskOf(req.Key)) {
			x.p.kill()
			return errDead
		}
		return nil
	})
	if err != nil {
		x.part(v)
		return transient(err)
	}
	media, body, err := x.work(ctx, req.Key, digests, v)
	if terr := x.p.thaw(x.run.dice.of("goes on", x.name+req.Key, v.n)); terr != nil {
		return terr
	}
	if err != nil {
		if wait := gantry.RetryAfterOf(err); wait > 0 && ctx.Err() == nil {
			x.p.knowsOf(x.limiter, time.Now().Add(wait-liftSlack))
		}
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
		d := x.run.dice.of("after", x.name+key, v.n)
		e.RetryAfter = d.between(100*time.Millisecond, 3*time.Second)
		if x.run.faults.rests && d.more(2).hits(0.25) {
			e.RetryAfter += d.more(1).between(5*time.Second, 15*time.Second)
		}
		return "", nil, e
	}
	return x.answerTo(x.run.world.dice, digests)
}
