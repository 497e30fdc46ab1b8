package engine

import (
	"cmp"
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// unit is one part of a stage with what it reads.
type unit struct {
	gantry.Part
	inputs []gantry.Item
}

// reads says what a sequential stage reads: for each origin, in order, what the stages before it
// left. Media that a stage answered replace what it was given; answers of data alone do not. An
// origin whose part failed is left out from there on.
func (w *work) reads(stage int16) (origins []gantry.ItemID, of map[gantry.ItemID][]gantry.Item) {
	of = map[gantry.ItemID][]gantry.Item{}
	for _, x := range w.leaves() {
		if !x.Rejected {
			origins = append(origins, x.ID)
			of[x.ID] = []gantry.Item{x}
		}
	}
	for s := range stage {
		made := w.madeBy(s)
		if w.plan.Stages[s].Each == gantry.EachTask {
			if all := mediaOf(made[0]); len(all) > 0 {
				origins, of = []gantry.ItemID{0}, map[gantry.ItemID][]gantry.Item{0: all}
			}
			continue
		}
		for origin, items := range made {
			if m := mediaOf(items); len(m) > 0 {
				of[origin] = m
			}
		}
		origins = slices.DeleteFunc(origins, func(o gantry.ItemID) bool { return w.failed(s, o) })
	}
	return origins, of
}

// madeBy gives a stage's outputs by origin, each in the order of the answer.
func (w *work) madeBy(stage int16) map[gantry.ItemID][]gantry.Item {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[gantry.ItemID][]gantry.Item{}
	for _, x := range w.items {
		if x.Stage == stage && x.Leg == w.task.Leg {
			out[x.Origin] = append(out[x.Origin], x)
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

func (w *work) failed(stage int16, origin gantry.ItemID) bool {
	_, yes := w.failedPart(stage, origin)
	return yes
}

// failedPart finds the part of a stage that failed for an origin.
func (w *work) failedPart(stage int16, origin gantry.ItemID) (gantry.Part, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.failures[stage] {
		if p.First == origin {
			return p, true
		}
	}
	return gantry.Part{}, false
}

// planStage lists the stage's parts and makes those durable that are not yet.
func (w *work) planStage(ctx context.Context, stage int16) ([]unit, error) {
	origins, of := w.reads(stage)
	var units []unit
	if w.plan.Stages[stage].Each == gantry.EachTask {
		u := unit{Part: gantry.Part{First: 0, Count: int32(len(origins))}}
		for _, o := range origins {
			u.inputs = append(u.inputs, of[o]...)
		}
		units = append(units, u)
	} else {
		for i, o := range origins {
			units = append(units, unit{Part: gantry.Part{PartKey: gantry.PartKey{Ordinal: int32(i)}, First: o, Count: 1}, inputs: of[o]})
		}
	}
	var fresh []gantry.Part
	for i := range units {
		u := &units[i]
		u.Leg, u.Stage, u.DueIn = w.task.Leg, stage, -1
		if known, ok := w.part(u.PartKey); ok {
			u.Part = known
		} else {
			fresh = append(fresh, u.Part)
		}
	}
	for c := range slices.Chunk(fresh, chunk) {
		if err := w.commit(ctx, &gantry.Write{Plan: c}); err != nil {
			return nil, err
		}
		for _, p := range c {
			w.setPart(p)
		}
	}
	return units, nil
}

func (w *work) part(k gantry.PartKey) (gantry.Part, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := w.parts[k]
	return p, ok
}

func (w *work) setPart(p gantry.Part) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notePart(p)
}

// notePart keeps what is known of a part; mu is held.
func (w *work) notePart(p gantry.Part) {
	w.parts[p.PartKey] = p
	if p.Status == gantry.PartFailed {
		w.failures[p.Stage] = append(w.failures[p.Stage], p)
	}
}
