package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	surplusAfter = 50 * time.Millisecond  // how long unused units are kept
	shareEvery   = 250 * time.Millisecond // how often a full bucket looks whether others wait
	specEvery    = 2 * time.Second        // how often limits are read again
	askMin       = 10 * time.Millisecond  // between two asks for units that were not to be had
	askMax       = 100 * time.Millisecond
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

	mu      sync.Mutex
	buckets map[int32]*bucket
}

func newKeeper(ctx context.Context, g *errgroup.Group, store Store, w gantry.WorkerID, log *slog.Logger) *keeper {
	return &keeper{store: store, worker: w, log: log, group: g, ctx: ctx, buckets: map[int32]*bucket{}}
}

// Acquire waits for one unit of a limiter and for its next start, and gives the function that gives
// the unit back. That function may be called more than once.
func (k *keeper) Acquire(ctx context.Context, limiter int32, priority int16) (release func(), err error) {
	b, err := k.bucket(ctx, limiter)
	if err != nil {
		return nil, err
	}
	if err := b.acquire(ctx, priority); err != nil {
		return nil, err
	}
	release = sync.OnceFunc(func() { b.release(1) })
	if err := k.start(ctx, b); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// load counts the callers that wait for units of any limit, and the units in use.
func (k *keeper) load() (waiting, inUse int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, b := range k.buckets {
		b.mu.Lock()
		waiting, inUse = waiting+len(b.queue), inUse+b.inUse
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
		units, starts = units+len(b.queue), starts+b.starters
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
	k.buckets[id] = b
	k.group.Go(func() error { k.tend(b); return nil })
	return b, nil
}

// tend keeps a bucket's units near its demand until the process ends.
func (k *keeper) tend(b *bucket) {
	timer := time.NewTimer(specEvery)
	defer timer.Stop()
	pause, shared, read := askMin, time.Now(), time.Now()
	var again time.Time // when units that were not to be had may be asked for again
	for {
		select {
		case <-k.ctx.Done():
			return
		case <-b.poke:
		case <-timer.C:
		}
		if time.Since(read) > specEvery {
			k.readSpec(b)
			read = time.Now()
		}
		if time.Since(shared) > shareEvery {
			k.share(b)
			shared = time.Now()
		}
		next := specEvery
		switch d := b.demand(); {
		case b.unlimited():
		case d.want > d.granted && d.granted == d.booked && time.Now().Before(again):
			next = time.Until(again) // demand that comes call by call must not become a grant a call
		case d.granted < d.booked && d.inUse <= d.granted, d.want > d.granted && d.granted == d.booked:
			k.grant(b)
			if d = b.demand(); d.want > d.granted {
				next, again, pause = pause, time.Now().Add(pause), min(2*pause, askMax)
			} else {
				next, pause = shareEvery, askMin
			}
		case d.want < d.booked && time.Since(d.idle) >= surplusAfter:
			k.grant(b)
			next = shareEvery
		case d.want < d.booked:
			next = surplusAfter
		case d.granted > 0:
			next = shareEvery
		}
		timer.Reset(next)
	}
}

func (k *keeper) readSpec(b *bucket) {
	if spec, err := k.store.Limit(k.ctx, b.id); err == nil {
		b.setSpec(spec)
	}
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

// start waits for the next booked start of a limiter with a rate. The caller holds a unit, so that
// a start is booked only for a call that can be made.
func (k *keeper) start(ctx context.Context, b *bucket) error {
	if b.rate() <= 0 {
		return nil
	}
	for {
		at, err := k.nextSlot(ctx, b)
		if err != nil {
			return err
		}
		if err := sleepUntil(ctx, at); err != nil {
			return err
		}
		if time.Since(at) < late(b.rate()) {
			return nil
		}
	}
}

func (k *keeper) nextSlot(ctx context.Context, b *bucket) (time.Time, error) {
	b.addStarter(1)
	defer b.addStarter(-1)
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	}
	defer func() { <-b.turn }()
	for len(b.slots) > 0 && time.Since(b.slots[0]) >= late(b.rate()) {
		b.slots = b.slots[1:]
	}
	if len(b.slots) == 0 {
		n := max(1, min(b.startersNow(), int(b.rate()*bookAhead.Seconds())))
		first, step, err := k.reserve(ctx, b, n)
		if err != nil {
			return time.Time{}, fmt.Errorf("wait for a start: %w", err)
		}
		now := time.Now()
		for i := range n {
			b.slots = append(b.slots, now.Add(max(0, first+time.Duration(i)*step)))
		}
	}
	at := b.slots[0]
	b.slots = b.slots[1:]
	return at, nil
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
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
