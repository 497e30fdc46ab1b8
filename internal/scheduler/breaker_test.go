package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestBreaker has a target fail for twelve seconds. The fleet stops calling it, sends one probe each time it
// has been left alone for long enough, and goes on when one is answered.
func TestBreaker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spec := limited(6)
		spec.Breaker = gantry.Breaker{Failures: 5, Open: 5 * time.Second}
		b := newBooks(spec)
		begun := time.Now()
		s := &target{took: 20 * time.Millisecond, answer: func(int) gantry.Showing {
			if d := time.Since(begun); d > time.Second && d < 13*time.Second {
				return failing
			}
			return alive
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		s.load(ctx, fleet(t, b, 3), 4)
		after := func(d time.Duration) time.Time { return begun.Add(d) }
		if n := s.between(after(1001*time.Millisecond), after(5*time.Second)); n > 3*5+6 {
			t.Errorf("%d calls before all processes had stopped", n)
		}
		if n := s.between(after(2*time.Second), after(16*time.Second)); n != len(b.probes)-1 || n != 2 {
			t.Errorf("%d calls to a target that failed, %d probes", n, len(b.probes))
		}
		if n := s.between(after(19*time.Second), after(29*time.Second)); float64(n) < 10*6/s.took.Seconds()*0.95 {
			t.Errorf("%d calls in ten seconds after it had come back", n)
		}
	})
}

// TestFailuresInARow: one answer between failures keeps the breaker closed, and so does a refusal of what was
// sent or a request to wait.
func TestFailuresInARow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spec := limited(1)
		spec.Breaker = gantry.Breaker{Failures: 3, Open: time.Hour}
		b := newBooks(spec)
		k := fleet(t, b, 1)[0]
		row := []gantry.Showing{failing, failing, alive, failing, failing, busyFor(time.Second), failing, {}, failing}
		s := &target{answer: func(n int) gantry.Showing { return row[n] }}
		for range row {
			if err := s.call(t.Context(), k); err != nil {
				t.Fatal(err)
			}
		}
		if b.spec.State != gantry.BreakerClosed {
			t.Errorf("the breaker is %s", b.spec.State)
		}
		row = append(row, failing)
		s.call(t.Context(), k)
		synctest.Wait()
		if b.spec.State != gantry.BreakerOpen {
			t.Errorf("after three failures in a row the breaker is %s", b.spec.State)
		}
	})
}

// TestProbeIsForgone takes the caller away that was to be the probe, and loses a process with its probe out.
func TestProbeIsForgone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		spec := gantry.LimiterSpec{MaxUnits: 4, Rate: 0.2, Burst: 1, Breaker: gantry.Breaker{Failures: 1, Open: 2 * time.Second}}
		b := newBooks(spec)
		all := fleet(t, b, 2)
		s := &target{answer: func(n int) gantry.Showing {
			if n == 0 {
				return failing
			}
			return alive
		}}
		s.call(t.Context(), all[0])
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(3*time.Second, func() { cancel(gone) }) // it has the probe and waits for its start
		if err := s.call(ctx, all[0]); !errors.Is(err, gone) {
			t.Errorf("the caller that went: %v", err)
		}
		if err := s.call(t.Context(), all[1]); err != nil || s.starts[1].Sub(s.starts[0]) > 15*time.Second {
			t.Errorf("the next probe came after %s (%v)", s.starts[1].Sub(s.starts[0]), err)
		}
		synctest.Wait()
		if b.spec.State != gantry.BreakerClosed || len(b.probes) < 2 {
			t.Errorf("the breaker is %s after %d probes", b.spec.State, len(b.probes))
		}
	})
}

func TestNotificationsNameLanesAndLimits(t *testing.T) {
	t.Parallel()
	const payload = "3,l12,x,l,lx,l99999999999,-1,l-2,,7"
	if diff := cmp.Diff([]int32{3, -1, 7}, parseLanes(payload)); diff != "" {
		t.Errorf("lanes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int32{12, -2}, parseLimits(payload, limitMark)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}
