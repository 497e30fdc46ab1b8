package engine

import (
	"cmp"
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// flow is what goes from one stage to the next: origins in their order, and for each its items.
type flow struct {
	origins []gantry.ItemID
	of      map[gantry.ItemID][]gantry.ItemID
	whole   []gantry.ItemID // the origins that 0 stands for, once a stage answered about all of them at once
}

func newFlow() flow { return flow{of: map[gantry.ItemID][]gantry.ItemID{}} }

// add lets items of an origin go on. An origin without any does not.
func (f *flow) add(origin gantry.ItemID, items ...gantry.ItemID) {
	if len(items) == 0 {
		return
	}
	if _, known := f.of[origin]; !known {
		f.origins = append(f.origins, origin)
	}
	f.of[origin] = append(f.of[origin], items...)
}

// all gives the origins that an origin stands for.
func (f flow) all(origins []gantry.ItemID) []gantry.ItemID {
	if f.whole != nil && slices.Contains(origins, 0) {
		return append(slices.Clone(origins), f.whole...)
	}
	return origins
}

// group is what one call of each of a stage's processors is about.
type group struct {
	ordinal int32         // of its parts
	first   gantry.ItemID // as in Part.First
	origins []gantry.ItemID
	inputs  []gantry.ItemID
}

// answerKey names what a processor of a stage answered about a group, by the group's place.
type answerKey struct {
	processor int16
	group     int32
}

// passage is a stage with what came to it and, once it has ended, what was made and what it leaves.
// It follows from committed rows alone, so that every process finds the same.
type passage struct {
	came   flow
	groups []group
	about  map[gantry.ItemID][]int // the groups that an origin is in
	made   map[answerKey][]gantry.Item
	left   flow
	ends   []gantry.ItemID // media that are delivered although no later stage is given them
}

// sound is what comes to the first stage: the task's own media, but for what was refused.
func (w *work) sound() flow {
	f := newFlow()
	for _, x := range w.leaves() {
		if !x.Rejected {
			f.add(x.ID, x.ID)
		}
	}
	return f
}

// enter gives a stage with what comes to it; the stages before it have ended.
func (w *work) enter(ctx context.Context, stage int16) (*passage, error) {
	p := &passage{came: w.sound(), about: map[gantry.ItemID][]int{}}
	if stage > 0 {
		before, err := w.passed(ctx, stage-1)
		if err != nil {
			return nil, err
		}
		p.came = before.left
	}
	p.groups = w.groups(stage, p.came)
	w.number(stage, p.groups)
	for i, g := range p.groups {
		for _, o := range g.origins {
			p.about[o] = append(p.about[o], i)
		}
		if !slices.Contains(g.origins, g.first) {
			p.about[g.first] = append(p.about[g.first], i)
		}
	}
	return p, nil
}

// passed gives a stage that has ended.
func (w *work) passed(ctx context.Context, stage int16) (*passage, error) {
	for s := int16(len(w.passages)); s <= stage; s++ {
		p, err := w.enter(ctx, s)
		if err != nil {
			return nil, err
		}
		p.made = w.answers(s, p.groups)
		w.passOn(s, p)
		if err := w.keepOnly(ctx, s, p); err != nil {
			return nil, err
		}
		w.passages = append(w.passages, p)
	}
	return w.passages[stage], nil
}

// groups divides what came to a stage among its calls.
func (w *work) groups(stage int16, came flow) []group {
	st := w.plan.Stages[stage]
	inputs := func(origins ...gantry.ItemID) []gantry.ItemID { return came.items(origins) }
	if st.Mode == gantry.Cumulative {
		own := w.sound()
		inputs = func(origins ...gantry.ItemID) []gantry.ItemID { return w.lineage(stage, own, came.all(origins)) }
	}
	var out []group
	switch st.Each {
	case gantry.EachTask:
		if len(came.origins) > 0 {
			out = append(out, group{first: 0, origins: came.origins, inputs: inputs(came.origins...)})
		}
	case gantry.EachBatch:
		for origins := range slices.Chunk(came.origins, max(1, st.Max)) {
			out = append(out, group{first: origins[0], origins: origins, inputs: inputs(origins...)})
		}
	case gantry.EachItem:
		for _, o := range came.origins {
			for _, x := range inputs(o) {
				out = append(out, group{first: o, origins: []gantry.ItemID{o}, inputs: []gantry.ItemID{x}})
			}
		}
	default:
		for _, o := range came.origins {
			out = append(out, group{first: o, origins: []gantry.ItemID{o}, inputs: inputs(o)})
		}
	}
	return out
}

// items gives the items of origins, one origin after another.
func (f flow) items(origins []gantry.ItemID) (out []gantry.ItemID) {
	for _, o := range origins {
		out = append(out, f.of[o]...)
	}
	return out
}

// lineage gives origins' own media, then everything that the stages before made of them: by stage,
// by processor, by part, in the order of the answer. What is about several origins belongs to each.
func (w *work) lineage(stage int16, own flow, origins []gantry.ItemID) (out []gantry.ItemID) {
	in := map[gantry.ItemID]bool{}
	for _, o := range origins {
		if !in[o] {
			in[o] = true
			out = append(out, own.of[o]...)
		}
	}
	for s, p := range w.passages[:stage] {
		var groups []int
		for _, o := range origins {
			groups = append(groups, p.about[o]...)
		}
		slices.Sort(groups)
		groups = slices.Compact(groups)
		st := w.plan.Stages[s]
		for c := range st.Call {
			for _, i := range groups {
				items := p.made[answerKey{int16(c), int32(i)}]
				aligned := lined(st, p.groups[i].origins, items)
				for _, x := range items {
					if in[x.Origin] || !aligned || x.Media == gantry.MediaJSON {
						out = append(out, x.ID)
					}
				}
			}
		}
	}
	return out
}

// lined tells whether a batch was answered by one medium for each of its origins, in their order.
func lined(st gantry.Stage, origins []gantry.ItemID, answer []gantry.Item) bool {
	return st.Each == gantry.EachBatch && len(origins) > 1 && len(mediaOf(answer)) == len(origins)
}

// answers gives what a stage's parts were answered, in their newest generation and in the order of each answer.
func (w *work) answers(stage int16, groups []group) map[answerKey][]gantry.Item {
	place := map[int32]int32{}
	for i, g := range groups {
		place[g.ordinal] = int32(i)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[answerKey][]gantry.Item{}
	for _, x := range w.items {
		if x.Stage != stage || x.Leg != w.task.Leg {
			continue
		}
		i, known := place[x.Part]
		if known && x.Generation == w.raised[gantry.PartKey{Leg: x.Leg, Stage: stage, Processor: x.Processor, Ordinal: x.Part}] {
			k := answerKey{x.Processor, i}
			out[k] = append(out[k], x)
		}
	}
	for _, items := range out {
		slices.SortFunc(items, func(a, b gantry.Item) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
	}
	return out
}

func mediaOf(items []gantry.Item) []gantry.Item {
	return slices.DeleteFunc(slices.Clone(items), func(x gantry.Item) bool { return x.Media == gantry.MediaJSON })
}

func idsOf(items []gantry.Item) []gantry.ItemID {
	out := make([]gantry.ItemID, len(items))
	for i, x := range items {
		out[i] = x.ID
	}
	return out
}
