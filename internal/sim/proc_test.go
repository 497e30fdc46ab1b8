package sim

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// The errors of the world around a process.
var (
	errDead   = errors.New("this process was killed")
	errNet    = errors.New("the connection broke")
	errMidway = errors.New("the connection broke while the answer was awaited")
)

// proc is one life of one process. All that it does outside of its memory goes through call, where
// faults happen to it.
type proc struct {
	run  *run
	name string
	dice dice
	dead chan struct{} // closed when it is killed
	ctx  context.Context
	stop context.CancelFunc // asks it to stop

	mu     sync.Mutex
	counts map[string]int
	frozen time.Time     // it does nothing before this
	skew   time.Duration // of its own clock
	killed bool
	feed   *intake // while it holds a lease
	rests  map[int32]known
}

// count says how often it came to this.
func (p *proc) count(kind, name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := kind + " " + name
	p.counts[k]++
	return p.counts[k]
}

// known is that a target is to be left alone, and since when a process knows.
type known struct{ since, until time.Time }

// knowsOf notes that a process knows until when a target is to be left alone.
func (p *proc) knowsOf(limiter int32, until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until.After(p.rests[limiter].until) {
		p.rests[limiter] = known{time.Now(), until}
	}
}

func (p *proc) rest(limiter int32) known {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rests[limiter]
}

func (p *proc) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.killed {
		p.killed = true
		close(p.dead)
		p.stop()
	}
}

func (p *proc) isDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// now is the process's own clock.
func (p *proc) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.skew)
}

// freeze stops the process for a time, as SIGSTOP does.
func (p *proc) freeze(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = time.Now().Add(d)
}

// thaw waits until the process goes on.
func (p *proc) thaw() error {
	for {
		p.mu.Lock()
		d := time.Until(p.frozen)
		p.mu.Unlock()
		if p.isDead() {
			return errDead
		}
		if d <= 0 {
			return nil
		}
		select {
		case <-time.After(d):
		case <-p.dead:
		}
	}
}

// op is one thing that a process does to the world.
type op struct {
	kind, name string
	odds       odds
	lo, hi     time.Duration // how long each way takes
	late       bool          // it may land after its sender has given up
	bounded    bool          // so many failures of it fail a task, and there are only so many
}

// call does something: after the way there it lands, unless a fault comes between, and after the way back
// the process has the answer.
func (p *proc) call(ctx context.Context, o op, land func() error) error {
	n := p.count(o.kind, o.name)
	d := p.dice.of(o.kind, o.name, n)
	f := p.run.fault(p, o, d.more(1))
	if f != fine {
		p.run.note(p, op{kind: o.kind, name: o.name, odds: often}, f.String(), nil)
	}
	if err := p.thaw(); err != nil {
		return err
	}
	if f == dieBefore {
		p.kill()
		return errDead
	}
	there, back := d.more(2).between(o.lo, o.hi), d.more(3).between(o.lo, o.hi)
	if f == slow {
		back += d.more(4).between(50*time.Millisecond, 3*time.Second)
	}
	if err := p.travel(ctx, there); err != nil && !(p.isDead() && d.more(5).hits(0.5)) {
		return err // what was on its way when the process was killed may land
	}
	if f == refuse {
		return errNet
	}
	if f == late {
		p.run.later(d.more(6).between(5*time.Millisecond, 20*time.Second), func() { p.landing(o, "late", land) })
		return p.givenUp(ctx, d.more(7).between(0, 200*time.Millisecond))
	}
	if f == freeze {
		p.freeze(d.more(8).between(p.run.ttl/2, 3*p.run.ttl))
	}
	err := p.landing(o, "", land)
	if f == dieAfter {
		p.kill()
		return errDead
	}
	if terr := p.travel(ctx, back); terr != nil {
		return terr
	}
	if f == lose && err == nil {
		return errMidway
	}
	return err
}

// travel is a way to or from the world. A process that is frozen sees its end when it goes on.
func (p *proc) travel(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	var err error
	select {
	case <-timer.C:
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", errMidway, context.Cause(ctx))
	case <-p.dead:
		return errDead
	}
	if terr := p.thaw(); terr != nil {
		return terr
	}
	return err
}

func (p *proc) givenUp(ctx context.Context, d time.Duration) error {
	if err := p.travel(ctx, d); err != nil {
		return err
	}
	return errMidway
}

