package app

import (
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	mostRecent = roomFor     // arrivals that are remembered at once: as many tasks of old objects may wait
	recentFor  = time.Minute // how long one is: its name may be erased in the database
)

// recent remembers the arrivals that this process made tasks of a moment ago, so that the tasks, which most often run here and
// soon, need not read them. The zero value is ready.
type recent struct {
	mu       sync.Mutex
	arrivals map[string]arrived // by the public id of the task
	order    []string           // as they came, a ring
	next     int
}

type arrived struct {
	gantry.Arrival
	at time.Time
}

// came notes the arrival that a task was made of just now, if its row, of which this is the id, is the one that was given: one
// that was on record before may say something else. One that is read in place is not remembered: where it lies may change.
func (r *recent) came(task string, id int64, a gantry.Arrival, now time.Time) {
	if id != a.ID || a.Location == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.arrivals == nil {
		r.arrivals = map[string]arrived{}
	}
	if len(r.order) < mostRecent {
		r.order = append(r.order, task)
	} else {
		delete(r.arrivals, r.order[r.next])
		r.order[r.next] = task
		r.next = (r.next + 1) % mostRecent
	}
	r.arrivals[task] = arrived{a, now}
}

// of gives the arrival of a task, once.
func (r *recent) of(task string, now time.Time) (gantry.Arrival, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.arrivals[task]
	delete(r.arrivals, task)
	return a.Arrival, ok && now.Sub(a.at) < recentFor
}
