package scheduler

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSlowBookings makes some bookings of starts come back a second late: what was booked is over by then,
// and must not be used beside what others booked for that moment.
func TestSlowBookings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(gantry.LimiterSpec{MaxUnits: 8, Rate: 8, Burst: 1})
		n := 0 // mu is held
		b.slow = func() time.Duration {
			if n++; n%20 == 0 {
				return 1300 * time.Millisecond
			}
			return 0
		}
		s := &site{by: map[gantry.WorkerID]int{}}
		ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for w := range gantry.WorkerID(3) {
			s.load(ctx, &wg, process(t, b, w+1), 3, 20*time.Millisecond)
		}
		wg.Wait()
		slices.SortFunc(s.starts, time.Time.Compare)
		if most := s.within(time.Second); most > 8 || len(s.starts) < 200 {
			t.Errorf("%d starts within a second of 8 a second, with nobody late; %d in all", most, len(s.starts))
		}
	})
}

// TestEveryBookingIsSlow: a database that is always slow keeps nobody waiting for ever.
func TestEveryBookingIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(gantry.LimiterSpec{MaxUnits: 8, Rate: 8, Burst: 1})
		b.slow = func() time.Duration { return time.Second }
		k := process(t, b, 1)
		begun := time.Now()
		release, err := k.Acquire(t.Context(), 1, 5)
		if err != nil || time.Since(begun) > 5*time.Second {
			t.Fatalf("after %s: %v", time.Since(begun), err)
		}
		release()
	})
}
