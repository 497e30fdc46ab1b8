package scheduler

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// heart keeps the lease. It counts the lease's life from before the heartbeat was sent, on its own
// monotonic clock, and calls it lost a fifth early: others begin to take over at its true end.
type heart struct {
	store  Store
	worker gantry.WorkerID
	ttl    time.Duration
	origin time.Time
	beat   atomic.Int64  // of the last good heartbeat, from origin
	lost   chan struct{} // closed once somebody was told that it is lost, and gave up what it held
	tell   sync.Once
	after  func(context.Context) // what is done at each good heartbeat; nil for nothing
}

func newHeart(store Store, w gantry.WorkerID, ttl time.Duration, first time.Time) *heart {
	return &heart{store: store, worker: w, ttl: ttl, origin: first, lost: make(chan struct{})}
}

// alive tells whether the lease surely still runs. Once it has said no it stays at that, even if a late heartbeat
// goes through: tasks were let go of by then.
func (h *heart) alive() bool {
	if time.Since(h.origin)-time.Duration(h.beat.Load()) >= h.ttl*4/5 {
		h.tell.Do(func() { close(h.lost) })
	}
	select {
	case <-h.lost:
		return false
	default:
		return true
	}
}

// run beats until ctx ends or the lease is lost.
func (h *heart) run(ctx context.Context) error {
	every := h.ttl / 3
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.lost:
			return ErrLeaseLost
		case <-timer.C:
		}
		next := every
		sent := time.Since(h.origin)
		bctx, cancel := context.WithTimeout(ctx, h.ttl/2)
		ok, err := h.store.Heartbeat(bctx, h.worker, h.ttl)
		cancel()
		switch {
		case err == nil && ok:
			h.beat.Store(int64(sent))
			h.then(ctx) // if it was called lost meanwhile, the next round says so
		case err == nil, !h.alive():
			if ctx.Err() != nil {
				return nil
			}
			return ErrLeaseLost
		default:
			next = min(every, 200*time.Millisecond)
		}
		timer.Reset(next)
	}
}

// then does what goes with a heartbeat, and never for so long that the next one is late.
func (h *heart) then(ctx context.Context) {
	if h.after == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.ttl/6)
	defer cancel()
	h.after(ctx)
}
