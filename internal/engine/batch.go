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
	sent  []gantry.Item // what is sent, as it is known when it is
	fresh bool          // it is not durable: it is planned together with the intent of its call, or before that is waited for
}

// planStage lists the stage's parts and makes those durable that are not yet; with late, one that plansLate is not.
func (w *work) planStage(ctx context.Context, stage int16, late bool) ([]unit, error) {
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
	if late && len(units) == 1 && len(fresh) == 1 && w.plansLate(stage, fresh[0]) {
		units[0].fresh = true
		w.setPart(fresh[0])
		return units, nil
	}
	return units, w.keepPlan(ctx, stage, p.groups, fresh, out)
}

// plansLate tells whether the only part of a stage is planned together with the intent of its call: a plan is one commit,
// and nothing is done about the part before. A process that finds neither plans the same, for it follows from committed
// rows alone.
func (w *work) plansLate(stage int16, p gantry.Part) bool {
	return p.Status == gantry.PartPlanned && w.generation == 0 && w.plan.Calls[stage][p.Processor].Deferred == nil
}

// keepPlan makes parts durable: fresh ones, and some that were planned and are not to be called after all.
func (w *work) keepPlan(ctx context.Context, stage int16, groups []group, fresh, out []gantry.Part) error {
	gone := w.leftOver(stage, groups)
	if err := w.keepFresh(ctx, slices.Concat(fresh, planned(gone))); err != nil {
		return err
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

// keepFresh plans parts.
func (w *work) keepFresh(ctx context.Context, parts []gantry.Part) error {
	for c := range slices.Chunk(parts, chunk) {
		if err := w.commit(ctx, &gantry.Write{Plan: c}); err != nil {
			return err
		}
		fail.Point("after_plan")
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
