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

// Rest and Breaker do for the books what the database does for the row.
func (b *books) Rest(_ context.Context, _ int32, d time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes++
	if b.fail != nil && b.fail(b.writes) {
		return errLine
	}
	if at := time.Now().Add(d); at.After(b.notBefore) {
		b.notBefore = at
	}
	return nil
}

func (b *books) Breaker(_ context.Context, w gantry.WorkerID, _ int32, news gantry.BreakerNews) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	due := !time.Now().Before(b.until)
	mine := b.spec.State == gantry.BreakerHalfOpen && b.prober == w
	switch {
	case news == gantry.BreakerTrip && b.spec.State == gantry.BreakerClosed:
		b.spec.State, b.until = gantry.BreakerOpen, time.Now().Add(b.spec.Breaker.Open)
	case news == gantry.BreakerProbe && b.spec.State != gantry.BreakerClosed && due:
		b.spec.State, b.until, b.prober = gantry.BreakerHalfOpen, time.Now().Add(time.Minute), w
		b.probes = append(b.probes, time.Now())
	case news == gantry.BreakerAnswered && mine:
		b.spec.State = gantry.BreakerClosed
	case news == gantry.BreakerFailed && mine:
		b.spec.State, b.until = gantry.BreakerOpen, time.Now().Add(b.spec.Breaker.Open)
	case news == gantry.BreakerForgone && mine:
		b.spec.State, b.until = gantry.BreakerOpen, time.Now()
	default:
		return false, nil
	}
	return true, nil
}

// standing is the target as the row has it; mu is held.
func (b *books) standing() gantry.Standing {
	x := gantry.Standing{Paused: b.spec.Paused, State: b.spec.State}
	if x.State == gantry.BreakerHalfOpen && !time.Now().Before(b.until) {
		x.State = gantry.BreakerOpen
	}
	at := b.notBefore
	if x.State == gantry.BreakerOpen && b.until.After(at) {
		at = b.until
	}
	x.Rest = max(0, time.Until(at))
	return x
}

// fleet is some processes on one set of books that hear of each other's news at once.
func fleet(t *testing.T, b *books, n int) []*keeper {
	t.Helper()
	var all []*keeper
	for i := range n {
		k := process(t, b, gantry.WorkerID(i+1))
		k.rand = func() float64 { return float64(i) / float64(n) }
		k.notify = func(limiter int32) {
			for _, o := range all {
				o.reread(limiter)
			}
		}
		all = append(all, k)
	}
	return all
}

// target is a service that answers as it is told, and notes when it was called.
type target struct {
	mu     sync.Mutex
	starts []time.Time
	now    int
	most   int
	answer func(n int) gantry.Showing // of the n-th call, from 0
	took   time.Duration
}

// call makes one call as the gate does.
func (s *target) call(ctx context.Context, k *keeper) error {
	release, err := k.Acquire(ctx, 1, 5)
	if err != nil {
		return err
	}
	defer release()
	began := time.Now()
	s.mu.Lock()
	n := len(s.starts)
	s.starts = append(s.starts, began)
	s.now++
	s.most = max(s.most, s.now)
	x := s.answer(n)
	took := s.took
	s.mu.Unlock()
	time.Sleep(took)
	s.mu.Lock()
	s.now--
	s.mu.Unlock()
	x.Began, x.Took = began, time.Since(began)
	k.saw(1, x)
	return nil
}

// load calls from so many callers of each process until ctx ends.
func (s *target) load(ctx context.Context, all []*keeper, callers int) {
	var wg sync.WaitGroup
	for _, k := range all {
		for range callers {
			wg.Go(func() {
				for ctx.Err() == nil {
					if s.call(ctx, k) != nil {
						return
					}
				}
			})
		}
	}
	wg.Wait()
}

// between counts the starts from one moment to another.
func (s *target) between(from, to time.Time) (n int) {
	for _, at := range s.starts {
		if !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return n
}

var alive, failing = gantry.Showing{Verdict: gantry.Alive}, gantry.Showing{Verdict: gantry.Failing}

func busyFor(d time.Duration) gantry.Showing {
	return gantry.Showing{Verdict: gantry.Alive, Wait: d, Busy: true}
}

// TestTheFleetRests has a target ask one process for two seconds: of three processes, with a rate and
// without one, none calls it meanwhile. Then they begin a few at a time, and all units are used again.
func TestTheFleetRests(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]float64{"units alone": 0, "a rate": 100} {
		synctest.Test(t, func(t *testing.T) {
			b := newBooks(gantry.LimiterSpec{MaxUnits: 12, Rate: rate, Burst: 20})
			s := &target{took: 40 * time.Millisecond, answer: func(n int) gantry.Showing {
				if n == 30 {
					return busyFor(2 * time.Second)
				}
				return alive
			}}
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			defer cancel()
			s.load(ctx, fleet(t, b, 3), 8)
			slices.SortFunc(s.starts, time.Time.Compare)
			told := s.starts[30].Add(s.took)
			if n := s.between(told.Add(time.Millisecond), told.Add(2*time.Second)); n != 0 {
				t.Errorf("%s: %d calls while the target was to be left alone", name, n)
			}
			if n := s.between(told.Add(2*time.Second), told.Add(2020*time.Millisecond)); n > 6 {
				t.Errorf("%s: %d calls within 20 ms of the end of the rest", name, n)
			}
			full := 2 * 12 / s.took.Seconds()
			if rate > 0 {
				full = 2 * rate
			}
			if n := s.between(told.Add(2500*time.Millisecond), told.Add(4500*time.Millisecond)); float64(n) < full*0.95 {
				t.Errorf("%s: %d calls in the two seconds after, want %g", name, n, full)
			}
		})
	}
}

