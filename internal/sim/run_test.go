package sim

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sim/model"
)

// broken are the guards that a control takes away.
type broken struct {
	model.Without
	NoIntent, Overwrite, ManifestFirst, Blind bool
}

type pipelineIDs struct{ pipeline, lane, source, limiter int32 }

// run is one run of one world under one seed.
type run struct {
	seed   uint64
	dice   dice
	world  *world
	faults faults
	broken broken
	ttl    time.Duration

	db          *model.Store
	ids         []pipelineIDs
	services    map[string]*service
	sinkLimiter int32
	check       *check
	began       time.Time

	landing sync.Mutex // held while something happens in the world
	blobs   map[string][]byte
	sink    map[string]*stored
	refused map[string]int // by path and by task
	trace   []moment
	hash    uint64

	happened [dieAfter + 1]int // faults

	mu      sync.Mutex
	living  []*proc
	lives   int
	ended   bool
	procs   sync.WaitGroup
	sources sync.WaitGroup
	laters  sync.WaitGroup
}

// moment is something that happened, for the tail of a history.
type moment struct {
	at         time.Duration
	proc, kind string
	name, how  string
	err        error
}

// String is one line of a history.
func (m moment) String() string {
	s := fmt.Sprintf("%12s %-5s %s %s", m.at.Round(time.Microsecond), m.proc, m.kind, m.name)
	if m.how != "" {
		s += " (" + m.how + ")"
	}
	if m.err != nil {
		s += ": " + m.err.Error()
	}
	return s
}

// note keeps what happened.
func (r *run) note(p *proc, o op, how string, err error) {
	if (o.odds == idle || o.odds == seldom) && err == nil {
		return // of no interest
	}
	who := "-"
	if p != nil {
		who = p.name
	}
	m := moment{time.Since(r.began), who, o.kind, o.name, how, err}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trace = append(r.trace, m)
	r.hash = uint64(dice(r.hash).of(m.proc+m.kind, m.name+how, int(m.at)))
}

// later does something after a time, whatever becomes of whoever asked for it.
func (r *run) later(d time.Duration, do func()) {
	r.laters.Go(func() {
		time.Sleep(d)
		do()
	})
}

func (r *run) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

// feeds are the processes that take objects.
func (r *run) feeds() (out []*intake) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.living {
		p.mu.Lock()
		if p.feed != nil && !p.killed {
			out = append(out, p.feed)
		}
		p.mu.Unlock()
	}
	return out
}

// spawn begins a process in one of the places for them, and another after it as long as the run lasts.
func (r *run) spawn(place int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.lives++
	p := &proc{run: r, name: fmt.Sprintf("%d.%d", place, r.lives), dead: make(chan struct{}), counts: map[string]int{}, rests: map[int32]known{}}
	p.dice = r.dice.of("process", p.name, 0)
	p.ctx, p.stop = context.WithCancel(context.Background())
	if r.faults.skew {
		p.skew = time.Duration(p.dice.more(1).below(7201)-3600) * time.Second
	}
	if len(r.living) <= place {
		r.living = append(r.living, nil)
	}
	r.living[place] = p
	r.procs.Add(1)
	go p.live()
	r.laters.Go(func() {
		<-p.ctx.Done()
		time.Sleep(p.dice.more(2).between(50*time.Millisecond, 3*time.Second))
		r.spawn(place)
	})
	if r.faults.stops > 0 {
		r.faults.stops--
		r.later(p.dice.more(3).between(0, 10*time.Second), p.stop)
	}
}

