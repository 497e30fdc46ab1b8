package scheduler

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// open lets the claimer run for a while; each task ends after a time of its own.
func (s *shop) open(d time.Duration, lasts func(gantry.Task) time.Duration) {
	ctx, shut := context.WithTimeout(s.t.Context(), d)
	defer shut()
	s.run(ctx, func(t gantry.Task) {
		s.all = append(s.all, t)
		time.AfterFunc(lasts(t), func() { s.finished(t) })
	})
	time.Sleep(time.Minute) // they end
}

// TestCrowdedProcess has a task end every two milliseconds: a full process claims several at once, and has nearly all of its
// places taken all the same. Where few end, each is followed by another soon.
func TestCrowdedProcess(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		places int
		each   time.Duration // between two ends
		claims [2]int        // at least and at most, in a second
		tasks  int           // at least
	}{
		"many end":   {64, 2 * time.Millisecond, [2]int{55, 75}, 530},
		"some end":   {64, 10 * time.Millisecond, [2]int{35, 45}, 155},
		"few end":    {64, 100 * time.Millisecond, [2]int{10, 14}, 73},
		"two places": {2, 10 * time.Millisecond, [2]int{45, 102}, 95},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, c.places, -1)
			s.add(1, 5000, 5)
			s.open(time.Second, func(x gantry.Task) time.Duration {
				if int(x.Task) <= c.places { // the first come together
					return time.Duration(x.Task) * c.each
				}
				return time.Duration(c.places) * c.each
			})
			if s.claims < c.claims[0] || s.claims > c.claims[1] || len(s.all) < c.tasks {
				t.Errorf("%s: %d claims of %d tasks", name, s.claims, len(s.all))
			}
		})
	}
}

// TestCrowdedProcessIsAwake: a process that is full and has not looked for long sees an urgent task as soon as it is told of it.
func TestCrowdedProcessIsAwake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, 8, -1)
		s.add(1, 100, 5)
		var began time.Time
		told := time.Now().Add(10*time.Second + 3*time.Millisecond)
		time.AfterFunc(time.Until(told), func() { s.add(3, 1, gantry.PriorityUrgent); s.wake(3) })
		s.open(20*time.Second, func(x gantry.Task) time.Duration {
			if x.Priority == gantry.PriorityUrgent {
				began = time.Now()
			}
			return 30 * time.Second
		})
		if wait := began.Sub(told); wait < 0 || wait > crowdEvery {
			t.Errorf("it waited %s", wait)
		}
	})
}
