package model

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// tree is a task with all that it was divided into and that has not ended.
func (s *Store) tree(id gantry.TaskID) (out []gantry.TaskID) {
	if s.task(id).Ended {
		return nil
	}
	out = []gantry.TaskID{id}
	for _, t := range s.tasks {
		if t.Parent == id {
			out = append(out, s.tree(t.ID)...)
		}
	}
	return out
}

// Resume is postgres.Store.Resume.
func (s *Store) Resume(ctx context.Context, task gantry.TaskID, _ string) (bool, error) {
	s.mu.Lock()
	n, lanes := 0, map[int32]bool{}
	if _, err := s.known(task); err == nil {
		n = s.resume(s.tree(task), lanes)
	}
	s.mu.Unlock()
	for _, l := range lanesOf(lanes) {
		if err := s.Notify(ctx, id32(l)); err != nil {
			return false, err
		}
	}
	return n > 0, nil
}

// resume is resumeTree.
func (s *Store) resume(ids []gantry.TaskID, lanes map[int32]bool) (n int) {
	for _, id := range ids {
		n += s.settleCommands(id, gantry.VerbPause, "resumed")
		h := s.hot[id]
		p, ok := s.pauses[id]
		if !ok || h == nil || h.Phase != gantry.Paused || h.Aside {
			continue
		}
		delete(s.pauses, id)
		n++
		h.Phase, h.Seq, h.Until = gantry.Ready, h.Seq+1, h.Until.Add(s.now().Sub(p.at))
		switch {
		case h.Open > 0:
			h.Phase = gantry.Waiting
		case h.RunAt.After(s.now()):
			h.Phase = gantry.Delayed
		}
		s.addEvent(id, h, h.Seq, h.State, h.State, 0, gantry.Resumed, "resumed")
		lanes[h.Lane] = true
	}
	return n
}

// follow is followSQL.
func (s *Store) follow() {
	var ids []gantry.TaskID
	for id := range s.pauses {
		p := s.task(id).Parent
		if _, paused := s.pauses[p]; p != 0 && !paused && s.asked(p, gantry.VerbPause) == nil {
			ids = append(ids, id)
		}
	}
	s.resume(ids, map[int32]bool{})
}

// spreadPause is spreadPauseSQL.
func (s *Store) spreadPause() {
	for _, t := range s.tasks { // parents before children
		p, paused := s.pauses[t.Parent]
		if c := s.asked(t.Parent, gantry.VerbPause); c != nil {
			p, paused = pausing{by: c.By, reason: c.Reason}, true
		}
		if _, already := s.pauses[t.ID]; paused && !already && !t.Ended {
			s.ask(Command{Task: t.ID, Verb: gantry.VerbPause, By: p.by, Reason: p.reason})
		}
	}
}

// pauseIdle is pauseIdleSQL.
func (s *Store) pauseIdle() {
	for _, c := range s.open(gantry.VerbPause) {
		h := s.hot[c.Task]
		if h == nil || h.Phase == gantry.Owned {
			continue
		}
		if s.addPause(c.Task, &c) {
			h.Phase, h.Aside, h.Seq = gantry.Paused, false, h.Seq+1
			s.addEvent(c.Task, h, h.Seq, h.State, h.State, 0, gantry.Pause, gantry.CodePaused)
		}
		s.settleCommands(c.Task, gantry.VerbPause, "paused")
	}
}
