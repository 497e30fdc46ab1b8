package model

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// unlimited stands for no limit where units are counted.
const unlimited = 1000000

// EnsureLimiter is postgres.Store.EnsureLimiter.
func (s *Store) EnsureLimiter(_ context.Context, key string, l gantry.LimiterSpec, declare bool) (int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.MaxUnits, l.Rate, l.Burst = max(l.MaxUnits, -1), max(l.Rate, 0), max(l.Burst, 1)
	i := slices.IndexFunc(s.limiters, func(x *limiter) bool { return x.key == key })
	if i < 0 {
		s.limiters = append(s.limiters, &limiter{key: key, spec: l, row: make(chan struct{}, 1)})
		return int32(len(s.limiters)), nil
	}
	x := s.limiters[i]
	l.Hold = max(l.Hold, x.spec.Hold)
	if !declare {
		hold := l.Hold
		l = x.spec
		l.Hold = hold
	}
	x.spec = l
	return int32(i + 1), nil
}

func (s *Store) limiter(id int32) (*limiter, error) {
	if id < 1 || int(id) > len(s.limiters) {
		return nil, errNoRows
	}
	return s.limiters[id-1], nil
}

// Limit is postgres.Store.Limit.
func (s *Store) Limit(_ context.Context, id int32) (gantry.LimiterSpec, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.limiter(id)
	if err != nil {
		return gantry.LimiterSpec{MaxUnits: -1}, fmt.Errorf("read limit %d: %w", id, err)
	}
	spec := l.spec
	spec.Hold = 0 // it is not read
	if spec.Breaker.Failures == 0 {
		spec.Breaker.Open = 0
	}
	if l.paused {
		spec.MaxUnits = 0
	}
	spec.Standing = l.standing(s.now())
	return spec, nil
}

// others is what grants of other processes than w add up to.
type others struct {
	units, want         int
	liveUnits, liveWant int  // of processes that live
	first               int  // units that these lack for urgent calls
	none                bool // one that waits has none
	short, liveNone     bool // of processes that live
}

func (s *Store) others(w gantry.WorkerID, limiter int32) (o others) {
	now := s.now()
	for k, g := range s.grants {
		if k.limiter != limiter || k.worker == w {
			continue
		}
		if g.heldUntil.IsZero() {
			o.liveUnits, o.liveWant = o.liveUnits+g.units, o.liveWant+g.want
			o.first += max(0, min(g.urgent, g.want-g.units))
			o.short = o.short || g.want > g.units
			o.liveNone = o.liveNone || g.want > 0 && g.units == 0
		}
		if g.heldUntil.IsZero() || g.heldUntil.After(now) {
			o.units, o.want = o.units+g.units, o.want+g.want
			o.none = o.none || g.want > 0 && g.units == 0
		}
	}
	return o
}

// max is how many units there are, but for those that parts hold that are out.
func (s *Store) max(id int32) int {
	l, n := s.limiters[id-1], unlimited
	if l.paused {
		n = 0
	} else if l.spec.MaxUnits >= 0 {
		n = l.spec.MaxUnits
	}
	return max(0, n-s.out(id))
}

// out counts the units of a limiter that parts hold.
func (s *Store) out(id int32) (n int) {
	for _, parts := range s.parts {
		for _, p := range parts {
			n += bit(p.outLimiter == id && p.outUntil.After(s.now()))
		}
	}
	return n
}

// Grant is postgres.Store.Grant: one statement locks the limiter's row, and the next sees what was granted
// until then.
func (s *Store) Grant(ctx context.Context, w gantry.WorkerID, limiter int32, want, inUse int) (int, error) {
	s.mu.Lock()
	l, err := s.limiter(limiter)
	before := s.others(w, limiter)
	s.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("grant of limit %d: %w", limiter, err)
	}
	select {
	case l.row <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("grant of limit %d: %w", limiter, ctx.Err())
	}
	defer func() { <-l.row }()
	if s.Hold != nil {
		s.Hold(w, limiter)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.others(w, limiter)
	if s.Without.Snapshot {
		o = before
	}
	if !s.alive(w) {
		return 0, fmt.Errorf("grant of limit %d: %w", limiter, errNoRows)
	}
	top, urgent := s.max(limiter), 0
	g := s.grants[grantKey{limiter, w}]
	if g != nil {
		urgent = g.urgent
	}
	share := want
	if o.want+want > top {
		share = shareOf(top, want, o.want, o.none)
	}
	free := top - o.units
	if urgent > 0 {
		share = max(share, inUse+urgent)
	} else {
		free -= o.first
	}
	units := max(inUse, min(want, max(0, free), share))
	if g == nil {
		g = &grant{}
		s.grants[grantKey{limiter, w}] = g
	}
	g.units, g.want = units, want
	return units, nil
}

// shareOf is the part of so many units that a want is entitled to beside the wants of others.
func shareOf(units, want, others int, none bool) int {
	share := float64(units) * float64(want) / float64(max(1, others+want))
	if none {
		return max(1, int(math.Floor(share)))
	}
	return int(math.Ceil(share))
}

// Share is postgres.Store.Share.
func (s *Store) Share(_ context.Context, w gantry.WorkerID, limiter int32, want int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.limiter(limiter); err != nil {
		return 0, fmt.Errorf("share of limit %d: %w", limiter, err)
	}
	o, top, urgent := s.others(w, limiter), s.max(limiter), 0
	all, held := 0, 0
	for k, g := range s.grants {
		if k.limiter == limiter && (g.heldUntil.IsZero() || g.heldUntil.After(s.now())) {
			all += g.units
			held += g.units * bit(!g.heldUntil.IsZero())
		}
	}
	if g := s.grants[grantKey{limiter, w}]; g != nil {
		urgent = g.urgent
	}
	most := top
	if o.first > 0 && urgent == 0 {
		most = max(0, top-o.liveUnits-o.first)
	}
	switch {
	case all > top:
		return min(most, max(0, top-held)*want/max(1, o.liveWant+want)), nil
	case top > 0 && (o.liveNone || o.short):
		return min(most, shareOf(top, want, o.liveWant, o.liveNone)), nil
	}
	return most, nil
}

// Reserve is postgres.Store.Reserve.
func (s *Store) Reserve(_ context.Context, limiter int32, n int) (first, step time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.limiter(limiter)
	if err != nil || l.spec.Rate <= 0 {
		return 0, 0, nil
	}
	now := s.now()
	step = seconds(1 / l.spec.Rate)
	at := now.Add(-seconds((l.spec.Burst - 1) / l.spec.Rate))
	if l.tat.After(at) {
		at = l.tat
	}
	if l.notBefore.After(at) {
		at = l.notBefore
	}
	l.tat = at.Add(seconds(float64(n) / l.spec.Rate))
	return at.Sub(now), step, nil
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
