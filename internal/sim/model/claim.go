package model

import (
	"cmp"
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Claim is postgres.Store.Claim. Of new shards, and of tasks that several processes died of, it takes one.
func (s *Store) Claim(_ context.Context, w gantry.WorkerID, want []gantry.Want) (out []gantry.Task, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive(w) {
		return nil, nil
	}
	shard := false
	for _, id := range s.chosen(want) {
		h := s.hot[id]
		if h.State == gantry.Inferring && h.Seq == 0 || h.Crashes >= gantry.CrashesToBeAlone {
			if shard {
				continue
			}
			shard = true
		}
		h.Phase, h.Owner, h.Seq, h.Aside = gantry.Owned, w, h.Seq+1, h.Crashes >= gantry.CrashesToBeAlone
		begun := s.begins(h, want)
		if begun {
			s.begin(id, h, w)
		}
		t := s.claimed(id)
		t.Begun = begun
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b gantry.Task) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Task, b.Task))
	})
	return out, nil
}

// begins tells whether a claim begins a task: it is queued, in time, and waits for nothing else.
func (s *Store) begins(h *Hot, want []gantry.Want) bool {
	return h.State == gantry.Queued && h.Crashes < gantry.CrashesToBeAlone && h.Priority < gantry.PriorityOffPeak && h.Until.After(s.now()) &&
		slices.ContainsFunc(want, func(x gantry.Want) bool { return x.Begin && x.Lane == h.Lane })
}

// begin is the transition out of the queue.
func (s *Store) begin(id gantry.TaskID, h *Hot, w gantry.WorkerID) {
	h.Seq, h.Attempt, h.State = h.Seq+1, 0, gantry.Extracting
	if within := s.pipelines[s.task(id).Pipeline-1].extracting; within > 0 {
		h.Until = s.now().Add(within)
	}
	s.addEvent(id, h, h.Seq, gantry.Queued, gantry.Extracting, w, gantry.Advance, "")
}

// chosen are the tasks to claim: the oldest first, then the most urgent of each lane.
func (s *Store) chosen(want []gantry.Want) (out []gantry.TaskID) {
	ready := make([][]gantry.TaskID, len(want))
	for i, x := range want {
		upto := x.Upto
		if upto == 0 {
			upto = gantry.LeastUrgent
		}
		ready[i] = s.ordered(func(h *Hot) bool { return h.Phase == gantry.Ready && h.Lane == x.Lane && h.Priority <= upto })
		aged := slices.Sorted(slices.Values(ready[i]))
		out = append(out, aged[:min(x.Aged, x.N, len(aged))]...)
	}
	slices.Sort(out)
	for i, x := range want {
		old := len(out)
		n := x.N
		for _, id := range out {
			n -= bit(s.hot[id].Lane == x.Lane)
		}
		for _, id := range ready[i] {
			if n > 0 && !slices.Contains(out[:old], id) {
				out = append(out, id)
				n--
			}
		}
	}
	return out
}

func bit(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// Alone is postgres.Store.Alone.
func (s *Store) Alone(_ context.Context, w gantry.WorkerID, l gantry.Lease) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.hot[l.Task]; h == nil || h.Seq != l.Seq || h.Owner != w || !s.alive(w) {
		return false, nil
	}
	s.hot[l.Task].Aside = false
	return true, nil
}

// Held is postgres.Store.Held.
func (s *Store) Held(_ context.Context, w gantry.WorkerID) (out []gantry.Task, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range s.ordered(func(h *Hot) bool { return h.Phase == gantry.Owned && h.Owner == w }) {
		out = append(out, s.claimed(id))
	}
	return out, nil
}

func (s *Store) claimed(id gantry.TaskID) gantry.Task {
	h, t := s.hot[id], s.task(id)
	return gantry.Task{Lease: gantry.Lease{Task: id, Seq: h.Seq}, PublicID: t.PublicID, Pipeline: t.Pipeline, Leg: h.Leg, Delivery: t.Delivery,
		State: h.State, Stage: h.Stage, Attempt: h.Attempt, Crashes: h.Crashes, Priority: h.Priority, Lane: h.Lane, Cursor: h.Cursor,
		Remaining: h.Until.Sub(s.now()), CreatedAt: t.Created, Parent: t.Parent, Role: t.Role, Ordinal: t.Ordinal}
}

// UrgentLanes is postgres.Store.UrgentLanes.
func (s *Store) UrgentLanes(_ context.Context, lanes []int32) (out []int32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lanes {
		if len(s.ordered(func(h *Hot) bool {
			return h.Phase == gantry.Ready && h.Lane == l && h.Priority <= gantry.PriorityUrgent
		})) > 0 {
			out = append(out, l)
		}
	}
	return out, nil
}

// OffPeak is postgres.Store.OffPeak.
func (s *Store) OffPeak(context.Context) (map[string]gantry.Windows, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offPeak, nil
}
