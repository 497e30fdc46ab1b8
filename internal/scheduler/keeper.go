package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	surplusAfter = 50 * time.Millisecond  // how long unused units are kept
	shareEvery   = 250 * time.Millisecond // how often a full bucket looks whether others wait
	specEvery    = 2 * time.Second        // how often limits are read again that somebody uses, if nobody says that they changed
	idleEvery    = 30 * time.Second       // and those that nobody uses
	askMin       = 10 * time.Millisecond  // between two asks for units that were not to be had
	askMax       = 100 * time.Millisecond
	restAsk      = time.Second            // and while nobody may begin
	bookAhead    = 250 * time.Millisecond // how much of a rate is booked at a time
	lateMin      = 10 * time.Millisecond  // a start may be this late in any case
	lateMax      = 100 * time.Millisecond // and never later than this
)

// keeper holds this process's share of every limit it has met. Units are leased from the database
// when demand changes, never per call.
type keeper struct {
	store  Store
	worker gantry.WorkerID
	log    *slog.Logger
	group  *errgroup.Group
	ctx    context.Context // of the tending goroutines
	rand   func() float64
	notify func(limiter int32) // tells other processes that a row changed
	others func(limiter int32) // presses the other processes

	mu      sync.Mutex
	buckets map[int32]*bucket
}

func newKeeper(ctx context.Context, g *errgroup.Group, store Store, w gantry.WorkerID, log *slog.Logger) *keeper {
	return &keeper{store: store, worker: w, log: log, group: g, ctx: ctx, buckets: map[int32]*bucket{},
		rand: func() float64 { return 0.5 }, notify: func(int32) {}, others: func(int32) {}}
}

// Acquire waits for one unit of a limiter and for its next start, and gives the function that gives
// the unit back. That function may be called more than once. While the target rests, or its breaker is open,
// nobody gets a unit: a target that was found so while its start was waited for is waited for again.
func (k *keeper) Acquire(ctx context.Context, limiter int32, priority int16) (release func(), err error) {
	b, err := k.bucket(ctx, limiter)
	if err != nil {
		return nil, err
	}
	if err := k.enter(ctx, ctx, b, priority); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { b.release(1) }), nil
}

// enter takes a unit, for which it waits as long as wait lasts, and waits for the start of a call.
func (k *keeper) enter(ctx, wait context.Context, b *bucket, priority int16) error {
	for {
		probe, err := b.acquire(wait, priority)
		if err != nil {
			return err
		}
		err = k.start(ctx, b, priority)
		if err == nil && b.mayBegin(probe) {
			return nil
		}
		b.forgo(probe)
		if err != nil {
			return err
		}
	}
}

// expect says that a call comes that will want a unit of a limiter, until done is called. A limiter that was not met
// yet is asked about when the call is here.
func (k *keeper) expect(limiter int32) (done func()) {
	k.mu.Lock()
	b := k.buckets[limiter]
	k.mu.Unlock()
	if b == nil {
		return func() {}
	}
	b.expect(1)
	return func() { b.expect(-1) }
}

// load counts the callers that wait for units of any limit, and the units in use.
func (k *keeper) load() (waiting, inUse int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.buckets {
		b.mu.Lock()
		waiting, inUse = waiting+b.queue.Len(), inUse+b.inUse
		b.mu.Unlock()
	}
	return waiting, inUse
}

// waiting counts the callers that wait for units, and those that have one and wait for a start.
func (k *keeper) waiting() (units, starts int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.buckets {
		b.mu.Lock()
		units, starts = units+b.queue.Len(), starts+b.starters
		b.mu.Unlock()
	}
	return units, starts
}

func (k *keeper) bucket(ctx context.Context, id int32) (*bucket, error) {
	k.mu.Lock()
	b := k.buckets[id]
	k.mu.Unlock()
	if b != nil {
		return b, nil
	}
	spec, err := k.store.Limit(ctx, id)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if b := k.buckets[id]; b != nil {
		return b, nil
	}
	b = newBucket(id, spec)
	b.temper.jitter = k.rand
	k.buckets[id] = b
	k.group.Go(func() error { k.tend(b); return nil })
	return b, nil
}

// tending is what is remembered of one bucket between two looks at it.
type tending struct {
	pause        time.Duration // before units that were not to be had are asked for again
	shared, read time.Time     // when the share and the row were looked at
	asked, again time.Time     // when it was asked for units; when those that were not to be had may be asked for again
	owed         bool          // the next unit is given back for an urgent call elsewhere
}

