package scheduler

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/line"
)

// starts is where callers that hold a unit wait for the starts that are booked of a limiter with a rate. One of them
// at a time has the turn: it books, and waits for the next start. At its time it gives it to a more urgent caller if
// one has come meanwhile, so that nobody waits behind starts that others took ahead.
type starts struct {
	mu      sync.Mutex
	taken   bool // somebody has the turn
	waiting line.Queue
	slots   []time.Time // booked starts, in order; of who has the turn
}

// enter waits for the turn, in the place that it was given up in if it was.
func (s *starts) enter(ctx context.Context, w *line.Waiter, priority int16) (*line.Waiter, error) {
	s.mu.Lock()
	if w == nil {
		w = s.waiting.Join(priority)
	} else {
		s.waiting.Rejoin(w)
	}
	s.next()
	s.mu.Unlock()
	select {
	case <-w.Ready:
		return w, nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-w.Ready: // at this moment
		s.taken = false
		s.next()
	default:
		s.waiting.Leave(w)
	}
	return nil, context.Cause(ctx)
}

func (s *starts) leave() {
	s.mu.Lock()
	s.taken = false
	s.next()
	s.mu.Unlock()
}

// next gives the turn on; mu is held.
func (s *starts) next() {
	if w := s.waiting.Next(func(int16) bool { return !s.taken }); w != nil {
		s.taken = true
		close(w.Ready)
	}
}

// overtaken tells whether a more urgent caller waits for the turn that w has, and not because it waited longest.
func (s *starts) overtaken(w *line.Waiter) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !w.Aged && s.waiting.UpTo(w.Priority-1) > 0
}

// start waits for the next booked start of a limiter with a rate. The caller holds a unit, so that
// a start is booked only for a call that can be made.
func (k *keeper) start(ctx context.Context, b *bucket, priority int16) error {
	if b.rate() <= 0 {
		return nil
	}
	b.addStarter(1)
	defer b.addStarter(-1)
	var w *line.Waiter
	for {
		var err error
		if w, err = b.starts.enter(ctx, w, priority); err != nil {
			return err
		}
		began, err := k.waitStart(ctx, b, w)
		b.starts.leave()
		if began || err != nil {
			return err
		}
	}
}

// waitStart waits for the next start, as the caller that has the turn; false if it is a more urgent one's.
func (k *keeper) waitStart(ctx context.Context, b *bucket, w *line.Waiter) (bool, error) {
	s := &b.starts
	for {
		at, err := k.nextSlot(ctx, b)
		if err != nil {
			return false, err
		}
		if err := sleepUntil(ctx, at); err != nil {
			return false, err
		}
		if gantry.IsHeld(ctx) {
			return false, gantry.ErrHeld
		}
		if s.overtaken(w) {
			return false, nil
		}
		s.slots = s.slots[1:]
		if b.rate() <= 0 || time.Since(at) < late(b.rate()) {
			return true, nil
		}
	}
}

// nextSlot gives the time of the next start, and books more where there is none; the caller has the turn.
func (k *keeper) nextSlot(ctx context.Context, b *bucket) (time.Time, error) {
	s := &b.starts
	for len(s.slots) > 0 && time.Since(s.slots[0]) >= late(b.rate()) {
		s.slots = s.slots[1:]
	}
	if len(s.slots) == 0 {
		n := max(1, min(b.startersNow(), int(b.rate()*bookAhead.Seconds())))
		first, step, err := k.reserve(ctx, b, n)
		if err != nil {
			return time.Time{}, fmt.Errorf("wait for a start: %w", err)
		}
		now := time.Now()
		for i := range n {
			s.slots = append(s.slots, now.Add(max(0, first+time.Duration(i)*step)))
		}
	}
	return s.slots[0], nil
}
