package app

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/auth"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// plans holds the pipeline versions that this process has opened. A version that no file names any
// more is opened again from the database for the tasks that still run on it.
type plans struct {
	app    *App
	orders *orders

	mu    sync.Mutex
	open  map[int32]*engine.Plan
	sinks []gantry.Endpoint // in place of every pipeline's own, if not nil
	stays []gantry.Leaving  // drivers that were opened and keep connections

	instead map[string]gantry.Processor // in place of every pipeline's own of that name
	called  func(processor string)      // told of every call that left, if not nil

	keep bool // limits that are there stay: other processes work by them
}

func newPlans(a *App) *plans {
	return &plans{app: a, orders: newOrders(a), open: map[int32]*engine.Plan{}}
}

// Declare records a pipeline and its limits, opens its drivers, and makes it the version that new
// tasks run on.
func (p *plans) Declare(ctx context.Context, x *gantry.Pipeline) (*engine.Plan, error) {
	id, err := p.app.Store.EnsurePipeline(ctx, x)
	if err != nil {
		return nil, err
	}
	plan, err := p.build(ctx, id, x, !p.keep)
	if err != nil {
		return nil, err
	}
	p.orders.declare(x)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[id] = plan
	return plan, nil
}

// Plan finds a version by its row.
func (p *plans) Plan(ctx context.Context, id int32) (*engine.Plan, error) {
	p.mu.Lock()
	plan := p.open[id]
	p.mu.Unlock()
	if plan != nil {
		return plan, nil
	}
	doc, err := p.app.Store.ResolvedPipeline(ctx, id)
	if err != nil {
		return nil, err
	}
	x, err := pipeline.ParseResolved(doc, p.app.Drivers)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, "bad_pipeline", "read pipeline version %d: %w", id, err)
	}
	plan, err = p.build(ctx, id, x, false)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.open[id]; known != nil {
		return known, nil
	}
	p.open[id] = plan
	return plan, nil
}

// build opens the drivers of a pipeline. Limits stand outside of versions: only a pipeline that was
// read from its file declares them.
func (p *plans) build(ctx context.Context, id int32, x *gantry.Pipeline, declare bool) (*engine.Plan, error) {
	plan := &engine.Plan{Pipeline: x, ID: id, Order: p.orders.of(x.Name)}
	for i, e := range x.Sources {
		plan.Sources = append(plan.Sources, engine.Source{Name: e.Name, Index: int16(i), Open: p.lazily(e, declare)})
	}
	plan.Archive = p.archive(x)
	for _, st := range x.Stages {
		var calls []engine.Call
		for _, name := range st.Call {
			c, err := p.call(ctx, id, x, name, declare)
			if err != nil {
				return nil, err
			}
			calls = append(calls, c)
		}
		plan.Calls = append(plan.Calls, calls)
	}
	var err error
	if plan.States, err = p.states(ctx, x, declare); err != nil {
		return nil, err
	}
	sinks := x.Sinks
	if p.sinks != nil {
		sinks = p.sinks
	}
	for i, s := range sinks {
		sink, err := p.sink(ctx, s)
		if err != nil {
			return nil, err
		}
		sink.Index = int16(i)
		if p.sinks != nil {
			sink.Index = -1
		}
		p.prove(&sink, id)
		plan.Sinks = append(plan.Sinks, sink)
	}
	return plan, nil
}

