package scheduler

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestStartsAreSpaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(gantry.LimiterSpec{MaxUnits: 8, Rate: 20, Burst: 5})
		s := &site{by: map[gantry.WorkerID]int{}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for w, callers := range map[gantry.WorkerID]int{1: 20, 2: 8, 3: 1} {
			s.load(ctx, &wg, process(t, b, w), callers, 175*time.Millisecond)
		}
		wg.Wait()
		if n := s.within(time.Second); n > 25 || s.most > 8 {
			t.Errorf("%d starts within a second, %d at once", n, s.most)
		}
		if n := len(s.starts); n < 590 {
			t.Errorf("%d starts in 30 s of 604", n)
		}
		slices.SortFunc(s.starts, time.Time.Compare)
		for i := 20; i < len(s.starts); i++ {
			if gap := s.starts[i].Sub(s.starts[i-1]); gap < 49*time.Millisecond {
				t.Fatalf("start %d comes %s after the one before", i, gap)
			}
		}
	})
}

// TestUnitsFollowDemand has three processes of 20, 10 and 2 callers share eight units: all units are
// used, none twice, and the smallest process has its turn.
func TestUnitsFollowDemand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(8))
		s := &site{by: map[gantry.WorkerID]int{}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for w, callers := range map[gantry.WorkerID]int{1: 20, 2: 10, 3: 2} {
			s.load(ctx, &wg, process(t, b, w), callers, 100*time.Millisecond)
		}
		wg.Wait()
		if s.most != 8 {
			t.Errorf("%d at once of 8", s.most)
		}
		if n := len(s.starts); n < 2400*95/100 {
			t.Errorf("%d calls of 2400", n)
		}
		if s.by[3] < 100 {
			t.Errorf("calls by process: %v; the third might have made 300", s.by)
		}
		if _, n := b.figures(0); n > 1000 {
			t.Errorf("%d grants for %d calls", n, len(s.starts))
		}
	})
}

func TestIdleUnitsGoBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(8))
		k := process(t, b, 1)
		release, err := k.Acquire(t.Context(), 1, 5)
		if n, _ := b.figures(1); err != nil || n != 1 {
			t.Fatalf("%d units (%v)", n, err)
		}
		release()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n, _ := b.figures(1); n != 0 {
			t.Errorf("%d units are kept by a process that wants none", n)
		}
	})
}

// TestFailedGrants lets every third grant fail: it costs time, but neither units nor limits.
func TestFailedGrants(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(4))
		b.fail = func(n int) bool { return n%3 == 1 }
		s := &site{by: map[gantry.WorkerID]int{}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for w := range gantry.WorkerID(2) {
			s.load(ctx, &wg, process(t, b, w+1), 6, 100*time.Millisecond)
		}
		wg.Wait()
		if s.most > 4 || len(s.starts) < 360 {
			t.Errorf("%d at once, %d calls of 400", s.most, len(s.starts))
		}
	})
}

// TestLostGrantIsGivenBack loses the answer to the one grant of a process that wants no more soon after: what
// was booked goes back, or nobody else could ever have it.
func TestLostGrantIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(4))
		b.lose = func(n int) bool { return n == 1 }
		k := process(t, b, 1)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		if release, err := k.Acquire(ctx, 1, 5); err == nil {
			release()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if units, grants := b.figures(1); units != 0 || grants < 2 {
			t.Errorf("%d units are kept after %d grants", units, grants)
		}
	})
}

func TestLimitsAreReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(0))
		k := process(t, b, 1)
		passed := false
		go func() {
			release, err := k.Acquire(t.Context(), 1, 5)
			passed = err == nil
			if passed {
				release()
			}
		}()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if passed {
			t.Fatal("a paused target was called")
		}
		b.mu.Lock()
		b.spec = limited(2)
		b.mu.Unlock()
		time.Sleep(specEvery + time.Second)
		synctest.Wait()
		if !passed {
			t.Error("the pause has ended, but the caller waits")
		}
	})
}

func TestCancelledStartGivesTheUnitBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		b := newBooks(gantry.LimiterSpec{MaxUnits: 1, Rate: 0.1, Burst: 1})
		k := process(t, b, 1)
		release, err := k.Acquire(t.Context(), 1, 5)
		if err != nil {
			t.Fatal(err)
		}
		release()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, gone)
		defer cancel()
		if _, err := k.Acquire(ctx, 1, 5); !errors.Is(err, gone) {
			t.Errorf("a start that is 10 s away: %v", err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		n, _ := b.figures(1)
		if bu, _ := k.bucket(t.Context(), 1); bu.demand().inUse != 0 || n != 0 {
			t.Errorf("the unit stayed out: %+v", bu.demand())
		}
	})
}

func TestLate(t *testing.T) {
	t.Parallel()
	for rate, want := range map[float64]time.Duration{0: lateMax, 0.5: lateMax, 20: 50 * time.Millisecond, 5000: lateMin} {
		if got := late(rate); got != want {
			t.Errorf("at %g a second a start may be %s late, want %s", rate, got, want)
		}
	}
}
