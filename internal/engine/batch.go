package engine

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/fail"
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
	var fresh, out []gantry.Part
	then := w.stood(stage)
	for _, g := range p.groups {
		status, asked := gantry.PartPlanned, false
		for c := range w.plan.Stages[stage].Call {
			part, known := w.live(stage, int16(c), g.ordinal)
			if known {
				if known, err = then.stands(ctx, p, g, part); err != nil {
					return nil, err
				}
			}
			again := known && then.redriven(part)
			if (!known || again) && !asked {
				if status, err = w.asked(ctx, stage, p, g); err != nil {
					return nil, err
				}
				asked = true
			}
			switch {
			case !known:
				k := gantry.PartKey{Leg: w.task.Leg, Stage: stage, Processor: int16(c), Ordinal: g.ordinal, Generation: w.generation}
				part = gantry.Part{PartKey: k, Status: status, First: g.first, Count: int32(len(g.origins)), DueIn: -1}
				fresh = append(fresh, part)
			case again && status == gantry.PartSkipped:
				part.Status, part.Reason = status, ""
				out = append(out, part)
			}
			units = append(units, unit{Part: part, group: g})
		}
	}
	return units, w.keepPlan(ctx, stage, p.groups, fresh, out)
}

// keepPlan makes parts durable: fresh ones, and some that were planned and are not to be called after all.
func (w *work) keepPlan(ctx context.Context, stage int16, groups []group, fresh, out []gantry.Part) error {
	gone := w.leftOver(stage, groups)
	for c := range slices.Chunk(slices.Concat(fresh, planned(gone)), chunk) {
		if err := w.commit(ctx, &gantry.Write{Plan: c}); err != nil {
			return err
		}
		fail.Point("after_plan")
		for _, p := range c {
			w.setPart(p)
		}
	}
	for c := range slices.Chunk(slices.Concat(out, gone), chunk) {
		if err := w.commit(ctx, &gantry.Write{Parts: c}); err != nil {
			return err
		}
		for _, p := range c {
			w.setPart(p)
		}
	}
	return nil
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
	w.raise(p.PartKey)
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