// landing is the moment at which something happens in the world.
func (p *proc) landing(o op, how string, land func() error) error {
	if o.kind == "grant" { // it waits for a lock
		err := land()
		p.run.note(p, o, how, err)
		return err
	}
	p.run.landing.Lock()
	defer p.run.landing.Unlock()
	err := land()
	p.run.note(p, o, how, err)
	return err
}

// live works until it is killed or asked to stop, with one lease after another.
func (p *proc) live() {
	defer p.run.procs.Done()
	for {
		err := p.session()
		if p.ctx.Err() != nil || !errors.Is(err, scheduler.ErrLeaseLost) && p.isDead() {
			return
		}
		if err != nil && !errors.Is(err, scheduler.ErrLeaseLost) {
			p.run.note(p, op{kind: "session"}, "ended", err)
			time.Sleep(p.dice.of("again", "", p.count("again", "")).between(50*time.Millisecond, time.Second))
		}
	}
}

// session is one lease, put together as package app does.
func (p *proc) session() error {
	st := &link{p}
	n := p.count("session", "")
	opts := scheduler.Options{Tasks: 4, TTL: p.run.ttl, Grace: 2 * time.Second, Rand: p.stream("rand", n)}
	return scheduler.Run(p.ctx, st, opts, func(loops context.Context, s *scheduler.Session) (scheduler.Begin, error) {
		var session gate.Session = unhurried{s, p}
		if p.run.broken.Blind {
			session = blind{session}
		}
		if p.run.broken.NoIntent {
			session = careless{session}
		}
		ids := gantry.NewIDs(p.now, &noise{next: p.stream("ids", n)})
		g := gate.New(session, ids, p.now)
		plans := p.run.plans(p, s.Worker)
		e := engine.New(engine.Options{Store: st, Session: s, Caller: g, Blobs: blobs{p}, Plans: plans, Rand: p.stream("pause", n), Log: nil})
		p.takeObjects(loops, s, &intake{p: p, st: st, gate: g, wake: s.Wake})
		return func(t gantry.Task) (scheduler.Step, func()) { return e.Begin(t) }, nil
	})
}

// takeObjects lets sources find the process until it is asked to stop or its lease ends. What is under way then
// is waited for.
func (p *proc) takeObjects(loops context.Context, s *scheduler.Session, in *intake) {
	living, end := context.WithCancel(loops)
	context.AfterFunc(p.ctx, end)
	in.ctx = living
	p.mu.Lock()
	p.feed = in
	p.mu.Unlock()
	s.Await(func() {
		<-living.Done()
		p.mu.Lock()
		p.feed = nil
		p.mu.Unlock()
		in.under.Wait()
	})
}

// stream gives random numbers one after another.
func (p *proc) stream(kind string, session int) func() float64 {
	var mu sync.Mutex
	i := 0
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		i++
		return p.dice.of(kind, "", session).more(i).unit()
	}
}

// noise is a source of random bytes.
type noise struct{ next func() float64 }

// Read fills b.
func (r *noise) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.next() * 256)
	}
	return len(b), nil
}

// unhurried is a session in a process that needs a moment for everything: what begins at one moment goes on in an order
// that follows from the seed.
type unhurried struct {
	gate.Session
	p *proc
}

// Commit takes a moment before and after.
func (b unhurried) Commit(ctx context.Context, w *gantry.Write) error {
	name := fmt.Sprint(w.Lease, len(w.Items), w.Cursor)
	for i := range w.Parts {
		name += fmt.Sprint(w.Parts[i].PartKey)
	}
	if in := w.Intent; in != nil {
		name = fmt.Sprint(in.Task, in.Arrival, in.Part, in.Try, in.Seq)
	}
	d := b.p.dice.of("moment", name, b.p.count("moment", name))
	time.Sleep(d.more(1).between(0, 20*time.Microsecond))
	err := b.Session.Commit(ctx, w)
	time.Sleep(d.more(2).between(0, 20*time.Microsecond))
	return err
}

// blind is a session that takes no notice of what calls show of their targets: the control of rests.
type blind struct{ gate.Session }

// Saw does nothing.
func (blind) Saw(int32, gantry.Showing) {}

// careless is a session that lets calls go on without a record of their beginning: the control of the intent.
type careless struct{ gate.Session }

// Commit says that an intent landed and does nothing.
func (c careless) Commit(ctx context.Context, w *gantry.Write) error {
	if w.Intent != nil {
		return nil
	}
	return c.Session.Commit(ctx, w)
}

// taskOf gives the public id that a key or a path begins with.
func taskOf(path string) string {
	id, _, _ := strings.Cut(path, "/")
	return id
}