func (p *plans) call(ctx context.Context, id int32, x *gantry.Pipeline, name string, declare bool) (engine.Call, error) {
	proc, err := x.Processor(name)
	if err != nil {
		return engine.Call{}, err
	}
	if driver := p.instead[name]; driver != nil {
		return p.mock(ctx, x, proc, driver)
	}
	units := proc.Limits.Concurrency
	if units == 0 {
		units = gantry.DefaultConcurrency
	}
	spec := gantry.LimiterSpec{MaxUnits: units, Rate: proc.Limits.Rate, Burst: float64(proc.Limits.Burst), Hold: proc.Timeout,
		Breaker: proc.Limits.Breaker, Adaptive: proc.Limits.Adaptive}
	target := targetOf(proc.Config)
	limiter, err := p.app.Store.EnsureLimiter(ctx, target.Key(), spec, declare)
	if err != nil {
		return engine.Call{}, err
	}
	egress, err := p.egress(target, proc.Auth, gate.Policy{})
	if err != nil {
		return engine.Call{}, fmt.Errorf("processor %s: %w", name, err)
	}
	driver, err := p.app.Drivers.NewProcessor(ctx, proc.Kind, proc.Config, egress)
	if err != nil {
		return engine.Call{}, fmt.Errorf("processor %s: %w", name, err)
	}
	p.stay(driver)
	p.app.attend(driver, gantry.ControlKey{Boundary: gantry.AtProcessor, Limiter: limiter, Pipeline: id, Index: indexOf(x, proc)})
	if err := p.app.call(driver); err != nil {
		return engine.Call{}, fmt.Errorf("processor %s: %w", name, err)
	}
	told := p.told(name, driver)
	deferred, err := p.deferred(x, proc, told)
	if err != nil {
		return engine.Call{}, err
	}
	return engine.Call{Name: name, Limiter: limiter, Timeout: proc.Timeout, Units: units, Processor: told, Deferred: deferred}, nil
}

// states gives the limits of a pipeline's states. Each has a row, also one that the file does not limit: an
// operator may set a limit at any time, and processes that never saw the file know of it.
func (p *plans) states(ctx context.Context, x *gantry.Pipeline, declare bool) (map[gantry.State]int32, error) {
	var keys []string
	var specs []gantry.LimiterSpec
	for s := gantry.Extracting; s <= gantry.Responding; s++ {
		spec := gantry.LimiterSpec{MaxUnits: -1}
		if n := x.States[s]; n > 0 {
			spec.MaxUnits = n
		}
		keys, specs = append(keys, "pipeline:"+x.Name+":"+s.String()), append(specs, spec)
	}
	ids, err := p.app.Store.EnsureLimiters(ctx, keys, specs, declare)
	if err != nil {
		return nil, err
	}
	limits := map[gantry.State]int32{}
	for i, id := range ids {
		limits[gantry.Extracting+gantry.State(i)] = id
	}
	return limits, nil
}

// told makes a processor whose calls are told of, if anybody wants to know.
func (p *plans) told(name string, driver gantry.Processor) gantry.Processor {
	if p.called == nil {
		return driver
	}
	if d, ok := driver.(gantry.Deferring); ok {
		return countingLater{d, func() { p.called(name) }}
	}
	return counting{driver, func() { p.called(name) }}
}

// mock is the call of what stands in a processor's place. Its target is one of its own: the record does
// not say that the processor was called, and the processor's limits do not hold it up.
func (p *plans) mock(ctx context.Context, x *gantry.Pipeline, proc gantry.Processing, driver gantry.Processor) (engine.Call, error) {
	t := gantry.Target{Scheme: "mock", Host: x.Name, Model: proc.Name}
	limiter, err := p.app.Store.EnsureLimiter(ctx, t.Key(), gantry.LimiterSpec{MaxUnits: -1, Hold: proc.Timeout}, true)
	if err != nil {
		return engine.Call{}, err
	}
	return engine.Call{Name: proc.Name, Limiter: limiter, Timeout: proc.Timeout, Processor: p.told(proc.Name, driver)}, nil
}

