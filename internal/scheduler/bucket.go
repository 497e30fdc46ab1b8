package scheduler

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/line"
)

// bucket is this process's share of one limiter: units granted by the database, handed out to
// callers by priority and arrival, and starts booked ahead where there is a rate.
type bucket struct {
	id   int32
	poke chan struct{} // demand changed; the keeper looks

	mu      sync.Mutex
	spec    gantry.LimiterSpec
	granted int  // what may be in use
	booked  int  // what the database has us down for; above granted while a share is being given back
	cap     int  // while a grant is under way: what was in use when it was asked for
	frozen  bool // a grant is under way
	gone    int  // surrendered since a grant was last asked for
	asked   time.Time
	inUse   int
	queue   line.Queue
	idle    time.Time // when a unit last came back that nobody waited for
	granter func()    // told when units came
	hope    int       // units wanted by the claimer beyond those in use
	coming  int       // calls whose intent is being committed: they want a unit next
	temper  temper
	ease    ease
	held    chan struct{} // closed while an operator pauses it
	stale   bool          // somebody changed the row

	pressed bool // look again before its time
	urged   int  // how many urgent callers the others know of; of the keeper alone

	starts   starts
	starters int // callers that hold a unit and wait for a start
}

func newBucket(id int32, spec gantry.LimiterSpec) *bucket {
	b := &bucket{id: id, poke: make(chan struct{}, 1), held: make(chan struct{})}
	b.temper.jitter = func() float64 { return 0.5 }
	b.setSpec(spec)
	return b
}

// acquire waits for one unit, and says whether it is for the probe of a breaker.
func (b *bucket) acquire(ctx context.Context, priority int16) (probe bool, err error) {
	b.mu.Lock()
	if b.queue.Len() == 0 && b.free() > 0 {
		defer b.mu.Unlock()
		if b.inUse == 0 {
			b.nudge() // the row may not have been read for long
		}
		return b.use(), nil
	}
	w := b.queue.Join(priority)
	b.mu.Unlock()
	b.nudge()
	select {
	case <-w.Ready:
		return w.Mark, nil
	case <-gantry.Held(ctx):
		err = gantry.ErrHeld
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-w.Ready: // it was handed over at this moment: give it back
		b.giveUp(w.Mark)
	default:
		b.queue.Leave(w)
	}
	return false, err
}

// use takes a unit that is free, and says whether it is for the probe; mu is held.
func (b *bucket) use() (probe bool) {
	b.inUse++
	if b.temper.probes > 0 && b.temper.state != gantry.BreakerClosed {
		b.temper.probes = 0
		return true
	}
	return false
}

// giveUp gives back a unit whose call did not begin; mu is held.
func (b *bucket) giveUp(probe bool) {
	if probe {
		b.temper.forgo(time.Now())
		b.nudge()
	}
	b.put(1)
}

// take gives at most n units without waiting, as the claimer does before it claims.
func (b *bucket) take(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, max(0, b.free()-b.queue.Len()))
	b.inUse += n
	return n
}

// seize takes units for what is in progress already, whether there are any or not.
func (b *bucket) seize(n int) {
	b.mu.Lock()
	b.inUse += n
	b.mu.Unlock()
	b.nudge()
}

func (b *bucket) release(n int) {
	b.mu.Lock()
	b.put(n)
	b.mu.Unlock()
}

// put gives units back and hands them on; mu is held.
func (b *bucket) put(n int) {
	b.inUse -= n
	b.handOver()
	if b.inUse+b.queue.Len() < b.granted || b.inUse <= b.granted && b.granted < b.booked {
		b.idle = time.Now()
		b.nudge()
	}
}

// free is how many units may be taken now; mu is held.
func (b *bucket) free() int {
	top := min(b.granted, b.spec.MaxUnits) // of a limit that was lowered the rest goes back soon
	switch {
	case b.spec.MaxUnits < 0:
		top = b.inUse + math.MaxInt32
	case b.frozen:
		top = min(top, b.cap)
	}
	if b.spec.Adaptive {
		top = min(top, b.ease.top())
	}
	return b.temper.top(top, b.inUse, time.Now()) - b.inUse
}