// tend keeps a bucket's units near its demand until the process ends.
func (k *keeper) tend(b *bucket) {
	timer := time.NewTimer(specEvery)
	defer timer.Stop()
	t := tending{pause: askMin, shared: time.Now(), read: time.Now()}
	for {
		select {
		case <-k.ctx.Done():
			k.tellLast(b)
			return
		case <-b.poke:
		case <-timer.C:
		}
		k.tell(k.ctx, b)
		k.learn(b, &t)
		next := k.balance(b, &t)
		next = min(next, k.probe(b))
		timer.Reset(min(next, b.soon()))
	}
}

// learn looks at the row and at the others where it is time, or somebody said that there is news.
func (k *keeper) learn(b *bucket, t *tending) {
	news := b.outdated()
	if news {
		t.again = time.Time{}
	}
	if news || time.Since(t.read) > b.readEvery() {
		if k.readSpec(b) {
			t.shared = time.Time{}
		}
		t.read = time.Now()
	}
	b.passOn()
	pressed := b.takePress()
	if pressed || time.Since(t.shared) > shareEvery {
		k.share(b)
		t.shared = time.Now()
	}
	if pressed {
		t.again, t.owed = time.Time{}, b.urgent() == 0
	}
	if b.urged > 0 {
		k.urge(b)
	}
}

// balance asks for units or gives some back where demand has changed, and says when to look again.
func (k *keeper) balance(b *bucket, t *tending) time.Duration {
	d := b.demand()
	short := d.want > d.granted && d.granted == d.booked
	switch {
	case b.unlimited():
		k.leave(b)
	case short && b.resting() && time.Since(t.asked) < restAsk:
		return shareEvery // nobody may begin; that somebody waits is on the books
	case d.regrant > 0:
		return d.regrant
	case short && time.Now().Before(t.again):
		return time.Until(t.again) // demand that comes call by call must not become a grant a call
	case d.granted < d.booked && d.inUse <= d.granted, short:
		return k.regrant(b, t, d)
	case d.want < d.booked && time.Since(d.idle) >= surplusAfter:
		k.grant(b)
		return shareEvery
	case d.want < d.booked:
		return surplusAfter
	case d.granted > 0:
		return shareEvery
	}
	return b.readEvery()
}

// regrant asks for what is wanted, or gives back what a share took, and says when to look again.
func (k *keeper) regrant(b *bucket, t *tending, before demand) time.Duration {
	t.asked = time.Now()
	k.grant(b)
	if before.granted < before.booked {
		k.notify(b.id) // somebody waits for what was given back
	}
	d := b.demand()
	if d.booked < before.booked && t.owed {
		t.owed = false
		k.others(b.id)
	}
	if d.want <= d.granted {
		t.pause = askMin
		return shareEvery
	}
	k.urge(b)
	next := t.pause
	t.again, t.pause = time.Now().Add(next), min(2*next, askMax)
	return next
}

// readSpec reads the row, and tells whether there are fewer units than before.
func (k *keeper) readSpec(b *bucket) (fewer bool) {
	spec, err := k.store.Limit(k.ctx, b.id)
	if err != nil {
		return false
	}
	return b.setSpec(spec)
}

// share gives way to processes that wait for units while this one has more than its share.
func (k *keeper) share(b *bucket) {
	d := b.demand()
	if b.unlimited() || d.granted == 0 {
		return
	}
	if units, err := k.store.Share(k.ctx, k.worker, b.id, d.want); err == nil && units < d.granted {
		b.shrink(units)
	}
}

func (k *keeper) grant(b *bucket) {
	want, inUse := b.ask()
	units, err := k.store.Grant(k.ctx, k.worker, b.id, want, inUse)
	fail.Point("after_grant")
	if err != nil {
		// Whether it was booked is not known; the least that may be booked is what is in use.
		if k.ctx.Err() == nil {
			k.log.Warn("grant", "limiter", b.id, "err", err)
		}
		b.unsure(want, inUse)
		return
	}
	b.settle(units)
}

// reserve books starts. Those whose answer took too long are missed already, and to begin late would crowd what was
// booked after them; but not even a slow database keeps calls waiting for ever.
func (k *keeper) reserve(ctx context.Context, b *bucket, n int) (first, step time.Duration, err error) {
	for range 3 {
		asked := time.Now()
		first, step, err = k.store.Reserve(ctx, b.id, n)
		if err != nil || time.Since(asked) < max(lateMax/2, late(b.rate())) {
			break
		}
	}
	return first, step, err
}

// late is by how much a booked start may be missed; one missed by more is lost. Late starts crowd
// those after them: within one step they never make a second hold more than rate and burst
// allow. Above 100 starts a second they may by 1 %, since no timer is that exact.
func late(rate float64) time.Duration {
	if rate <= 0 {
		return lateMax
	}
	return min(lateMax, max(lateMin, time.Duration(float64(time.Second)/rate)))
}

func sleepUntil(ctx context.Context, at time.Time) error {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-gantry.Held(ctx):
		return gantry.ErrHeld
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
