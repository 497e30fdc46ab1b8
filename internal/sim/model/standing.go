package model

import (
	"context"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// standing is how a target stands; limitSQL.
func (l *limiter) standing(now time.Time) (x gantry.Standing) {
	x.Paused = l.paused
	until := l.notBefore
	if l.spec.Breaker.Failures > 0 {
		x.State = l.breaker.state
		if x.State == gantry.BreakerHalfOpen && !l.breaker.until.After(now) {
			x.State = gantry.BreakerOpen // its probe is lost
		}
		if l.breaker.state == gantry.BreakerOpen && l.breaker.until.After(until) {
			until = l.breaker.until
		}
	}
	if until.After(now) {
		x.Rest = until.Sub(now).Truncate(time.Microsecond)
	}
	return x
}

// Rest is postgres.Store.Rest.
func (s *Store) Rest(_ context.Context, limiter int32, d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.limiter(limiter)
	if err != nil || s.Without.Rest {
		return nil
	}
	if at := s.now().Add(min(d, gantry.MaxRest)); at.After(l.notBefore) {
		l.notBefore = at
	}
	return nil
}

// Breaker is postgres.Store.Breaker.
func (s *Store) Breaker(_ context.Context, w gantry.WorkerID, limiter int32, news gantry.BreakerNews) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.limiter(limiter)
	if err != nil {
		return false, nil
	}
	b, now := &l.breaker, s.now()
	mine := b.state == gantry.BreakerHalfOpen && b.worker == w
	on := l.spec.Breaker.Failures > 0
	switch {
	case news == gantry.BreakerTrip && on && b.state == gantry.BreakerClosed:
		b.state, b.until, b.worker = gantry.BreakerOpen, now.Add(l.spec.Breaker.Open), w
	case news == gantry.BreakerProbe && on && b.state != gantry.BreakerClosed && !b.until.After(now) && !l.notBefore.After(now):
		b.state, b.until, b.worker = gantry.BreakerHalfOpen, now.Add(l.spec.Hold+5*time.Second), w
	case news == gantry.BreakerAnswered && mine:
		b.state, b.until, b.worker = gantry.BreakerClosed, time.Time{}, 0
	case news == gantry.BreakerFailed && mine:
		b.state, b.until = gantry.BreakerOpen, now.Add(l.spec.Breaker.Open)
	case news == gantry.BreakerForgone && mine:
		b.state, b.until = gantry.BreakerOpen, now
	default:
		return false, nil
	}
	return true, nil
}

// PauseLimit is postgres.Store.PauseLimit.
func (s *Store) PauseLimit(ctx context.Context, key, _ string) (bool, error) {
	return s.operate(ctx, key, func(l *limiter) { l.paused = true })
}

// ResumeLimit is postgres.Store.ResumeLimit.
func (s *Store) ResumeLimit(ctx context.Context, key string) (bool, error) {
	return s.operate(ctx, key, func(l *limiter) {
		l.paused, l.notBefore = false, time.Time{}
		l.breaker.state, l.breaker.until, l.breaker.worker = gantry.BreakerClosed, time.Time{}, 0
	})
}

func (s *Store) operate(ctx context.Context, key string, do func(*limiter)) (bool, error) {
	s.mu.Lock()
	found := 0
	for i, l := range s.limiters {
		if l.key == key {
			found = i + 1
			do(l)
		}
	}
	s.mu.Unlock()
	if found == 0 {
		return false, nil
	}
	return true, s.Notify(ctx, "l"+strconv.Itoa(found))
}

// Urge is postgres.Store.Urge.
func (s *Store) Urge(_ context.Context, w gantry.WorkerID, limiter int32, urgent int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.grants[grantKey{limiter, w}]; g != nil {
		g.urgent = urgent
	}
	return nil
}
