package model

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func id32(n int32) string { return strconv.Itoa(int(n)) }

// kin is one task of a family that may be put back.
type kin struct {
	*Task
	last  Event
	again bool
	other bool // it is going to deliver something else
	open  int
}

// family is a task with all that it was divided into in its present leg, parents before their children.
func (s *Store) family(id gantry.TaskID) (out []*kin, ended bool) {
	out, ended = []*kin{{Task: s.task(id)}}, true
	for i := 0; i < len(out); i++ {
		k := out[i]
		k.last, ended = s.last(k.ID), ended && k.Ended
		for _, t := range s.tasks {
			if t.Parent == k.ID && t.Leg == k.Leg {
				out = append(out, &kin{Task: t})
			}
		}
	}
	return out, ended
}

// last is the last event of a task.
func (s *Store) last(id gantry.TaskID) (last Event) {
	for _, e := range s.events {
		if e.Task == id && e.Seq >= last.Seq {
			last = e
		}
	}
	return last
}

// Reopen is postgres.Store.Reopen.
func (s *Store) Reopen(ctx context.Context, task gantry.TaskID, within gantry.Timeouts, priority int16, _ string) (bool, error) {
	lane, ok := s.reopen(task, within, priority)
	if !ok {
		return false, nil
	}
	return true, s.Notify(ctx, id32(lane))
}

func (s *Store) reopen(id gantry.TaskID, within gantry.Timeouts, priority int16) (lane int32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, err := s.known(id); err != nil || !t.Ended || t.Final != gantry.Failed {
		return 0, false
	}
	list, ended := s.family(id)
	if lane, ok = s.sharedLane(list[0].Task); !ended || !ok {
		return 0, false
	}
	by := map[gantry.TaskID]*kin{}
	generation := int16(0)
	for _, k := range list {
		by[k.ID] = k
		for _, p := range s.parts[k.ID] {
			generation = max(generation, p.Generation)
		}
		p := by[k.Parent]
		k.again = k.Final == gantry.Failed && (p == nil || p.again)
		if k.again && p != nil {
			p.open++
			p.other = p.other || k.Role == gantry.Member
		}
	}
	for _, k := range list {
		if k.again {
			s.putBack(k, lane, within, priority)
			s.retryParts(k, generation)
		}
	}
	return lane, true
}

// sharedLane is the lane that a task's source feeds.
func (s *Store) sharedLane(t *Task) (int32, bool) {
	name := s.pipelines[t.Pipeline-1].name
	source := strings.Split(t.Arrival.Source, "/")[1]
	lane := func(source string) int32 {
		return int32(1 + slices.IndexFunc(s.lanes, func(l lane) bool { return l.private == 0 && l.Pipeline == name && l.Source == source }))
	}
	if n := lane(source); n > 0 || t.Leg == 0 {
		return n, n > 0
	}
	n := lane(gantry.MovedLane)
	return n, n > 0
}

// putBack is putBackSQL.
func (s *Store) putBack(k *kin, lane int32, within gantry.Timeouts, priority int16) {
	t, stay := k.Task, within.Of(k.last.From)
	if k.other {
		stay += within.Queued + within.Extracting + within.Ingesting + within.Inferring + within.Responding
		if t.Role != gantry.Shard && s.delivered(t) {
			t.Delivery++
		}
	}
	if t.Parent != 0 {
		priority = max(priority-1, 0)
	}
	h := &Hot{Lane: lane, Priority: priority, State: k.last.From, Seq: k.last.Seq + 1, Stage: k.last.Stage, Leg: t.Leg, Open: k.open, Until: s.now().Add(stay)}
	for _, e := range s.events {
		h.Crashes += int16(bit(e.Task == t.ID && e.Change == Rescued))
	}
	if k.open > 0 {
		h.Phase = gantry.Waiting
	}
	s.addEvent(t.ID, h, h.Seq, t.Final, h.State, 0, gantry.Reopened, "")
	s.hot[t.ID] = h
	t.Ended, t.Final, t.Code, t.Kind, t.Detail = false, 0, "", 0, ""
	s.settleCommands(t.ID, "", "ended")
}

// delivered tells whether a task gave anything to a sink under its prefix, or may have.
func (s *Store) delivered(t *Task) bool {
	return slices.ContainsFunc(s.intents, func(in Intent) bool {
		n := s.ends[callKey{in.Task, in.ID}]
		return in.Task == t.ID && in.Boundary == gantry.AtSink && in.Part.Generation == t.Delivery && (n == 0 || s.outcomes[n-1].Result != gantry.ResultNotSent)
	})
}

// retryParts is retryPartsSQL.
func (s *Store) retryParts(k *kin, generation int16) {
	if k.last.From != gantry.Inferring {
		return
	}
	live := map[gantry.PartKey]*part{} // by key without the generation
	for _, p := range s.parts[k.ID] {
		g := p.PartKey
		g.Generation = 0
		if p.Leg == k.Leg && p.Stage == k.last.Stage && (live[g] == nil || live[g].Generation < p.Generation) {
			live[g] = p
		}
	}
	for _, p := range live {
		switch {
		case p.Status == gantry.PartFailed && p.Generation < generation:
			again := p.PartKey
			again.Generation = generation
			s.parts[k.ID][again] = &part{Part: gantry.Part{PartKey: again, First: p.First, Count: p.Count}}
		case p.Status == gantry.PartFailed, p.Status == gantry.PartPlanned:
			p.Status, p.Attempt, p.Asked, p.Reason, p.due = gantry.PartPlanned, 0, 0, "", time.Time{}
		}
	}
}
