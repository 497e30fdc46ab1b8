package scheduler

import (
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// An urgent call that waits in a process without a free unit is not left to the shares, which may take a quarter of a
// second to move, and to which it counts as one of many. Its process puts down how many such calls wait, and presses the
// others: they look at their shares at once, keep back the next unit that comes free, and press in turn when it is on
// the books again.

// press takes note that something is to be looked at again before its time.
func (b *bucket) press() {
	b.mu.Lock()
	b.pressed = true
	b.mu.Unlock()
	b.nudge()
}

func (b *bucket) takePress() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pressed
	b.pressed = false
	return p
}

// urgent counts the urgent callers that wait for a unit.
func (b *bucket) urgent() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queue.UpTo(gantry.PriorityUrgent)
}

// urge tells the other processes how many urgent callers wait here, if that is news: the first, twice as many, and
// none any more.
func (k *keeper) urge(b *bucket) {
	n := b.urgent()
	if n > 0 && n < 2*b.urged || n == b.urged {
		return
	}
	if err := k.store.Urge(k.ctx, k.worker, b.id, n); err != nil {
		if k.ctx.Err() == nil {
			k.log.Warn("urge", "limiter", b.id, "err", err)
		}
		return
	}
	b.urged = n
	if n > 0 {
		k.others(b.id)
	}
}

// press has a limiter's bucket, if this process has one, looked at again.
func (k *keeper) press(limiter int32) {
	k.mu.Lock()
	b := k.buckets[limiter]
	k.mu.Unlock()
	if b != nil {
		b.press()
	}
}
