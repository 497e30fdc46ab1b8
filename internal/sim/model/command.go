package model

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// asked finds the open command that is to end a task; nil if there is none.
func (s *Store) asked(id gantry.TaskID) *Command {
	i := slices.IndexFunc(s.commands, func(c Command) bool { return c.Task == id && !c.Done })
	if i < 0 {
		return nil
	}
	return &s.commands[i]
}

// ask asks for the end of a task and of all that was made of it.
func (s *Store) ask(id gantry.TaskID, by string) {
	if s.task(id).Ended {
		return
	}
	if s.asked(id) == nil {
		s.commands = append(s.commands, Command{Task: id, By: by})
	}
	s.askChildren(id, by)
}

func (s *Store) askChildren(id gantry.TaskID, by string) {
	for _, t := range s.tasks {
		if t.Parent == id {
			s.ask(t.ID, by)
		}
	}
}

// Cancel is postgres.Store.Cancel.
func (s *Store) Cancel(_ context.Context, task gantry.TaskID, by string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.known(task); err != nil {
		return nil
	}
	s.ask(task, by)
	s.endIdle()
	return nil
}

// endIdle ends the tasks that are to be cancelled and that nobody holds.
func (s *Store) endIdle() {
	for _, c := range slices.Clone(s.commands) {
		if !c.Done {
			s.askChildren(c.Task, c.By)
		}
	}
	for _, c := range slices.Clone(s.commands) {
		h := s.hot[c.Task]
		if c.Done || h == nil || h.Phase == gantry.Owned || s.lanes[h.Lane-1].private != 0 {
			continue
		}
		s.end(c.Task, 0, gantry.Cancelled, gantry.CodeCancelled, 0, "an operator cancelled the task")
	}
	for i := range s.commands {
		c := &s.commands[i]
		if t := s.task(c.Task); !c.Done && t.Ended {
			c.Done, c.Result = true, t.Final
		}
	}
}

// Obey is postgres.Store.Obey.
func (s *Store) Obey(_ context.Context, w gantry.WorkerID) (out []gantry.TaskID, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endIdle()
	for _, c := range s.commands {
		if h := s.hot[c.Task]; !c.Done && h != nil && h.Phase == gantry.Owned && h.Owner == w {
			out = append(out, c.Task)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// last is the last event of a task.
func (s *Store) last(id gantry.TaskID) (last Event, crashes int16) {
	for _, e := range s.events {
		if e.Task != id {
			continue
		}
		if e.Seq >= last.Seq {
			last = e
		}
		if e.Change == Rescued {
			crashes++
		}
	}
	return last, crashes
}

// Reopen is postgres.Store.Reopen.
func (s *Store) Reopen(ctx context.Context, task gantry.TaskID, within time.Duration, priority int16, _ string) (bool, error) {
	lane, ok := s.reopen(task, within, priority)
	if !ok {
		return false, nil
	}
	return true, s.Notify(ctx, strconv.Itoa(int(lane)))
}

func (s *Store) reopen(id gantry.TaskID, within time.Duration, priority int16) (int32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.known(id)
	if err != nil || !t.Ended || t.Final != gantry.Failed {
		return 0, false
	}
	l, ok := s.sharedLane(t)
	if !ok {
		return 0, false
	}
	open := 0
	for _, c := range s.tasks {
		if c.Parent == id && c.Role == gantry.Shard && c.Ended && c.Final == gantry.Failed {
			open++
			s.putBack(c, l, within, max(priority-1, 0), 0)
		}
	}
	s.putBack(t, l, within, priority, open)
	return l, true
}

// sharedLane is the lane that a task's source feeds.
func (s *Store) sharedLane(t *Task) (int32, bool) {
	name := s.pipelines[t.Pipeline-1].name
	i := slices.IndexFunc(s.lanes, func(l lane) bool {
		return l.private == 0 && l.Pipeline == name && l.Source == strings.TrimPrefix(t.Arrival.Source, name+"/")
	})
	return int32(i + 1), i >= 0
}

// putBack brings a failed task back into the state that failed, and plans the parts again that did.
func (s *Store) putBack(t *Task, lane int32, within time.Duration, priority int16, open int) {
	last, crashes := s.last(t.ID)
	h := &Hot{Lane: lane, Priority: priority, State: last.From, Seq: last.Seq + 1, Stage: last.Stage, Leg: t.Leg, Crashes: crashes,
		Open: open, Until: s.now().Add(within)}
	if open > 0 {
		h.Phase = gantry.Waiting
	}
	s.addEvent(t.ID, h, h.Seq, gantry.Failed, h.State, 0, gantry.Reopened, "")
	s.hot[t.ID] = h
	t.Ended, t.Final, t.Code, t.Kind, t.Detail = false, 0, "", 0, ""
	for _, p := range s.parts[t.ID] {
		if h.State == gantry.Inferring && p.Leg == t.Leg && p.Stage == h.Stage && (p.Status == gantry.PartPlanned || p.Status == gantry.PartFailed) {
			p.Status, p.Attempt, p.Reason, p.due = gantry.PartPlanned, 0, "", time.Time{}
		}
	}
}
