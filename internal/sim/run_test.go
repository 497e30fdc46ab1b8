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

// fault is what goes wrong with one thing that a process does.
type fault int

const (
	fine      fault = iota
	refuse          // it does not come about
	lose            // it comes about, and the process does not hear of it
	late            // it comes about after the process was told that it broke off
	slow            // the answer takes long
	freeze          // the process stops while it is under way, and goes on later
	dieBefore       // the process is killed just before it
	dieAfter        // the process is killed just after it
)

// String names the fault.
func (f fault) String() string {
	return [...]string{"", "is refused", "answer lost", "comes late", "slow", "process stops", "killed before", "killed after"}[f]
}

// odds are how likely faults are for a kind of operation.
type odds int

const (
	idle   odds = iota // what a process does again and again while there is nothing to do
	seldom             // house-keeping
	often              // what moves a task
)

// faults are what goes wrong in a run.
type faults struct {
	kills, freezes, misreads, stops int     // how many at most
	kill, freeze                    float64 // probabilities, of each operation
	refuse, lose, late, slow, deaf  float64
	service, sink, twice            float64
	cancel, skew                    bool
}

func faultsOf(d dice) faults {
	f := faults{kills: 3, freezes: 2, misreads: 5, kill: 0.008, freeze: 0.003, refuse: 0.01, lose: 0.01, late: 0.01, slow: 0.01, deaf: 0.2,
		service: 0.4, sink: 0.2, twice: 0.3, cancel: d.more(1).hits(0.2), skew: d.more(2).hits(0.3)}
	for i, p := range []*float64{&f.kill, &f.freeze, &f.refuse, &f.lose, &f.late, &f.slow} {
		switch d.more(10 + i).below(4) { // some runs know nothing of a fault, and some a lot
		case 0:
			*p = 0
		case 3:
			*p *= 3
		}
	}
	if d.more(3).hits(0.3) {
		f.stops = 1
	}
	return f
}

// broken are the guards that a control takes away.
type broken struct {
	model.Without
	NoIntent, Overwrite, ManifestFirst bool
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

// fault says what goes wrong with an operation.
func (r *run) fault(p *proc, o op, d dice) fault {
	f := &r.faults
	scale := map[odds]float64{idle: 0.1, seldom: 0.5, often: 1}[o.odds]
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended, time.Since(r.began) > troubled:
		return fine
	case f.kills > 0 && d.more(1).hits(f.kill*scale):
		f.kills--
		return dieBefore + fault(d.more(2).below(2))
	case f.freezes > 0 && d.more(3).hits(f.freeze*scale):
		f.freezes--
		return freeze
	case o.late && d.more(4).hits(f.late):
		return late
	case d.more(5).hits(f.slow * scale):
		return slow
	case d.more(6).hits(f.refuse*scale) && (!o.bounded || f.misreads > 0):
		f.misreads -= bit(o.bounded)
		return refuse
	case d.more(7).hits(f.lose*scale) && (!o.bounded || f.misreads > 0):
		f.misreads -= bit(o.bounded)
		return lose
	}
	return fine
}

func bit(yes bool) int {
	if yes {
		return 1
	}
	return 0
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
	p := &proc{run: r, name: fmt.Sprintf("%d.%d", place, r.lives), dead: make(chan struct{}), counts: map[string]int{}}
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
	holds := 0
	r.db.Hold = func() {
		r.mu.Lock()
		holds++
		d := r.dice.of("hold", "", holds)
		r.mu.Unlock()
		time.Sleep(d.between(100*time.Microsecond, 3*time.Millisecond))
	}
	limiter := func(key string, l gantry.LimiterSpec) int32 {
		id, _ := r.db.EnsureLimiter(ctx, key, l, true)
		return id
	}
	r.services = map[string]*service{}
	for _, s := range r.world.services {
		id := limiter("http://"+s.name, gantry.LimiterSpec{MaxUnits: s.concurrency, Rate: s.rate, Burst: s.burst, Hold: callTimeout})
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
	seed   uint64
	broken string // the first invariant that did not hold
	tail   []string
	sink   map[string][]byte
	ends   map[string]gantry.State
	why    map[string]string
	hash   uint64
	steps  int
	lasted time.Duration
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
		if r.faults.cancel {
			r.later(r.dice.more(2).between(time.Second, 8*time.Second), r.cancelOne)
		}
		r.drain()
		r.check.final()
		out = r.result()
	})
	return out
}

const (
	troubled = time.Minute     // after that nothing goes wrong any more
	longest  = 4 * time.Minute // how much virtual time a run may take
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

// cancelOne is an operator who wants the end of a task.
func (r *run) cancelOne() {
	r.landing.Lock()
	defer r.landing.Unlock()
	var id gantry.TaskID
	r.db.Look(func(v model.View) {
		var own []gantry.TaskID // a part of another task ends with that one alone
		for _, t := range v.Tasks() {
			if t.Parent == 0 {
				own = append(own, t.ID)
			}
		}
		if len(own) > 0 {
			id = own[r.dice.more(3).below(len(own))]
		}
	})
	if id != 0 {
		r.db.Cancel(context.Background(), id, "operator")
		r.check.moved()
	}
}

func (r *run) result() result {
	out := result{seed: r.seed, broken: r.check.broken, sink: map[string][]byte{}, ends: map[string]gantry.State{}, why: map[string]string{}, hash: r.hash, steps: len(r.trace), lasted: time.Since(r.began)}
	for path, x := range r.sink {
		out.sink[path] = x.body
	}
	r.db.Look(func(v model.View) {
		for _, t := range v.Tasks() {
			out.ends[t.PublicID], out.why[t.PublicID] = t.Final, string(t.Code)+" "+t.Detail
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
