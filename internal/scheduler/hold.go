package scheduler

import (
	"context"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// surrenderEvery is how often surrendered units are told, unless callers wait for some.
const surrenderEvery = 50 * time.Millisecond

// Hold waits for a unit of a limiter, no longer than patience (then: ErrNoUnit), and for its next start. The
// unit is given back once what it was for is committed. With out a part has gone out that holds the unit
// from then on, on the database's books: this process has one less. giveBack may be called more than once.
func (s *Session) Hold(ctx context.Context, limiter int32, priority int16, patience time.Duration) (giveBack func(out bool), err error) {
	return s.keeper.hold(ctx, limiter, priority, patience)
}

func (k *keeper) hold(ctx context.Context, limiter int32, priority int16, patience time.Duration) (func(out bool), error) {
	b, err := k.bucket(ctx, limiter)
	if err != nil {
		return nil, err
	}
	wait, end := context.WithTimeoutCause(ctx, patience, gantry.ErrNoUnit)
	defer end()
	if err := k.enter(ctx, wait, b, priority); err != nil {
		return nil, err
	}
	var once sync.Once
	return func(out bool) {
		once.Do(func() {
			if out {
				b.surrender()
			} else {
				b.release(1)
			}
		})
	}, nil
}

// surrender gives up a unit that a part holds from now on. The database has this process still down for it,
// besides the part, until the next grant: a limit is never passed, at most not used for a moment. A grant under
// way may or may not have seen the part, so its answer is worth a unit less.
func (b *bucket) surrender() {
	b.mu.Lock()
	b.inUse--
	b.cap--
	if b.spec.MaxUnits >= 0 {
		b.granted = max(0, b.granted-1)
		b.gone++
	}
	b.mu.Unlock()
	b.nudge()
}

// regrant is how long the database need not hear yet of units that were surrendered: parts that go out one by one must
// not become a grant each. mu is held.
func (b *bucket) regrant() time.Duration {
	if b.gone == 0 {
		return 0
	}
	every := surrenderEvery
	if b.queue.Len() > 0 {
		every = askMin
	}
	return max(0, every-time.Since(b.asked))
}

// Hasten says that a delayed task is due before its time: it is looked for soon.
func (s *Session) Hasten() {
	select {
	case s.hurry <- struct{}{}:
	default:
	}
}
