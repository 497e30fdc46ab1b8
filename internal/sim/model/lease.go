package model

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Register is postgres.Store.Register.
func (s *Store) Register(_ context.Context, _ string, _ int, ttl time.Duration) (gantry.WorkerID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID.worker++
	s.workers[s.lastID.worker] = s.now().Add(ttl)
	return s.lastID.worker, nil
}

// Heartbeat is postgres.Store.Heartbeat.
func (s *Store) Heartbeat(_ context.Context, w gantry.WorkerID, ttl time.Duration) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.alive(w) {
		return false, nil
	}
	s.workers[w] = s.now().Add(ttl)
	return true, nil
}

// Resign is postgres.Store.Resign.
func (s *Store) Resign(_ context.Context, w gantry.WorkerID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	busy := len(s.ordered(func(h *Hot) bool { return h.Phase == gantry.Owned && h.Owner == w })) > 0
	for k := range s.grants {
		if k.worker == w && !(busy && strings.HasPrefix(s.limiters[k.limiter-1].key, "pipeline:")) {
			delete(s.grants, k)
		}
	}
	if !busy {
		delete(s.workers, w)
	} else if s.alive(w) {
		s.workers[w] = s.now()
	}
	return nil
}

// Reap is postgres.Store.Reap.
func (s *Store) Reap(context.Context) ([]int32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	var dead []gantry.WorkerID
	for w, until := range s.workers {
		if until.Before(now) {
			dead = append(dead, w)
		}
	}
	slices.Sort(dead)
	dead = dead[:min(4, len(dead))]
	for k, g := range s.grants {
		if !g.heldUntil.IsZero() && g.heldUntil.Before(now) {
			delete(s.grants, k)
		}
	}
	lanes := map[int32]bool{}
	var parents []gantry.TaskID
	for _, w := range dead {
		delete(s.workers, w)
		s.buryGrants(w)
		for _, id := range s.ordered(func(h *Hot) bool { return h.Phase == gantry.Owned && h.Owner == w }) {
			if lane, parent := s.rescue(id, w); lane != 0 {
				lanes[lane] = true
			} else if parent != 0 {
				parents = append(parents, parent)
			}
		}
	}
	for _, lane := range s.tellParents(parents) {
		lanes[lane] = true
	}
	s.cancelOrphans()
	return lanesOf(lanes), nil
}

// rescue takes a task from a dead process, and gives the lane in which it is ready; 0 if it has failed, and then the
// task that waits for it.
func (s *Store) rescue(id gantry.TaskID, w gantry.WorkerID) (lane int32, parent gantry.TaskID) {
	h := s.hot[id]
	h.Phase, h.Owner, h.Seq = gantry.Ready, 0, h.Seq+1
	if h.Aside {
		s.addEvent(id, h, h.Seq, h.State, h.State, w, gantry.Release, "set_aside")
		return h.Lane, 0
	}
	h.Crashes++
	s.addEvent(id, h, h.Seq, h.State, h.State, w, Rescued, "rescued")
	if h.Crashes < gantry.CrashesToFail || s.Without.Crashes {
		return h.Lane, 0
	}
	s.end(id, 0, gantry.Failed, gantry.CodeCrashed, gantry.Permanent, "processes died again and again while they worked on the task; the input is kept")
	return 0, s.task(id).Parent
}

// tellParents tells tasks that children of theirs have ended, and gives their lanes.
func (s *Store) tellParents(ids []gantry.TaskID) (lanes []int32) {
	for _, id := range ids {
		h := s.hot[id]
		if h == nil {
			continue
		}
		h.Open--
		if h.Phase == gantry.Waiting && h.Open <= 0 {
			h.Phase = gantry.Ready
		}
		lanes = append(lanes, h.Lane)
	}
	return lanes
}

// buryGrants takes a dead worker's units back: those of tasks at once, those of calls once they cannot run any more.
func (s *Store) buryGrants(w gantry.WorkerID) {
	for k, g := range s.grants {
		l := s.limiters[k.limiter-1]
		switch {
		case k.worker != w:
		case strings.HasPrefix(l.key, "pipeline:"), g.units == 0:
			delete(s.grants, k)
		default:
			g.want, g.heldUntil = 0, s.now().Add(l.spec.Hold)
		}
	}
}

// cancelOrphans ends the tasks of lanes whose only process is gone.
func (s *Store) cancelOrphans() {
	gone := func(h *Hot) bool {
		l := s.lanes[h.Lane-1]
		_, known := s.workers[l.private]
		return l.private != 0 && !known && h.Phase != gantry.Owned
	}
	for _, id := range s.ordered(gone) {
		s.end(id, 0, gantry.Cancelled, "runner_gone", 0, "the process that ran it is gone; the input is kept")
	}
}

// end ends a task that nobody holds.
func (s *Store) end(id gantry.TaskID, w gantry.WorkerID, final gantry.State, code gantry.Code, kind gantry.Kind, detail string) {
	h, t := s.hot[id], s.task(id)
	s.addEvent(id, h, h.Seq+1, h.State, final, w, gantry.End, code)
	delete(s.hot, id)
	t.Ended, t.Final, t.Code, t.Kind, t.Detail = true, final, code, kind, detail
}

// Promote is postgres.Store.Promote.
func (s *Store) Promote(_ context.Context, limit int) ([]int32, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	delayed := s.ordered(func(h *Hot) bool { return h.Phase == gantry.Delayed })
	slices.SortStableFunc(delayed, func(a, b gantry.TaskID) int { return s.hot[a].RunAt.Compare(s.hot[b].RunAt) })
	lanes := map[int32]bool{}
	for i, id := range delayed {
		h := s.hot[id]
		if i >= limit || h.RunAt.After(now) {
			return lanesOf(lanes), max(0, h.RunAt.Sub(now)), nil
		}
		h.Phase, h.RunAt = gantry.Ready, time.Time{}
		lanes[h.Lane] = true
	}
	return lanesOf(lanes), -1, nil
}

// Lanes is postgres.Store.Lanes.
func (s *Store) Lanes(_ context.Context, w gantry.WorkerID, private bool) (out []gantry.Lane, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		if private && l.private == w || !private && l.private == 0 {
			out = append(out, l.Lane)
		}
	}
	return out, nil
}

// ReadyLanes is postgres.Store.ReadyLanes.
func (s *Store) ReadyLanes(_ context.Context, lanes []int32) (out []int32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range lanes {
		if len(s.ordered(func(h *Hot) bool { return h.Phase == gantry.Ready && h.Lane == l })) > 0 {
			out = append(out, l)
		}
	}
	return out, nil
}

// MakePartitions is postgres.Store.MakePartitions: the model needs none.
func (s *Store) MakePartitions(context.Context) error { return nil }

// Notify is postgres.Store.Notify.
func (s *Store) Notify(_ context.Context, lanes string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		select {
		case l <- lanes:
		default: // it hears of so much already
		}
	}
	return nil
}

// Listen is postgres.Store.Listen.
func (s *Store) Listen(ctx context.Context, wake func(lanes string)) error {
	l := make(chan string, 100)
	s.mu.Lock()
	s.listeners[l] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	wake("")
	for {
		select {
		case lanes := <-l:
			wake(lanes)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
