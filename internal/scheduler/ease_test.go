package scheduler

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// crowd is a target that does four calls at once well, and is slower by a square the more there are.
func crowd(s *target) func(int) gantry.Showing {
	return func(int) gantry.Showing {
		n := max(4, s.now)
		s.took = 10 * time.Millisecond * time.Duration(n*n) / 16
		return alive
	}
}

// TestAdaptiveLimitFollowsTheTarget has 32 callers at a target that has room for about four, with a limit of
// 32: the units in use shrink to a part, and the calls become faster. Without adaptive they do not.
func TestAdaptiveLimitFollowsTheTarget(t *testing.T) {
	t.Parallel()
	for _, adaptive := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			spec := limited(32)
			spec.Adaptive = adaptive
			b := newBooks(spec)
			s := &target{}
			s.answer = crowd(s)
			k := fleet(t, b, 1)[0]
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			time.AfterFunc(15*time.Second, func() { s.mu.Lock(); s.most = 0; s.mu.Unlock() })
			s.load(ctx, []*keeper{k}, 32)
			if most := s.most; adaptive && (most > 16 || most < 4) || !adaptive && most != 32 {
				t.Errorf("adaptive %t: %d calls at once", adaptive, most)
			}
		})
	}
}

// TestAdaptiveLimitGrowsBack refuses calls for a while; then the declared limit is used again, and never more.
func TestAdaptiveLimitGrowsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spec := limited(16)
		spec.Adaptive = true
		b := newBooks(spec)
		begun := time.Now()
		s := &target{took: 20 * time.Millisecond}
		s.answer = func(int) gantry.Showing {
			if d := time.Since(begun); d > 2*time.Second && d < 3*time.Second && s.now > 2 {
				return gantry.Showing{Verdict: gantry.Failing, Busy: true}
			}
			return alive
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		least := 16
		time.AfterFunc(2900*time.Millisecond, func() { s.mu.Lock(); least = s.now; s.most = 0; s.mu.Unlock() })
		s.load(ctx, fleet(t, b, 1), 24)
		if least > 4 || s.most != 16 {
			t.Errorf("%d at once while it refused, %d after", least, s.most)
		}
	})
}

func TestEaseHearsOnlyOfWhatItChanged(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var e ease
	for range 10 { // all began before the first refusal was heard of
		e.saw(gantry.Showing{Began: now.Add(-time.Second), Verdict: gantry.Failing, Busy: true}, 16, 16, now)
	}
	if e.top() != 8 {
		t.Errorf("ten refusals of one moment left %d of 16 units", e.top())
	}
	for range 20 {
		e.saw(gantry.Showing{Began: now.Add(time.Second), Verdict: gantry.Failing, Busy: true}, 1, 16, now)
	}
	if e.top() != 1 {
		t.Errorf("%d units are left, want one: nobody would ever find out that the target is back", e.top())
	}
}

// TestLookIsNotLedAstray has a call begin with the unit of the one whose end began a look: it waits behind all the
// others, and says nothing of the target at its best.
func TestLookIsNotLedAstray(t *testing.T) {
	t.Parallel()
	began := time.Now()
	took := func(at, took time.Duration) gantry.Showing {
		return gantry.Showing{Began: began.Add(at), Took: took, Verdict: gantry.Alive}
	}
	var e ease
	e.saw(took(-80*time.Millisecond, 80*time.Millisecond), 24, 24, began) // another has its unit already
	for left := 23; left >= 6; left-- {
		e.saw(took(-80*time.Millisecond, 300*time.Millisecond), left, 24, began.Add(240*time.Millisecond))
	}
	e.saw(took(time.Microsecond, 330*time.Millisecond), 6, 24, began.Add(330*time.Millisecond))
	for range 6 {
		e.saw(took(250*time.Millisecond, 80*time.Millisecond), 6, 24, began.Add(330*time.Millisecond))
	}
	if e.best < 0.079 || e.best > 0.081 {
		t.Errorf("the target at its best takes %.3f s, and was seen to take 0.08", e.best)
	}
}
