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

// Urge is as the database's.
func (b *books) Urge(_ context.Context, w gantry.WorkerID, _ int32, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.urgent[w] = n
	return nil
}

// first is how many units others lack for urgent calls.
func (b *books) first(w gantry.WorkerID) (n int) {
	if b.urgent[w] > 0 {
		return 0
	}
	for o, u := range b.urgent {
		if o != w {
			n += max(0, min(u, b.want[o]-b.units[o]))
		}
	}
	return n
}

// begun counts the calls so far.
func (s *site) begun() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.starts)
}

// acrossProcesses has one process keep all units busy with calls of a second while another has a call to make, and says
// how many calls of the first began before it.
func acrossProcesses(t *testing.T, units int, priority int16, notified bool) int {
	b := newBooks(limited(units))
	busy, other := process(t, b, 1), process(t, b, 2)
	if notified {
		busy.others = func(l int32) { other.press(l) }
		other.others = func(l int32) { busy.press(l) }
	}
	s := &site{by: map[gantry.WorkerID]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	s.load(ctx, &wg, busy, 5*units, time.Second)
	time.Sleep(10*time.Second + 900*time.Millisecond)
	before := s.begun()
	release, err := other.Acquire(t.Context(), 1, priority)
	if err != nil {
		t.Fatal(err)
	}
	n := s.begun() - before
	s.mu.Lock()
	if s.now+1 > units {
		t.Errorf("%d calls at once of %d", s.now+1, units)
	}
	s.mu.Unlock()
	time.Sleep(time.Second)
	release()
	time.Sleep(5 * time.Second)
	after := s.begun()
	time.Sleep(10 * time.Second)
	if got := s.begun() - after; got < 9*units {
		t.Errorf("%d calls in ten seconds once the other process wants nothing: the units did not come back", got)
	}
	cancel()
	wg.Wait()
	return n
}

// TestUrgentCallOfAnotherProcess gets the next unit that comes free, though all are another process's, even if there is
// but one. The controls are a call that is not urgent, and one that the others are not told of.
func TestUrgentCallOfAnotherProcess(t *testing.T) {
	t.Parallel()
	for _, units := range []int{2, 4} {
		synctest.Test(t, func(t *testing.T) {
			if n := acrossProcesses(t, units, gantry.PriorityUrgent, true); n > units-1 {
				t.Errorf("%d calls began before the urgent one, which wants one of %d units", n, units)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			if n := acrossProcesses(t, units, 5, true); n < units {
				t.Errorf("%d calls began before one that is not urgent: the test shows nothing", n)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			if n := acrossProcesses(t, units, gantry.PriorityUrgent, false); n < units {
				t.Errorf("%d calls began before an urgent one that nobody was told of: the test shows nothing", n)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		if n := acrossProcesses(t, 1, gantry.PriorityUrgent, true); n != 0 {
			t.Errorf("%d calls began before the urgent one, which wants the only unit", n)
		}
	})
}

func TestPressedFor(t *testing.T) {
	t.Parallel()
	if got := parseLimits("3,u7,u,ux,7u,u99999999999,u8,l5", pressMark); !slices.Equal(got, []int32{7, 8}) {
		t.Errorf("%v", got)
	}
	if got := parseLanes("3,u7,9"); !slices.Equal(got, []int32{3, 9}) {
		t.Errorf("lanes %v", got)
	}
}