func (p *plans) sink(ctx context.Context, e gantry.Endpoint) (engine.Sink, error) {
	target := targetOf(e.Config)
	limiter, err := p.app.Store.EnsureLimiter(ctx, target.Key(), gantry.LimiterSpec{MaxUnits: unitsOf(e.Config), Hold: time.Minute}, true)
	if err != nil {
		return engine.Sink{}, err
	}
	egress, err := p.egress(target, e.Auth, objects)
	if err != nil {
		return engine.Sink{}, fmt.Errorf("sink %s: %w", e.Name, err)
	}
	driver, err := p.app.Drivers.NewSink(ctx, e.Kind, e.Config, egress)
	if err != nil {
		return engine.Sink{}, fmt.Errorf("sink %s: %w", e.Name, err)
	}
	p.stay(driver)
	if err := p.app.call(driver); err != nil {
		return engine.Sink{}, fmt.Errorf("sink %s: %w", e.Name, err)
	}
	s := engine.Sink{Name: e.Name, Limiter: limiter, Sink: driver, Rejoin: e.Rejoin == gantry.RejoinOriginal}
	p.hearConfirmations(s)
	if local(target) {
		s.Count = func(ctx context.Context, r io.ReadCloser) io.ReadCloser { return gate.Local(ctx, r, true) }
	}
	return s, nil
}

// lazily opens a source when it is first asked for, in whatever process.
func (p *plans) lazily(e gantry.Endpoint, declare bool) func(context.Context) (gantry.Source, int32, error) {
	var mu sync.Mutex
	var source gantry.Source
	var limiter int32
	return func(ctx context.Context) (_ gantry.Source, _ int32, err error) {
		mu.Lock()
		defer mu.Unlock()
		if source == nil {
			source, limiter, err = p.source(ctx, e, targetOf(e.Config).Key(), declare)
		}
		return source, limiter, err
	}
}

// source opens a source and gives the limit of its target, which stands on record under a key.
func (p *plans) source(ctx context.Context, e gantry.Endpoint, key string, declare bool) (gantry.Source, int32, error) {
	egress, err := p.egress(targetOf(e.Config), e.Auth, objects)
	if err != nil {
		return nil, 0, fmt.Errorf("source %s: %w", e.Name, err)
	}
	limiter, err := p.app.Store.EnsureLimiter(ctx, key, gantry.LimiterSpec{MaxUnits: -1, Hold: time.Minute}, declare)
	if err != nil {
		return nil, 0, err
	}
	egress, err = p.branched(e, egress, func(key string) (int32, error) {
		return p.app.Store.EnsureLimiter(ctx, key, gantry.LimiterSpec{MaxUnits: -1}, declare)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("source %s: %w", e.Name, err)
	}
	driver, err := p.app.Drivers.NewSource(ctx, e.Kind, e.Config, egress)
	if err != nil {
		return nil, 0, fmt.Errorf("source %s: %w", e.Name, err)
	}
	return driver, limiter, nil
}

func targetOf(config any) gantry.Target {
	if t, ok := config.(gantry.Targeted); ok {
		return t.Target()
	}
	return gantry.Target{}
}

// local tells whether no egress counts the target's bytes, since they cross no socket.
func local(t gantry.Target) bool { return t.Scheme == "dir" || t.Scheme == "upload" }

// objects bounds what sources and sinks may do to us: objects are larger than what a model answers,
// and no call has a time of its own. As many tasks as a process has deliver at once, most of them two objects.
var objects = gate.Policy{MaxBody: maxOriginal, FirstByte: 5 * time.Minute, IdleConns: 2 * scheduler.DefaultTasks}

// egress makes a driver's way out, signed with its credential, which the driver never sees.
func (p *plans) egress(t gantry.Target, c *gantry.Credential, policy gate.Policy) (gantry.Egress, error) {
	e := gate.NewEgress(t, policy)
	if c == nil {
		return e, nil
	}
	rt, err := auth.Wrap(e.Transport(), c, p.app.Lookup)
	if err != nil {
		return nil, err
	}
	return signed{e, rt}, nil
}

type signed struct {
	gantry.Egress
	transport http.RoundTripper
}

// Transport signs every request.
func (s signed) Transport() http.RoundTripper { return s.transport }

// unitsOf is how many calls a target takes at once, as its config says; -1: as many as there are.
func unitsOf(config any) int {
	if b, ok := config.(gantry.Bounded); ok {
		return b.AtOnce()
	}
	return -1
}
