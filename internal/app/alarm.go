package app

import (
	"context"
	"sync"
	"time"
)

// alarm looks at something again and again: when it was told that it is time, and when the last look said so.
type alarm struct {
	kick chan struct{}

	mu   sync.Mutex
	next time.Time // of the next look
}

func newAlarm() *alarm { return &alarm{kick: make(chan struct{}, 1)} }

// due says that there is something to see after d.
func (a *alarm) due(d time.Duration) {
	at := time.Now().Add(max(d, closeSoon))
	a.mu.Lock()
	defer a.mu.Unlock()
	if !at.Before(a.next) {
		return
	}
	a.next = at
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

func (a *alarm) wait() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Until(a.next)
}

// run looks until ctx ends. look says when to look again.
func (a *alarm) run(ctx context.Context, look func(context.Context) time.Duration) {
	for {
		a.begin()
		a.end(look(ctx))
		for wait := a.wait(); wait > 0; wait = a.wait() {
			select {
			case <-ctx.Done():
				return
			case <-a.kick:
			case <-time.After(wait):
			}
		}
	}
}

// begin is called before a look: it may not see what comes meanwhile, which due puts down.
func (a *alarm) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next = time.Now().Add(closeIdle)
}

// end is called after a look that is made again after a time, or sooner if something came meanwhile.
func (a *alarm) end(again time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at := time.Now().Add(again); at.Before(a.next) {
		a.next = at
	}
}