// prepare fills a store with what processes declare when they begin.
func (r *run) prepare() {
	ctx := context.Background()
	r.db = model.New(time.Now)
	r.db.Without = r.broken.Without
	holds := map[string]int{}
	r.db.Hold = func(w gantry.WorkerID, limiter int32) {
		r.mu.Lock()
		name := fmt.Sprint(w, limiter)
		holds[name]++
		d := r.dice.of("hold", name, holds[name])
		r.mu.Unlock()
		time.Sleep(d.between(100*time.Microsecond, 3*time.Millisecond))
	}
	limiter := func(key string, l gantry.LimiterSpec) int32 {
		id, _ := r.db.EnsureLimiter(ctx, key, l, true)
		return id
	}
	r.services = map[string]*service{}
	for _, s := range r.world.services {
		id := limiter("http://"+s.name, gantry.LimiterSpec{MaxUnits: s.concurrency, Rate: s.rate, Burst: s.burst, Hold: callTimeout, Breaker: s.breaker})
		r.services[s.name] = &service{serviceSpec: s, run: r, limiter: id, received: map[string]int{}}
	}
	r.sinkLimiter = limiter("dir:/out", gantry.LimiterSpec{MaxUnits: 4, Hold: time.Minute})
	source := limiter("dir:/in", gantry.LimiterSpec{MaxUnits: -1, Hold: time.Minute})
	for i, p := range r.world.pipelines {
		ids := pipelineIDs{source: source}
		ids.pipeline, _ = r.db.EnsurePipeline(ctx, p)
		ids.limiter = limiter("pipeline:"+p.Name, gantry.LimiterSpec{MaxUnits: r.world.progress[i]})
		ids.lane, _ = r.db.EnsureLane(ctx, p.Name, "in", ids.limiter, 0)
		r.ids = append(r.ids, ids)
	}
	r.check = newCheck(r)
}

// result is what came of a run.
type result struct {
	seed    uint64
	broken  string // the first invariant that did not hold
	tail    []string
	sink    map[string][]byte
	ends    map[string]gantry.State
	why     map[string]string
	crashed map[string]bool
	hash    uint64
	steps   int
	lasted  time.Duration

	roles    [gantry.Member + 1]int // tasks
	happened [dieAfter + 1]int      // faults
}

// simulate runs a world to its end in a bubble of virtual time.
func simulate(t *testing.T, r *run) (out result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r.began, r.blobs, r.sink, r.ttl = time.Now(), map[string][]byte{}, map[string]*stored{}, 3*time.Second
		r.refused = map[string]int{}
		r.prepare()
		for i, x := range r.world.objects {
			r.sources.Add(1)
			go r.source(i, x)
		}
		for place := range 2 + r.dice.more(1).below(2) {
			r.spawn(place)
		}
		r.operate()
		r.drain()
		r.check.final()
		out = r.result()
	})
	return out
}

const (
	troubled = time.Minute      // after that nothing goes wrong any more
	longest  = 15 * time.Minute // how much virtual time a run may take
)

// drain waits until all is done, or something is wrong, and ends the processes.
func (r *run) drain() {
	for !r.check.done() && time.Since(r.began) < longest {
		time.Sleep(100 * time.Millisecond)
	}
	r.mu.Lock()
	r.ended = true
	for _, p := range r.living {
		p.stop()
	}
	r.mu.Unlock()
	r.procs.Wait()
	r.sources.Wait()
	r.laters.Wait()
}

func (r *run) result() result {
	out := result{seed: r.seed, broken: r.check.broken, sink: map[string][]byte{}, ends: map[string]gantry.State{}, why: map[string]string{}, crashed: map[string]bool{}, hash: r.hash, steps: len(r.trace), lasted: time.Since(r.began), happened: r.happened}
	for path, x := range r.sink {
		out.sink[path] = x.body
	}
	r.db.Look(func(v model.View) {
		for _, t := range v.Tasks() {
			out.ends[t.PublicID], out.why[t.PublicID] = t.Final, string(t.Code)+" "+t.Detail
			out.roles[t.Role]++
			out.crashed[t.PublicID] = t.Code == gantry.CodeCrashed || r.check.childCrashed(v, t.ID) || r.poison(t)
		}
	})
	if out.broken != "" {
		for _, m := range r.check.tail {
			out.tail = append(out.tail, m.String())
		}
	}
	return out
}

// String tells of a failure.
func (x result) String() string {
	return fmt.Sprintf("seed %d after %s and %d steps: %s\n  %s\nAgain: go test ./internal/sim -run TestSeeds -first=%d -seeds=1 -v", x.seed, x.lasted, x.steps, x.broken,
		strings.Join(x.tail, "\n  "), x.seed)
}
