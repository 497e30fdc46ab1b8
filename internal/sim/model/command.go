package model

import (
	"context"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// asked finds the open command of a kind about a task; nil if there is none.
func (s *Store) asked(id gantry.TaskID, verb gantry.Verb) *Command {
	i := slices.IndexFunc(s.commands, func(c Command) bool { return c.Task == id && c.Verb == verb && !c.Done })
	if i < 0 {
		return nil
	}
	return &s.commands[i]
}

// ask asks something of one task, once.
func (s *Store) ask(c Command) {
	if s.asked(c.Task, c.Verb) == nil && !s.task(c.Task).Ended {
		s.commands = append(s.commands, c)
	}
}

// askTree asks for the end of a task, and of all that was made of it.
func (s *Store) askTree(id gantry.TaskID, by string) {
	if !s.task(id).Ended {
		s.ask(Command{Task: id, Verb: gantry.VerbCancel, By: by})
		s.askChildren(id, by)
	}
}

func (s *Store) askChildren(id gantry.TaskID, by string) {
	for _, t := range s.tasks {
		if t.Parent == id {
			s.askTree(t.ID, by)
		}
	}
}

// open are the open commands of a kind, the first of each task.
func (s *Store) open(verb gantry.Verb) (out []Command) {
	for _, c := range s.commands {
		if !c.Done && c.Verb == verb && !slices.ContainsFunc(out, func(x Command) bool { return x.Task == c.Task }) {
			out = append(out, c)
		}
	}
	return out
}

// settleCommands marks the open commands of a kind about a task as done; "" is any kind.
func (s *Store) settleCommands(id gantry.TaskID, verb gantry.Verb, result string) (n int) {
	for i := range s.commands {
		if c := &s.commands[i]; c.Task == id && !c.Done && (verb == "" || c.Verb == verb) {
			c.Done, c.Result = true, result
			n++
		}
	}
	return n
}

// Cancel is postgres.Store.Cancel.
func (s *Store) Cancel(_ context.Context, task gantry.TaskID, by string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.known(task); err != nil {
		return nil
	}
	s.askTree(task, by)
	s.doIdle()
	return nil
}

// Move is postgres.Store.Move.
func (s *Store) Move(_ context.Context, task gantry.TaskID, to gantry.Passage, by string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.known(task); err == nil {
		s.ask(Command{Task: task, Verb: gantry.VerbMove, By: by, To: to})
	}
	s.doIdle()
	return nil
}

// Pause is postgres.Store.Pause.
func (s *Store) Pause(_ context.Context, task gantry.TaskID, by, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.known(task); err == nil {
		s.ask(Command{Task: task, Verb: gantry.VerbPause, By: by, Reason: reason})
	}
	s.doIdle()
	return nil
}

// doIdle does what was asked of tasks that nobody holds, and tells whether anything was asked at all.
func (s *Store) doIdle() bool {
	if !slices.ContainsFunc(s.commands, func(c Command) bool { return !c.Done }) && len(s.pauses) == 0 {
		return false
	}
	for _, verb := range []gantry.Verb{gantry.VerbCancel, gantry.VerbMove} {
		for _, c := range s.open(verb) {
			s.askChildren(c.Task, c.By)
		}
	}
	for _, c := range s.open(gantry.VerbMove) {
		if h := s.hot[c.Task]; h != nil && h.Phase == gantry.Waiting {
			h.Phase, h.Aside = gantry.Paused, true
		}
	}
	s.cancelIdle()
	s.moveIdle()
	s.follow()
	s.spreadPause()
	s.pauseIdle()
	for i := range s.commands {
		c := &s.commands[i]
		if t := s.task(c.Task); !c.Done && t.Ended {
			c.Done, c.Result = true, t.Final.String()
		}
	}
	return true
}

// cancelIdle is idleSQL.
func (s *Store) cancelIdle() {
	var parents []gantry.TaskID
	for _, c := range s.open(gantry.VerbCancel) {
		h := s.hot[c.Task]
		if h == nil || h.Phase == gantry.Owned || s.lanes[h.Lane-1].private != 0 {
			continue
		}
		s.end(c.Task, 0, gantry.Cancelled, gantry.CodeCancelled, 0, "an operator cancelled the task")
		delete(s.pauses, c.Task)
		if p := s.task(c.Task).Parent; p != 0 {
			parents = append(parents, p)
		}
	}
	s.tellParents(parents) // those that ended with them are gone
}

// moveIdle is moveIdleSQL.
func (s *Store) moveIdle() {
	for _, c := range s.open(gantry.VerbMove) {
		h := s.hot[c.Task]
		if h == nil || h.Phase == gantry.Owned || h.Open != 0 {
			continue
		}
		paused := h.Phase == gantry.Paused && !h.Aside
		s.nextLeg(c.Task, c.To, h.State, h.Stage, 0)
		h.Phase, h.Aside = gantry.Ready, false
		if p, ok := s.pauses[c.Task]; ok {
			p.at = s.now()
			s.pauses[c.Task] = p
		}
		if paused {
			h.Phase = gantry.Paused
		}
	}
}

// nextLeg begins the next leg of a task; h.Phase is the caller's.
func (s *Store) nextLeg(id gantry.TaskID, to gantry.Passage, from gantry.State, stage int16, w gantry.WorkerID) {
	h, t := s.hot[id], s.task(id)
	for _, in := range s.intents {
		if in.Task == id && in.Part.Leg == h.Leg && in.Op == gantry.OpManifest {
			t.Delivery++
			break
		}
	}
	h.Stage, h.Attempt, h.Leg, h.Seq = stage, 0, h.Leg+1, h.Seq+1
	s.addEvent(id, h, h.Seq, from, gantry.Queued, w, gantry.Move, gantry.CodeMoved)
	h.State, h.Stage, h.Cursor, h.RunAt, h.Lane, h.Until = gantry.Queued, 0, 0, time.Time{}, to.Lane, s.now().Add(to.Within)
	t.Pipeline, t.Leg = to.Pipeline, h.Leg
	s.settleCommands(id, gantry.VerbMove, "moved")
}

// Obey is postgres.Store.Obey.
func (s *Store) Obey(_ context.Context, w gantry.WorkerID) (out []gantry.Command, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.doIdle() {
		return nil, nil
	}
	for id, h := range s.hot {
		if h.Phase != gantry.Owned || h.Owner != w {
			continue
		}
		for _, verb := range []gantry.Verb{gantry.VerbCancel, gantry.VerbMove, gantry.VerbPause} {
			if c := s.asked(id, verb); c != nil {
				out = append(out, gantry.Command{Task: id, Verb: verb, To: c.To, By: c.By})
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b gantry.Command) int { return int(a.Task - b.Task) })
	return out, nil
}

// leave is move.sql and pause.sql: a process hands a task to an operator.
func (s *Store) leave(w gantry.WorkerID, t *gantry.Transition) bool {
	if t.Change != gantry.Move && t.Change != gantry.Pause || !s.holds(w, t.Lease) {
		return false
	}
	h := s.hot[t.Task]
	h.Phase, h.Owner = gantry.Ready, 0
	if t.Change == gantry.Move {
		s.nextLeg(t.Task, *t.Passage, t.From, t.Stage, w)
		s.events[len(s.events)-1].Code = t.Code
		return true
	}
	change, code := gantry.Release, gantry.Code("")
	if c := s.asked(t.Task, gantry.VerbPause); c != nil {
		h.Phase, change, code = gantry.Paused, gantry.Pause, gantry.CodePaused
		s.addPause(t.Task, c)
	}
	h.Seq, h.Aside = h.Seq+1, false
	s.settleCommands(t.Task, gantry.VerbPause, "paused")
	at := *h
	at.Stage = t.Stage
	s.addEvent(t.Task, &at, h.Seq, t.From, t.From, w, change, code)
	return true
}

func (s *Store) addPause(id gantry.TaskID, c *Command) bool {
	if _, ok := s.pauses[id]; ok {
		return false
	}
	s.pauses[id] = pausing{c.By, c.Reason, s.now()}
	return true
}
