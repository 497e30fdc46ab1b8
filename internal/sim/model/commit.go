package model

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Commit is postgres.Store.Commit: results, intents, children and transitions, in this order, all or none.
func (s *Store) Commit(_ context.Context, w gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make([]bool, len(writes))
	for i, x := range writes {
		held[i] = (s.alive(w) || s.Without.Fence) && s.holds(w, x.Lease)
	}
	if err := s.check(w, writes); err != nil {
		return nil, err
	}
	s.results(writes, held)
	sent := make([]bool, len(writes))
	for i, x := range writes {
		sent[i] = x.Intent != nil && s.intend(w, x.Intent)
	}
	for _, x := range writes {
		if t := x.Transition; t != nil && t.Divide != nil && s.holds(w, t.Lease) {
			s.divide(t)
		}
	}
	moved := s.move(w, writes, held)
	for i, x := range writes {
		moved[i] = moved[i] || x.Transition != nil && s.leave(w, x.Transition)
	}
	landed := make([]bool, len(writes))
	for i, x := range writes {
		landed[i] = (!hasResults(x) || held[i]) && (x.Intent == nil || sent[i]) && (x.Transition == nil || moved[i])
	}
	return landed, nil
}

func hasResults(x *gantry.Write) bool {
	return len(x.Items)+len(x.Marks)+len(x.Plan)+len(x.Parts) > 0 || x.Cursor > 0
}

// check refuses what would make a key twice.
func (s *Store) check(w gantry.WorkerID, writes []*gantry.Write) error {
	calls, ends := map[callKey]bool{}, map[callKey]bool{}
	for _, x := range writes {
		if x.Intent != nil && s.mayIntend(w, x.Intent) {
			k := callKey{x.Intent.Task, x.Intent.ID}
			if calls[k] || s.calls[k] > 0 {
				return duplicate("call_intent")
			}
			calls[k] = true
		}
		if x.Outcome != nil {
			k := callKey{x.Outcome.Task, x.Outcome.ID}
			if ends[k] || s.ends[k] > 0 {
				return duplicate("call_outcome")
			}
			ends[k] = true
		}
		if x.Transition != nil && x.Transition.Change != gantry.End && x.Transition.To.Final() && s.holds(w, x.Transition.Lease) {
			return refusal{"23514", "commit: a final state in task_hot"}
		}
	}
	return nil
}

// results is results.sql. What one batch makes is not seen by what it marks or answers, as in one statement.
func (s *Store) results(writes []*gantry.Write, held []bool) {
	var marks, answers []func()
	for i, x := range writes {
		if held[i] {
			id := x.Lease.Task
			if x.Cursor > 0 {
				s.hot[id].Cursor = x.Cursor
			}
			for j := range x.Marks {
				marks = append(marks, s.marking(id, x.Of, s.hot[id].Leg, &x.Marks[j]))
			}
			for j := range x.Parts {
				answers = append(answers, s.answering(id, &x.Parts[j]))
			}
		}
		if x.Outcome != nil {
			o := *x.Outcome
			if x.Lease.Task != 0 && !held[i] && o.Result != gantry.ResultNotSent {
				o.Result = gantry.ResultFenced
			}
			s.outcomes = append(s.outcomes, o)
			s.ends[callKey{o.Task, o.ID}] = len(s.outcomes)
		}
	}
	for i, x := range writes {
		if held[i] {
			s.keep(x.Lease.Task, x)
		}
	}
	for _, do := range append(marks, answers...) {
		do()
	}
}

// keep adds items and planned parts. One that is there stays as it is.
func (s *Store) keep(id gantry.TaskID, x *gantry.Write) {
	for _, item := range x.Items {
		if s.items[id] == nil {
			s.items[id] = map[itemKey]*gantry.Item{}
		}
		if k := (itemKey{item.Leg, item.ID}); s.items[id][k] == nil {
			s.items[id][k] = &item
		}
	}
	for _, p := range x.Plan {
		if s.parts[id] == nil {
			s.parts[id] = map[gantry.PartKey]*part{}
		}
		if s.parts[id][p.PartKey] == nil {
			s.parts[id][p.PartKey] = &part{Part: gantry.Part{PartKey: p.PartKey, First: p.First, Count: p.Count, Status: p.Status}}
		}
	}
}

// marking finds the item that a mark is on, and gives what puts it there.
func (s *Store) marking(task, of gantry.TaskID, leg int16, m *gantry.ItemMark) func() {
	if of != 0 {
		task = of
	}
	x := s.items[task][itemKey{leg, m.ID}]
	return func() {
		if x == nil {
			return
		}
		if x.SHA.IsZero() {
			x.SHA = m.SHA
		}
		x.Size, x.Reason, x.Rejected = m.Size, m.Reason, m.Rejected
	}
}

// answering finds a part, and gives what sets it as it is now. One that has ended stays as it is.
func (s *Store) answering(task gantry.TaskID, now *gantry.Part) func() {
	p := s.parts[task][now.PartKey]
	return func() {
		if p == nil || p.Status >= gantry.PartOK {
			return
		}
		if now.Status == gantry.PartOut {
			p.goOut(s.now(), now)
			return
		}
		p.Status, p.Attempt, p.Asked, p.Reason, p.Submits = now.Status, now.Attempt, now.Asked, now.Reason, now.Submits
		p.due = after(s.now(), now.DueIn)
		p.Out, p.outLimiter, p.outUntil, p.outLast = gantry.Outstanding{}, 0, time.Time{}, time.Time{}
	}
}

// goOut is what becomes of a part that is out now, or still. From the first time on its deadline stands.
func (p *part) goOut(at time.Time, now *gantry.Part) {
	p.Status, p.Submits, p.Out.Ticket, p.Out.Token, p.outLimiter = gantry.PartOut, now.Submits, now.Out.Ticket, now.Out.Token, now.Out.Limiter
	p.due = after(at, now.DueIn)
	if p.outLast.IsZero() {
		p.outLast = at.Add(time.Duration(now.Out.Left) * time.Microsecond)
	}
	if until := at.Add(time.Duration(now.Out.For) * time.Microsecond); until.After(p.outUntil) {
		p.outUntil = until
	}
	if p.outUntil.After(p.outLast) {
		p.outUntil = p.outLast
	}
}

// intend is the section of intents in results.sql.
func (s *Store) intend(w gantry.WorkerID, in *gantry.Intent) bool {
	if !s.mayIntend(w, in) {
		return false
	}
	s.intents = append(s.intents, Intent{*in, w})
	s.calls[callKey{in.Task, in.ID}] = len(s.intents)
	return true
}

func (s *Store) mayIntend(w gantry.WorkerID, in *gantry.Intent) bool {
	return s.alive(w) && (in.Task == 0 || s.holds(w, in.Lease))
}

// Landed is postgres.Store.Landed.
func (s *Store) Landed(_ context.Context, w gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	landed := make([]bool, len(writes))
	for i, x := range writes {
		switch {
		case x.Transition != nil:
			for _, e := range s.events {
				landed[i] = landed[i] || e.Task == x.Transition.Task && e.Seq == x.Transition.Seq+1 && e.Worker == w
			}
		case x.Intent != nil:
			n := s.calls[callKey{x.Intent.Task, x.Intent.ID}]
			landed[i] = n > 0 && s.intents[n-1].Worker == w
		case x.Outcome != nil:
			n := s.ends[callKey{x.Outcome.Task, x.Outcome.ID}]
			landed[i] = n > 0 && s.outcomes[n-1].Result != gantry.ResultFenced
		}
	}
	return landed, nil
}
