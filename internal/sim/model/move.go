package model

import (
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// after is a time so many microseconds on; the zero time for fewer than none.
func after(now time.Time, us int64) time.Time {
	if us < 0 {
		return time.Time{}
	}
	return now.Add(time.Duration(us) * time.Microsecond)
}

// move is transition.sql. A batch's parents hear of their children once all transitions are made.
// Items that a lease did not hold keep their transition back.
func (s *Store) move(w gantry.WorkerID, writes []*gantry.Write, held []bool) []bool {
	moved := make([]bool, len(writes))
	var parents []gantry.TaskID
	for i, x := range writes {
		t := x.Transition
		if t == nil || t.Change == gantry.Move || t.Change == gantry.Pause || !s.holds(w, t.Lease) || len(x.Items) > 0 && !held[i] {
			continue
		}
		moved[i] = true
		if t.Change != gantry.End {
			s.step(w, t)
			continue
		}
		if task := s.task(t.Task); task.Parent != 0 {
			parents = append(parents, task.Parent)
		}
		s.finish(w, t)
	}
	s.tellParents(parents)
	return moved
}

// step is a transition to a state that is not final.
func (s *Store) step(w gantry.WorkerID, t *gantry.Transition) {
	h, now := s.hot[t.Task], s.now()
	h.State, h.Stage, h.Seq = t.To, t.Stage, h.Seq+1
	owner := h.Owner
	h.Phase, h.Owner = gantry.Ready, 0
	switch t.Change {
	case gantry.Advance:
		h.Phase, h.Owner, h.Attempt, h.Cursor = gantry.Owned, owner, 0, 0
	case gantry.Retry:
		h.Attempt++
		h.Phase, h.RunAt = gantry.Delayed, now.Add(t.After)
	case gantry.Park:
		h.Phase, h.RunAt = gantry.Delayed, now.Add(t.After)
		if t.Heard > 0 && h.Answers != t.Heard-1 {
			h.RunAt = now
		}
	case gantry.Wait:
		if h.Open > 0 {
			h.Phase = gantry.Waiting
		}
	}
	if t.Priority != nil {
		h.Priority = *t.Priority
	}
	if t.Within > 0 && (t.Change == gantry.Advance || t.Change == gantry.Release || t.Change == gantry.Wait) {
		h.Until = now.Add(t.Within)
	}
	s.addEvent(t.Task, h, h.Seq, t.From, t.To, w, t.Change, t.Code)
}

// finish is a transition to a final state.
func (s *Store) finish(w gantry.WorkerID, t *gantry.Transition) {
	h, task := s.hot[t.Task], s.task(t.Task)
	h.Stage = t.Stage
	s.addEvent(t.Task, h, h.Seq+1, t.From, t.To, w, t.Change, t.Code)
	delete(s.hot, t.Task)
	task.Ended, task.Final = true, t.To
	if t.To != gantry.Done {
		task.Code, task.Detail = t.Code, t.Detail
	}
	if t.To == gantry.Failed {
		task.Kind = t.Kind
	}
}

// divide is children.sql.
func (s *Store) divide(t *gantry.Transition) {
	d, h, parent := t.Divide, s.hot[t.Task], s.task(t.Task)
	until := h.Until
	if d.Within > 0 {
		until = s.now().Add(d.Within)
	}
	for i, c := range d.Children {
		if s.public[c.PublicID] != nil {
			continue
		}
		child := &Task{PublicID: c.PublicID, Arrival: parent.Arrival, Collection: parent.Collection, Collected: parent.Collected, Run: parent.Run, Pipeline: parent.Pipeline, Leg: h.Leg,
			Parent: t.Task, Role: d.Role, Ordinal: int32(i), Members: c.Members}
		for _, m := range c.Members {
			child.Count += int32(m.End - m.First)
		}
		s.addTask(child)
		s.hot[child.ID] = &Hot{Lane: h.Lane, Priority: max(h.Priority-1, 0), State: d.State, Leg: h.Leg, Until: until}
		h.Open++
	}
}
