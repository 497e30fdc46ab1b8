package engine

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// unit is one part of a stage with what it is about.
type unit struct {
	gantry.Part
	group
	sent []gantry.Item // what is sent, as it is known when it is
}

// planStage lists the stage's parts and makes those durable that are not yet.
func (w *work) planStage(ctx context.Context, stage int16) ([]unit, error) {
	p, err := w.enter(ctx, stage)
	if err != nil {
		return nil, err
	}
	var units []unit
	var fresh []gantry.Part
	for i, g := range p.groups {
		status, asked := gantry.PartPlanned, false
		for c := range w.plan.Stages[stage].Call {
			k := gantry.PartKey{Leg: w.task.Leg, Stage: stage, Processor: int16(c), Ordinal: int32(i)}
			part, known := w.part(k)
			if !known && !asked {
				if status, err = w.asked(ctx, stage, p, g); err != nil {
					return nil, err
				}
				asked = true
			}
			if !known {
				part = gantry.Part{PartKey: k, Status: status, First: g.first, Count: int32(len(g.origins)), DueIn: -1}
				fresh = append(fresh, part)
			}
			units = append(units, unit{Part: part, group: g})
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
	w.parts[p.PartKey] = p
	w.clocks.set(p)
}

// itemsOf finds items by their ids.
func (w *work) itemsOf(ids []gantry.ItemID) []gantry.Item {
	out := make([]gantry.Item, 0, len(ids))
	for _, id := range ids {
		if x, ok := w.item(id); ok {
			out = append(out, x)
		}
	}
	return out
}