// TestDeafProcessesCall is the control: processes that do not read from the row that the target rests go on.
func TestDeafProcessesCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(12))
		b.deaf = true
		s := &target{took: 40 * time.Millisecond, answer: func(n int) gantry.Showing {
			if n == 30 {
				return busyFor(2 * time.Second)
			}
			return alive
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s.load(ctx, fleet(t, b, 3), 8)
		told := s.starts[30].Add(s.took)
		if n := s.between(told.Add(time.Millisecond), told.Add(2*time.Second)); n < 100 {
			t.Errorf("%d calls of processes that were not told", n)
		}
	})
}

// TestRestThatCouldNotBeTold fails to write the rest twice: here it holds at once, elsewhere once it is written.
func TestRestThatCouldNotBeTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(4))
		b.fail = func(int) bool { return b.writes > 0 && b.writes <= 2 }
		s := &target{took: 40 * time.Millisecond, answer: func(n int) gantry.Showing {
			if n == 10 {
				return busyFor(5 * time.Second)
			}
			return alive
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		s.load(ctx, fleet(t, b, 2), 4)
		told := s.starts[10].Add(s.took)
		if n := s.between(told.Add(time.Second), told.Add(5*time.Second)); n != 0 || b.writes < 3 {
			t.Errorf("%d calls, %d tries to write", n, b.writes)
		}
	})
}

// TestRestOnlyGrows asks for a long rest, then for a short one; and for one that is too long.
func TestRestOnlyGrows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(2))
		k := fleet(t, b, 1)[0]
		s := &target{answer: func(n int) gantry.Showing {
			return busyFor([]time.Duration{10 * time.Second, 100 * time.Hour}[min(n, 1)])
		}}
		if err := s.call(t.Context(), k); err != nil {
			t.Fatal(err)
		}
		k.saw(1, busyFor(time.Second))
		if err := s.call(t.Context(), k); err != nil || s.starts[1].Sub(s.starts[0]) < 10*time.Second {
			t.Errorf("the second call came after %s (%v)", s.starts[1].Sub(s.starts[0]), err)
		}
		s.call(t.Context(), k)
		if d := s.starts[2].Sub(s.starts[1]); d < gantry.MaxRest || d > gantry.MaxRest+2*time.Second {
			t.Errorf("a hundred hours became %s", d)
		}
	})
}

// TestRestIsLifted ends a rest from outside.
func TestRestIsLifted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(2))
		all := fleet(t, b, 2)
		s := &target{answer: func(n int) gantry.Showing {
			if n == 0 {
				return busyFor(10 * time.Minute)
			}
			return alive
		}}
		s.call(t.Context(), all[0])
		time.AfterFunc(time.Minute, func() {
			b.mu.Lock()
			b.notBefore = time.Time{}
			b.mu.Unlock()
			all[0].notify(1)
		})
		for _, k := range all {
			s.call(t.Context(), k)
		}
		if d := s.starts[2].Sub(s.starts[0]); d < time.Minute || d > time.Minute+time.Second {
			t.Errorf("both processes went on after %s", d)
		}
	})
}

// TestPauseHoldsCallers pauses a limit while callers wait: they end as held, and what runs goes on.
func TestPauseHoldsCallers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(1))
		k := fleet(t, b, 1)[0]
		release, err := k.Acquire(t.Context(), 1, 5)
		if err != nil {
			t.Fatal(err)
		}
		bu, _ := k.bucket(t.Context(), 1)
		ctx := gantry.WithHold(t.Context(), bu.hold())
		got := make(chan error, 1)
		go func() { _, err := k.Acquire(ctx, 1, 5); got <- err }()
		synctest.Wait()
		set := func(units int, paused bool) {
			b.mu.Lock()
			b.spec.MaxUnits, b.spec.Paused = units, paused
			b.mu.Unlock()
			k.reread(1)
			synctest.Wait()
		}
		set(0, true)
		if err := <-got; !errors.Is(err, gantry.ErrHeld) || !gantry.IsHeld(ctx) {
			t.Errorf("the caller that waited: %v", err)
		}
		release()
		time.Sleep(time.Second)
		if n, _ := b.figures(1); n != 0 {
			t.Errorf("%d units are kept of a limit that is paused", n)
		}
		set(1, false)
		if gantry.IsHeld(gantry.WithHold(t.Context(), bu.hold())) {
			t.Error("what begins after the pause is held")
		}
		if release, err = k.Acquire(t.Context(), 1, 5); err != nil {
			t.Fatal(err)
		}
		release()
	})
}

// TestRestReadLate reads a row twice, the first time with an answer that was long on its way: the second one says that
// the rest ends sooner than was thought, not that it is over.
func TestRestReadLate(t *testing.T) {
	now := time.Now()
	x := temper{jitter: func() float64 { return 0 }}
	x.read(gantry.Standing{Rest: 10 * time.Second}, now.Add(2*time.Second)) // as it was at now
	x.read(gantry.Standing{Rest: 7 * time.Second}, now.Add(3*time.Second))
	if !x.shut(now.Add(3*time.Second)) || !x.shut(now.Add(9999*time.Millisecond)) || x.shut(now.Add(10*time.Second)) {
		t.Errorf("calls begin at %s, want 10s", x.begin.Sub(now))
	}
	x.read(gantry.Standing{}, now.Add(4*time.Second))
	if x.shut(now.Add(4 * time.Second)) {
		t.Error("a rest that was lifted stands")
	}
}
