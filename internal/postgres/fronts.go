package postgres

import (
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// lookBack is how long claims may go by the front of a queue before they look at all of it again. What becomes ready before it
// waits as long at most: a task that is tried again or handed back, and one whose enqueuing took longer to commit than that of others.
const lookBack = 500 * time.Millisecond

// longQueue is from how many tasks on a claim that gets all that it wants shows a long queue. Smaller claims look at all of it.
const longQueue = 32

// front is where the queue of a lane began at the last claim: at this priority nothing was ready before this task.
type front struct {
	priority int16
	task     gantry.TaskID
	until    time.Time // then all is looked at again
}

// fronts are those of lanes with more tasks than a claim of many took. Any other lane is looked at as a whole, so that in a queue that is
// short nothing waits.
type fronts struct {
	mu sync.Mutex
	by map[int32]front
}

// of gives the fronts of lanes; zero: all of the queue is to be looked at.
func (f *fronts) of(want []gantry.Want, now time.Time) []front {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := make([]front, len(want))
	for i, w := range want {
		if x := f.by[w.Lane]; w.N >= longQueue && now.Before(x.until) {
			from[i] = x
		}
	}
	return from
}

// took takes what a claim gave. Of a lane that gave all that was wanted, the front is the first task of the least urgent priority that came.
// What comes back is still wanted: the claim went by a front and found less than it wanted, and not because it takes some tasks one alone.
func (f *fronts) took(want []gantry.Want, tasks []gantry.Task, now time.Time) (rest []gantry.Want) {
	came, first, alone := map[int32]int{}, map[int32]front{}, map[int32]bool{}
	for _, t := range tasks { // by priority, then id
		came[t.Lane]++
		alone[t.Lane] = alone[t.Lane] || t.Role == gantry.Shard || t.Crashes >= 2
		if x, ok := first[t.Lane]; !ok || t.Priority > x.priority {
			first[t.Lane] = front{priority: t.Priority, task: t.Lease.Task, until: now.Add(lookBack)}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range want {
		if w.N < longQueue {
			continue
		}
		x, before := first[w.Lane], f.by[w.Lane]
		went := now.Before(before.until)
		switch short := w.N - came[w.Lane]; {
		case short > 0:
			delete(f.by, w.Lane)
			if went && !alone[w.Lane] {
				w.N, w.Aged = short, min(w.Aged, short)
				rest = append(rest, w)
			}
			continue
		case went:
			x.until = before.until
		}
		if f.by == nil {
			f.by = map[int32]front{}
		}
		f.by[w.Lane] = x
	}
	return rest
}
