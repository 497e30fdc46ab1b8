package app

import (
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	mostRecent = roomFor     // arrivals that are remembered at once: as many tasks of old objects may wait
	recentFor  = time.Minute // how long one is: its name may be erased in the database
	mostScans  = 1 << 14     // files that are remembered to have passed the scanner: several studies, in 2 MiB
)

// latest remembers what came last, so much of it as is said with each. The zero value is ready.
type latest[K comparable, V any] struct {
	mu     sync.Mutex
	values map[K]V
	order  []K // as they came, a ring
	next   int
}

// put remembers a value beside at most most others. One that is known stays as it is.
func (l *latest[K, V]) put(k K, v V, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.values[k]; known {
		return
	}
	if l.values == nil {
		l.values = map[K]V{}
	}
	if len(l.order) < most {
		l.order = append(l.order, k)
	} else {
		delete(l.values, l.order[l.next])
		l.order[l.next] = k
		l.next = (l.next + 1) % most
	}
	l.values[k] = v
}

func (l *latest[K, V]) of(k K) (v V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok = l.values[k]
	return v, ok
}

func (l *latest[K, V]) take(k K) (v V, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v, ok = l.values[k]
	delete(l.values, k)
	return v, ok
}

// scans remembers which DICOM files passed the scanner as they came, and with which warning, by where their bytes lie, so
// that their task, which most often runs in the same process and soon, need not go through them again. The zero value is ready.
type scans struct {
	latest[string, gantry.Code]
}

// passed notes a file that passed with a warning, or without.
func (s *scans) passed(location string, warning gantry.Code) { s.put(location, warning, mostScans) }

// recent remembers the arrivals that this process made tasks of a moment ago, by the public id of the task, so that the tasks,
// which most often run here and soon, need not read them. The zero value is ready.
type recent struct {
	latest[string, arrived]
}

type arrived struct {
	gantry.Arrival
	at time.Time
}

// came notes the arrival that a task was made of just now, if its row, of which this is the id, is the one that was given: one
// that was on record before may say something else. One that is read in place is not remembered: where it lies may change.
func (r *recent) came(task string, id int64, a gantry.Arrival, now time.Time) {
	if id == a.ID && a.Location != "" {
		r.put(task, arrived{a, now}, mostRecent)
	}
}

// of gives the arrival of a task, once.
func (r *recent) of(task string, now time.Time) (gantry.Arrival, bool) {
	a, ok := r.take(task)
	return a.Arrival, ok && now.Sub(a.at) < recentFor
}

// arrival gives what a task was made of, once, if it came a moment ago.
func (a *App) arrival(task string) (gantry.Arrival, bool) { return a.recent.of(task, time.Now()) }
