package scheduler

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/fail"
)

const (
	reapEvery       = 500 * time.Millisecond // a task of a dead process waits so long beyond the lease
	promoteBatch    = 500
	promoteMax      = time.Second
	promoteMin      = 5 * time.Millisecond
	partitionsEvery = time.Hour
	hurryAfter      = 20 * time.Millisecond // so that answers that come together wake their task once
)

// keepHouse rescues tasks of dead processes, wakes delayed ones whose time has come, and makes the
// record's next partitions. Every process does it; rows locked by another are skipped.
func (s *Session) keepHouse(ctx context.Context) {
	reap := time.NewTimer(s.jitter(s.opts.TTL / 10))
	promote := time.NewTimer(0)
	partitions := time.NewTimer(s.jitter(time.Minute))
	for _, t := range []*time.Timer{reap, promote, partitions} {
		defer t.Stop()
	}
	for hurries := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-reap.C:
			lanes, err := s.store.Reap(ctx)
			s.report(ctx, "reap", err)
			if len(lanes) > 0 {
				fail.Point("after_reap")
				s.Wake(lanes...)
			}
			reap.Reset(s.jitter(min(s.opts.TTL/6, reapEvery)))
		case <-promote.C:
			hurries = false
			promote.Reset(s.promote(ctx))
		case <-s.hurry:
			if !hurries { // once, or whoever hurries often enough would put it off for ever
				hurries = true
				promote.Reset(hurryAfter)
			}
		case <-partitions.C:
			s.report(ctx, "make partitions", s.store.MakePartitions(ctx))
			partitions.Reset(partitionsEvery)
		}
	}
}

// promote wakes what is due and says when to look again.
func (s *Session) promote(ctx context.Context) time.Duration {
	lanes, next, err := s.store.Promote(ctx, promoteBatch)
	s.report(ctx, "promote", err)
	if len(lanes) > 0 {
		fail.Point("after_promote")
		s.Wake(lanes...)
	}
	if err != nil || next < 0 {
		return promoteMax / 2
	}
	return min(max(next, promoteMin), promoteMax/2)
}

func (s *Session) report(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		s.opts.Log.Warn(what, "err", err)
	}
}

func (s *Session) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + s.opts.Rand()/2))
}
