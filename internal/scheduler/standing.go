package scheduler

import (
	"context"
	"math"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// never is longer than any timer of a keeper.
const never = time.Duration(math.MaxInt64)

// saw takes what a call showed of its target.
func (k *keeper) saw(limiter int32, x gantry.Showing) {
	k.mu.Lock()
	b := k.buckets[limiter]
	k.mu.Unlock()
	if b != nil {
		b.saw(x)
	}
}

// units is how many units a limiter has, if it was met.
func (k *keeper) units(limiter int32) (int, bool) {
	k.mu.Lock()
	b := k.buckets[limiter]
	k.mu.Unlock()
	if b == nil {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spec.MaxUnits, true
}

// reread has the rows of these limiters read again, or of all.
func (k *keeper) reread(limiters ...int32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(limiters) == 0 {
		for _, b := range k.buckets {
			b.outdate()
		}
		return
	}
	for _, id := range limiters {
		if b := k.buckets[id]; b != nil {
			b.outdate()
		}
	}
}

// tell writes to the row what this process found out about the target, and tells the others to read it. What
// could not be written is written later.
func (k *keeper) tell(ctx context.Context, b *bucket) {
	until, news := b.told()
	if until.IsZero() && len(news) == 0 {
		return
	}
	err := error(nil)
	if !until.IsZero() {
		err = k.store.Rest(ctx, b.id, time.Until(until))
	}
	for i := 0; err == nil && i < len(news); i++ {
		_, err = k.store.Breaker(ctx, k.worker, b.id, news[i])
	}
	if err != nil {
		if ctx.Err() == nil {
			k.log.Warn("tell of target", "limiter", b.id, "err", err)
		}
		return
	}
	b.wrote(until, len(news))
	k.notify(b.id)
}

// tellLast writes what is not written yet when the process ends: the target asked the fleet, not this process.
func (k *keeper) tellLast(b *bucket) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.ctx), time.Second)
	defer cancel()
	k.tell(ctx, b)
}

// probe asks for the probe of a breaker that has been open for its time, if somebody waits here who could be
// it, and says how long from now to look again.
func (k *keeper) probe(b *bucket) time.Duration {
	if !b.wantsProbe() {
		return never
	}
	ok, err := k.store.Breaker(k.ctx, k.worker, b.id, gantry.BreakerProbe)
	if err == nil && ok {
		b.allowProbe()
		k.notify(b.id)
	} else {
		b.outdate()
	}
	return shareEvery
}

// leave gives back what was granted of a limit that is none any more.
func (k *keeper) leave(b *bucket) {
	if d := b.demand(); d.booked == 0 && d.granted == 0 {
		return
	}
	if _, err := k.store.Grant(k.ctx, k.worker, b.id, 0, 0); err == nil {
		b.settle(0)
	}
}

// saw takes what a call showed, and pokes the keeper if the row must know.
func (b *bucket) saw(x gantry.Showing) {
	b.mu.Lock()
	now := time.Now()
	poke := b.temper.saw(x, b.spec.Breaker, now)
	if b.spec.Adaptive {
		most := b.spec.MaxUnits
		if b.spec.MaxUnits < 0 {
			most = ample
		}
		poke = b.ease.saw(x, b.inUse, most, now) || poke
	}
	b.mu.Unlock()
	if poke {
		b.nudge()
	}
}

// told gives what is to be written to the row: until when the target rests, zero if it does not, and what became of the breaker.
func (b *bucket) told() (until time.Time, news []gantry.BreakerNews) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &b.temper
	if !time.Now().Before(t.tellRest) {
		t.tellRest = time.Time{}
	}
	return t.tellRest, t.news[:len(t.news):len(t.news)]
}

// wrote notes that it was: n news, and the rest unless it has grown since, however long the writing took.
func (b *bucket) wrote(until time.Time, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &b.temper
	if t.tellRest.Equal(until) {
		t.tellRest = time.Time{}
	}
	t.news = t.news[n:]
	b.stale = b.stale || n > 0
}

// mayBegin tells whether a call that has its unit and its start may begin; the probe may while nobody else may.
func (b *bucket) mayBegin(probe bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	return !b.temper.shut(now) || probe && !now.Before(b.temper.begin)
}

// forgo gives back the unit of a call that did not begin.
func (b *bucket) forgo(probe bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveUp(probe)
}

// outdate has the row read again at once.
func (b *bucket) outdate() {
	b.mu.Lock()
	b.stale = true
	b.mu.Unlock()
	b.nudge()
}

// outdated tells whether the row is to be read again, once.
func (b *bucket) outdated() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.stale
	b.stale = false
	return was
}

// readEvery is how often the row is read if nobody says that it changed: as often as a full bucket looks
// whether others wait, where there are units to share.
func (b *bucket) readEvery() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.inUse+b.queue.Len()+b.hope == 0:
		return idleEvery
	case b.spec.MaxUnits < 0 && b.queue.Len() == 0:
		return specEvery
	}
	return shareEvery
}

// resting tells whether nobody may begin now, whatever units there are.
func (b *bucket) resting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.spec.MaxUnits == 0 || time.Now().Before(b.temper.begin)
}

// passOn hands out what has become free by time alone.
func (b *bucket) passOn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.temper.probes > 0 && b.queue.Len() == 0 {
		b.temper.forgo(time.Now()) // whoever wanted to be the probe is gone
	}
	b.handOver()
	if b.hope > 0 && b.granter != nil && b.free() > 0 {
		b.granter()
	}
}

// soon is when to pass on again; never if nobody waits for a time.
func (b *bucket) soon() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.temper.soon(time.Now()); d > 0 && b.queue.Len()+b.hope > 0 {
		return d
	}
	return never
}

// wantsProbe tells whether the breaker has been open for its time and somebody here has a unit to be the probe.
func (b *bucket) wantsProbe() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := &b.temper
	return t.state == gantry.BreakerOpen && len(t.news) == 0 && !time.Now().Before(t.begin) && b.queue.Len() > 0 &&
		(b.spec.MaxUnits < 0 || b.granted > b.inUse)
}

func (b *bucket) allowProbe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.temper.allow(time.Now())
	b.handOver()
}
