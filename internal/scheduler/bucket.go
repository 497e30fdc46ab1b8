package scheduler

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
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
	inUse   int
	queue   waitQueue
	serial  int64
	idle    time.Time // when a unit last came back that nobody waited for
	granter func()    // told when units came
	hope    int       // units wanted by the claimer beyond those in use

	turn     chan struct{} // held by the caller that looks at slots
	slots    []time.Time   // booked starts, in order
	starters int           // callers that hold a unit and wait for a start
}

type waiter struct {
	priority int16
	serial   int64
	index    int
	ready    chan struct{}
}

func newBucket(id int32, spec gantry.LimiterSpec) *bucket {
	return &bucket{id: id, spec: spec, poke: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
}

// acquire waits for one unit.
func (b *bucket) acquire(ctx context.Context, priority int16) error {
	b.mu.Lock()
	if b.spec.MaxUnits < 0 {
		b.inUse++
		b.mu.Unlock()
		return nil
	}
	if len(b.queue) == 0 && b.free() > 0 {
		b.inUse++
		b.mu.Unlock()
		return nil
	}
	w := &waiter{priority: priority, serial: b.serial, ready: make(chan struct{})}
	b.serial++
	heap.Push(&b.queue, w)
	b.mu.Unlock()
	b.nudge()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		select {
		case <-w.ready: // it was handed over at this moment: give it back
			b.put(1)
		default:
			heap.Remove(&b.queue, w.index)
		}
		return context.Cause(ctx)
	}
}

// take gives at most n units without waiting, as the claimer does before it claims.
func (b *bucket) take(n int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spec.MaxUnits >= 0 {
		n = min(n, max(0, b.free()-len(b.queue)))
	}
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
	if b.inUse+len(b.queue) < b.granted || b.inUse <= b.granted && b.granted < b.booked {
		b.idle = time.Now()
		b.nudge()
	}
}

// free is how many units may be taken now; mu is held.
func (b *bucket) free() int {
	top := b.granted
	if b.frozen {
		top = min(top, b.cap)
	}
	return top - b.inUse
}

func (b *bucket) handOver() {
	for len(b.queue) > 0 && (b.spec.MaxUnits < 0 || b.free() > 0) {
		w := heap.Pop(&b.queue).(*waiter)
		b.inUse++
		close(w.ready)
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
	b.frozen, b.cap = true, b.inUse
	return b.inUse + len(b.queue) + b.hope, b.inUse
}

// settle takes the database's answer.
func (b *bucket) settle(units int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	more := units > b.granted
	b.granted, b.booked, b.frozen = units, units, false
	b.handOver()
	if more && b.hope > 0 && b.granter != nil {
		b.granter()
	}
}

// unsure takes it that the database's answer got lost: no more than was in use may be, and as much as was
// asked for may be booked, to be given back.
func (b *bucket) unsure(want, inUse int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.granted, b.booked, b.frozen = inUse, max(b.booked, want, inUse), false
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
}

func (b *bucket) demand() demand {
	b.mu.Lock()
	defer b.mu.Unlock()
	return demand{want: b.inUse + len(b.queue) + b.hope, inUse: b.inUse, granted: b.granted, booked: b.booked, idle: b.idle}
}

func (b *bucket) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

func (b *bucket) setSpec(s gantry.LimiterSpec) {
	b.mu.Lock()
	b.spec = s
	b.handOver()
	b.mu.Unlock()
}

// waitQueue orders waiters by priority, then by arrival.
type waitQueue []*waiter

func (q waitQueue) Len() int { return len(q) }
func (q waitQueue) Less(i, j int) bool {
	if q[i].priority != q[j].priority {
		return q[i].priority < q[j].priority
	}
	return q[i].serial < q[j].serial
}
func (q waitQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }

// Push is part of heap.Interface.
func (q *waitQueue) Push(x any) { w := x.(*waiter); w.index = len(*q); *q = append(*q, w) }

// Pop is part of heap.Interface.
func (q *waitQueue) Pop() any {
	old := *q
	w := old[len(old)-1]
	*q = old[:len(old)-1]
	return w
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
