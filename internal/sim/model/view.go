package model

import (
	"maps"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// View reads what stands in the tables while nothing changes them.
type View struct{ s *Store }

// Look runs f while the store stands still. f must not call the store's methods.
func (s *Store) Look(f func(View)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(View{s})
}

// Tasks are the rows of task by id.
func (v View) Tasks() []*Task { return v.s.tasks }

// Task finds a task by its id.
func (v View) Task(id gantry.TaskID) *Task { return v.s.task(id) }

// Hot is the row of a task that has not ended; nil if it has.
func (v View) Hot(id gantry.TaskID) *Hot { return v.s.hot[id] }

// Events are all events in the order of their making.
func (v View) Events() []Event { return v.s.events }

// Intents are all intents in the order of their making.
func (v View) Intents() []Intent { return v.s.intents }

// Outcomes are all outcomes in the order of their making.
func (v View) Outcomes() []gantry.Outcome { return v.s.outcomes }

// Outcome finds the outcome of a call; ok is false if there is none.
func (v View) Outcome(task gantry.TaskID, id gantry.UUID) (o gantry.Outcome, ok bool) {
	n := v.s.ends[callKey{task, id}]
	if n == 0 {
		return o, false
	}
	return v.s.outcomes[n-1], true
}

// Part finds a part as it is; ok is false if it is not planned.
func (v View) Part(task gantry.TaskID, k gantry.PartKey) (gantry.Part, bool) {
	p := v.s.parts[task][k]
	if p == nil {
		return gantry.Part{}, false
	}
	return p.Part, true
}

// Holds tells whether a worker holds a lease on a task, whatever guards are taken away.
func (v View) Holds(w gantry.WorkerID, l gantry.Lease) bool {
	h := v.s.hot[l.Task]
	return h != nil && h.Seq == l.Seq && h.Owner == w
}

// Alive tells whether a worker's lease runs.
func (v View) Alive(w gantry.WorkerID) bool { return v.s.alive(w) }

// Workers are those that were not taken off the books.
func (v View) Workers() []gantry.WorkerID { return slices.Sorted(maps.Keys(v.s.workers)) }

// Grant is a row of limit_grant.
type Grant struct {
	Limiter     int32
	Worker      gantry.WorkerID
	Units, Want int
	Held        time.Time // zero: its process lives
}

// Grants are the units that processes hold, by limiter and worker.
func (v View) Grants() (out []Grant) {
	for k, g := range v.s.grants {
		out = append(out, Grant{k.limiter, k.worker, g.units, g.want, g.heldUntil})
	}
	slices.SortFunc(out, func(a, b Grant) int {
		if a.Limiter != b.Limiter {
			return int(a.Limiter - b.Limiter)
		}
		return int(a.Worker - b.Worker)
	})
	return out
}

// Commands are what operators asked for.
func (v View) Commands() []Command { return v.s.commands }

// Arrivals counts the rows of arrival.
func (v View) Arrivals() int { return len(v.s.arrivals) }

// Owned counts the tasks in progress under a limiter of lanes.
func (v View) Owned(limiter int32) (n int) {
	for _, h := range v.s.hot {
		if h.Phase == gantry.Owned && v.s.lanes[h.Lane-1].Limiter == limiter {
			n++
		}
	}
	return n
}

// Paused tells whether a task is paused by somebody's wish.
func (v View) Paused(id gantry.TaskID) bool {
	_, ok := v.s.pauses[id]
	return ok
}
