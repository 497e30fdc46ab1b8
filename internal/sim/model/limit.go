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
	return spec, nil
}

// others is what grants of other processes than w add up to.
type others struct {
	units, want, liveWant int
	none                  bool // one that waits has none
	liveShort, liveNone   bool // of processes that live
}

func (s *Store) others(w gantry.WorkerID, limiter int32) (o others) {
	now := s.now()
	for k, g := range s.grants {
		if k.limiter != limiter || k.worker == w {
			continue
		}
		if g.heldUntil.IsZero() {
			o.liveWant += g.want
			o.liveShort = o.liveShort || g.want > g.units
			o.liveNone = o.liveNone || g.want > 0 && g.units == 0
		}
		if g.heldUntil.IsZero() || g.heldUntil.After(now) {
			o.units, o.want = o.units+g.units, o.want+g.want
			o.none = o.none || g.want > 0 && g.units == 0
		}
	}
	return o
}

func (l *limiter) max() int {
	if l.spec.MaxUnits < 0 {
		return unlimited
	}
	return l.spec.MaxUnits
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
		s.Hold()
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
	top := l.max()
	share := want
	if o.want+want > top {
		share = shareOf(top, want, o.want, o.none)
	}
	units := max(inUse, min(want, max(0, top-o.units), share))
	s.grants[grantKey{limiter, w}] = &grant{units: units, want: want}
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
	l, err := s.limiter(limiter)
	if err != nil {
		return 0, fmt.Errorf("share of limit %d: %w", limiter, err)
	}
	o := s.others(w, limiter)
	if o.liveNone || o.liveShort {
		return min(l.max(), shareOf(l.max(), want, o.liveWant, o.liveNone)), nil
	}
	return l.max(), nil
}

// Reserve is postgres.Store.Reserve.
func (s *Store) Reserve(_ context.Context, limiter int32, n int) (first, step time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.limiter(limiter)
	if err != nil || l.spec.Rate <= 0 {
		return 0, 0, fmt.Errorf("reserve starts of limit %d: %w", limiter, errNoRows)
	}
	now := s.now()
	step = seconds(1 / l.spec.Rate)
	at := now.Add(-seconds((l.spec.Burst - 1) / l.spec.Rate))
	if l.tat.After(at) {
		at = l.tat
	}
	l.tat = at.Add(seconds(float64(n) / l.spec.Rate))
	return at.Sub(now), step, nil
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }
