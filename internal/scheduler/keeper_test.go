package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// books does for one limiter what the database does for all: it sums up grants and books starts.
type books struct {
	Store
	mu     sync.Mutex
	spec   gantry.LimiterSpec
	units  map[gantry.WorkerID]int
	want   map[gantry.WorkerID]int
	urgent map[gantry.WorkerID]int
	tat    time.Time
	grants int
	fail   func(grants int) bool
	lose   func(grants int) bool // it is booked, and its answer gets lost
	slow   func() time.Duration  // how long the answer to a booking takes

	notBefore, until time.Time
	prober           gantry.WorkerID
	probes           []time.Time
	writes           int
	deaf             bool // Limit says nothing of how the target stands
}

func newBooks(spec gantry.LimiterSpec) *books {
	return &books{spec: spec, units: map[gantry.WorkerID]int{}, want: map[gantry.WorkerID]int{}, urgent: map[gantry.WorkerID]int{}}
}

func (b *books) Limit(context.Context, int32) (gantry.LimiterSpec, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.spec
	if x.Standing = b.standing(); b.deaf {
		x.Standing = gantry.Standing{}
	}
	return x, nil
}

func (b *books) others(w gantry.WorkerID) (units, want int, short, none bool) {
	for o := range b.want {
		if o != w {
			units, want = units+b.units[o], want+b.want[o]
			short = short || b.want[o] > b.units[o]
			none = none || b.want[o] > 0 && b.units[o] == 0
		}
	}
	return units, want, short, none
}

func (b *books) Grant(_ context.Context, w gantry.WorkerID, _ int32, want, inUse int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grants++
	if b.fail != nil && b.fail(b.grants) {
		return 0, errLine
	}
	units, theirs, _, none := b.others(w)
	units += b.first(w)
	share := want
	switch {
	case theirs+want <= b.spec.MaxUnits, want == 0:
	case none:
		share = max(1, b.spec.MaxUnits*want/(theirs+want))
	default:
		share = (b.spec.MaxUnits*want + theirs + want - 1) / (theirs + want)
	}
	if b.urgent[w] > 0 {
		share = max(share, inUse+b.urgent[w])
	}
	b.want[w], b.units[w] = want, max(inUse, min(want, max(0, b.spec.MaxUnits-units), share))
	if b.lose != nil && b.lose(b.grants) {
		return 0, errLine
	}
	return b.units[w], nil
}

func (b *books) Share(_ context.Context, w gantry.WorkerID, _ int32, want int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	units, theirs, short, none := b.others(w)
	if first := b.first(w); first > 0 {
		return max(0, b.spec.MaxUnits-units-first), nil
	}
	switch all := max(1, theirs+want); {
	case none:
		return max(1, b.spec.MaxUnits*want/all), nil
	case short:
		return (b.spec.MaxUnits*want + all - 1) / all, nil
	}
	return b.spec.MaxUnits, nil
}

func (b *books) Reserve(_ context.Context, _ int32, n int) (first, step time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	step = time.Duration(float64(time.Second) / b.spec.Rate)
	if early := now.Add(-time.Duration(b.spec.Burst-1) * step); b.tat.Before(early) {
		b.tat = early
	}
	first = b.tat.Sub(now)
	b.tat = b.tat.Add(time.Duration(n) * step)
	if b.slow != nil {
		d := b.slow()
		b.mu.Unlock()
		time.Sleep(d)
		b.mu.Lock()
	}
	return first, step, nil
}

// figures says how many units a process has on the books, and how many grants there were in all.
func (b *books) figures(w gantry.WorkerID) (units, grants int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.units[w], b.grants
}

// process makes a keeper that ends with the test.
func process(t *testing.T, b *books, w gantry.WorkerID) *keeper {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	g := &errgroup.Group{}
	t.Cleanup(func() { cancel(); g.Wait() })
	return newKeeper(ctx, g, b, w, slog.New(slog.DiscardHandler))
}

// site counts the calls that reach a target.
type site struct {
	mu        sync.Mutex
	now, most int
	starts    []time.Time
	by        map[gantry.WorkerID]int
}

// load makes calls of the length through a keeper from so many callers until ctx ends.
func (s *site) load(ctx context.Context, wg *sync.WaitGroup, k *keeper, callers int, length time.Duration) {
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				release, err := k.Acquire(ctx, 1, 5)
				if err != nil {
					return
				}
				s.mu.Lock()
				s.now++
				s.most = max(s.most, s.now)
				s.starts = append(s.starts, time.Now())
				s.by[k.worker]++
				s.mu.Unlock()
				time.Sleep(length)
				s.mu.Lock()
				s.now--
				s.mu.Unlock()
				release()
				release() // the second does nothing
			}
		})
	}
}

func (s *site) within(window time.Duration) int {
	most, from := 0, 0
	for i, at := range s.starts {
		for at.Sub(s.starts[from]) >= window {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

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
