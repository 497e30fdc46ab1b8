package engine

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A redrive plans what it selects once more, under a generation that is higher than all before in the task. What
// was planned and answered before stays in the rows. Of each part the newest generation counts, everywhere;
// a later stage's part stands as long as it would be sent the same.

// codeNoGroup marks a part that nothing is left for after a redrive: what it was about does not come to its
// stage any more.
const codeNoGroup gantry.Code = "no_group"

// raise notes the generation of a part; mu is held.
func (w *work) raise(k gantry.PartKey) {
	n := k.Generation
	if n == 0 {
		return
	}
	if w.raised == nil {
		w.raised = map[gantry.PartKey]int16{}
	}
	k.Generation = 0
	w.raised[k] = max(w.raised[k], n)
	w.generation = max(w.generation, n)
}

// live gives the newest generation of a part.
func (w *work) live(stage, processor int16, ordinal int32) (gantry.Part, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest(gantry.PartKey{Leg: w.task.Leg, Stage: stage, Processor: processor, Ordinal: ordinal})
}

// newest is live for a key without generation; mu is held.
func (w *work) newest(k gantry.PartKey) (gantry.Part, bool) {
	k.Generation = w.raised[k]
	p, ok := w.parts[k]
	return p, ok
}

// number gives the groups of a stage the ordinals of their parts. A group keeps those that it has, whatever
// groups come or go before it, so that a part is about the same origin in every generation.
func (w *work) number(stage int16, groups []group) {
	if w.generation == 0 {
		for i := range groups {
			groups[i].ordinal = int32(i)
		}
		return
	}
	w.mu.Lock()
	known, next := map[gantry.ItemID][]int32{}, int32(0) // ordinals by the first origin
	for k, p := range w.parts {
		if k.Stage == stage {
			known[p.First] = append(known[p.First], k.Ordinal)
			next = max(next, k.Ordinal+1)
		}
	}
	w.mu.Unlock()
	for first, list := range known {
		slices.Sort(list)
		known[first] = slices.Compact(list)
	}
	for i := range groups {
		g := &groups[i]
		if list := known[g.first]; len(list) > 0 {
			g.ordinal, known[g.first] = list[0], list[1:]
			continue
		}
		g.ordinal = next
		next++
	}
}

// stood keeps what came to a stage in earlier generations.
type stood struct {
	w      *work
	stage  int16
	before int16                     // the newest generation of the parts of stages before
	was    map[int16]map[int32]group // by generation and ordinal
}

func (w *work) stood(stage int16) *stood {
	s := &stood{w: w, stage: stage, was: map[int16]map[int32]group{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, n := range w.raised {
		if k.Stage < stage {
			s.before = max(s.before, n)
		}
	}
	return s
}

// stands tells whether a part of an earlier generation is about a group as it is now: it was sent the same, and the
// stage's when says of it what it said then.
func (s *stood) stands(ctx context.Context, p *passage, g group, part gantry.Part) (bool, error) {
	if part.Generation == s.w.generation || s.before <= part.Generation {
		return true, nil
	}
	was, err := s.groups(ctx, part.Generation)
	if err != nil {
		return false, err
	}
	old, known := was[g.ordinal]
	if !known || !slices.Equal(old.origins, g.origins) || !slices.Equal(old.inputs, g.inputs) {
		return false, nil
	}
	status, err := s.w.asked(ctx, s.stage, p, g)
	return (status == gantry.PartSkipped) == (part.Status == gantry.PartSkipped), err
}

// groups gives the stage's groups as they were in a generation.
func (s *stood) groups(ctx context.Context, generation int16) (map[int32]group, error) {
	if was, known := s.was[generation]; known {
		return was, nil
	}
	old := s.w.asOf(generation)
	defer func() {
		if o := old.opened(); o != nil && o != s.w.opened() {
			o.close()
		}
	}()
	p, err := old.enter(ctx, s.stage)
	if unread := old.certain(); unread != nil {
		err = unread
	}
	if err != nil {
		return nil, err
	}
	was := map[int32]group{}
	for _, g := range p.groups {
		was[g.ordinal] = g
	}
	s.was[generation] = was
	return was, nil
}

// asOf gives the task as it was before the redrives after a generation, to be read only.
func (w *work) asOf(generation int16) *work {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tags == nil {
		w.tags = map[gantry.ItemID]map[string]string{}
	}
	old := &work{e: w.e, task: w.task, plan: w.plan, shelf: w.shelf, ready: true, own: w.own, tags: w.tags, owner: w.owner,
		shards: w.shards, members: w.members, many: w.many, reads: w.opened(), generation: w.generation, parts: map[gantry.PartKey]gantry.Part{}}
	old.scope.Store(w.scope.Load())
	for _, x := range w.items {
		if x.Generation <= generation {
			old.items = append(old.items, x)
		}
	}
	for k, p := range w.parts {
		if k.Generation <= generation {
			old.parts[k] = p
			old.raise(k)
		}
	}
	return old
}

// redriven tells whether a redrive planned a part together with some of a stage before, and nobody has tried it yet:
// when is asked again about it.
func (s *stood) redriven(p gantry.Part) bool {
	return p.Status == gantry.PartPlanned && p.Attempt == 0 && p.Reason == gantry.CodeRedriven && s.before >= p.Generation
}

// planned gives parts as they are planned.
func planned(parts []gantry.Part) []gantry.Part {
	out := slices.Clone(parts)
	for i := range out {
		out[i].Status, out[i].Reason = gantry.PartPlanned, ""
	}
	return out
}

// leftOver gives the parts of a stage that no group has any more, as they are to be planned anew: for nothing.
func (w *work) leftOver(stage int16, groups []group) (out []gantry.Part) {
	if stages, _ := w.plan.shardable(); w.generation == 0 || len(w.shards) > 0 && int(stage) < stages {
		return nil // nothing was redriven, or the shards see to it
	}
	has := map[int32]bool{}
	for _, g := range groups {
		has[g.ordinal] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.parts {
		if k.Stage != stage || has[k.Ordinal] {
			continue
		}
		k.Generation = 0
		if p, _ := w.newest(k); p.Status == gantry.PartSkipped && p.Reason == codeNoGroup {
			continue
		}
		has[k.Ordinal] = true
		for c := range w.plan.Stages[stage].Call {
			k.Processor = int16(c)
			if p, known := w.newest(k); known {
				p.Generation, p.Status, p.Attempt, p.DueIn, p.Reason = w.generation, gantry.PartSkipped, 0, -1, codeNoGroup
				out = append(out, p)
			}
		}
	}
	return out
}