func (b *bucket) handOver() {
	fits := func(int16) bool { return b.free() > 0 }
	for w := b.queue.Next(fits); w != nil; w = b.queue.Next(fits) {
		w.Mark = b.use()
		close(w.Ready)
	}
}

func (b *bucket) nudge() {
	select {
	case b.poke <- struct{}{}:
	default:
	}
}

// ask says what to ask of the database, and freezes the bucket until the answer: a grant may be
// smaller than the last one, and what is taken meanwhile must not outgrow it.
func (b *bucket) ask() (want, inUse int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frozen, b.cap, b.gone, b.asked = true, b.inUse, 0, time.Now()
	return b.want(), b.inUse
}

// want is how many units there is use for; mu is held.
func (b *bucket) want() int { return b.inUse + b.queue.Len() + b.hope + b.coming }

// expect says that a call comes that will want a unit, or with -1 that it is here: a process that holds none asks for it
// while the call's intent is committed, and not after.
func (b *bucket) expect(calls int) {
	b.mu.Lock()
	b.coming += calls
	none := calls > 0 && b.granted == 0 && b.spec.MaxUnits > 0
	b.mu.Unlock()
	if none {
		b.nudge()
	}
}

// settle takes the database's answer.
func (b *bucket) settle(units int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	more := units > b.granted
	b.granted, b.booked, b.frozen = max(0, units-b.gone), units, false
	b.handOver()
	if more && b.hope > 0 && b.granter != nil {
		b.granter()
	}
}

// unsure takes it that the database's answer got lost: no more than was in use may be, but for what went out with a part
// meanwhile, and as much as was asked for may be booked, to be given back.
func (b *bucket) unsure(want, inUse int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.granted, b.booked, b.frozen = max(0, inUse-b.gone), max(b.booked, want, inUse), false
	b.handOver()
}

// onGrant sets who is told when units came that the claimer hoped for.
func (b *bucket) onGrant(f func()) {
	b.mu.Lock()
	b.granter = f
	b.mu.Unlock()
}

// shrink lowers what may be in use to a fair share. The database hears of it when enough calls
// have ended.
func (b *bucket) shrink(units int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.granted = min(b.granted, units)
}

type demand struct {
	want, inUse, granted, booked int
	idle                         time.Time
	regrant                      time.Duration // until what was surrendered is to be told
}

func (b *bucket) demand() demand {
	b.mu.Lock()
	defer b.mu.Unlock()
	return demand{want: b.want(), inUse: b.inUse, granted: b.granted, booked: b.booked, idle: b.idle, regrant: b.regrant()}
}

func (b *bucket) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.Len()
}

// setSpec takes what stands in the row, and tells whether there are fewer units than before.
func (b *bucket) setSpec(s gantry.LimiterSpec) (fewer bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fewer = s.MaxUnits >= 0 && (b.spec.MaxUnits < 0 || s.MaxUnits < b.spec.MaxUnits)
	if s.Paused != b.spec.Paused {
		if s.Paused {
			close(b.held)
		} else {
			b.held = make(chan struct{})
		}
	}
	b.spec = s
	b.temper.read(s.Standing, time.Now())
	b.handOver()
	return fewer
}

// hold is closed once an operator pauses the limit.
func (b *bucket) hold() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

func (b *bucket) unlimited() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spec.MaxUnits < 0
}

func (b *bucket) rate() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spec.Rate
}

func (b *bucket) addStarter(n int) {
	b.mu.Lock()
	b.starters += n
	b.mu.Unlock()
}

func (b *bucket) startersNow() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.starters
}

// setHope says how many units the claimer would like beyond those in use.
func (b *bucket) setHope(n int) {
	b.mu.Lock()
	grew := n > b.hope
	b.hope = n
	if !grew {
		b.idle = time.Now()
	}
	b.mu.Unlock()
	b.nudge()
}
