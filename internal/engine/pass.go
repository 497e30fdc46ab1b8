package engine

import (
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// passOn works out what a stage that has ended leaves to the next.
func (w *work) passOn(stage int16, p *passage) {
	st := w.plan.Stages[stage]
	p.left = newFlow()
	p.left.whole = p.came.whole
	for i, g := range p.groups {
		if !w.met(stage, g.ordinal) {
			continue // a gap, from here on
		}
		answer := p.answer(st, i)
		if w.skipped(stage, g.ordinal) {
			p.asItCame(g)
			continue
		}
		switch st.Each {
		case gantry.EachItem:
			p.left.add(g.first, passed(st.Pass, g.inputs, answer)...)
		case gantry.EachTask, gantry.EachBatch:
			p.together(st, g, i, answer)
		default:
			p.left.add(g.first, passed(st.Pass, p.came.of[g.first], answer)...)
		}
		if st.Pass == gantry.PassInputs {
			p.ends = append(p.ends, idsOf(mediaOf(answer))...)
		}
	}
}

// answer gives what a group's processors answered, by processor.
func (p *passage) answer(st gantry.Stage, i int) (out []gantry.Item) {
	for c := range st.Call {
		out = append(out, p.made[answerKey{int16(c), int32(i)}]...)
	}
	return out
}

// asItCame lets a group's origins pass on untouched.
func (p *passage) asItCame(g group) {
	for _, o := range g.origins {
		if _, done := p.left.of[o]; !done {
			p.left.add(o, p.came.of[o]...)
		}
	}
}

// passed gives what goes on of what was sent and what was answered. Media that were answered take
// the place of what was sent; data alone go along with it and are no input of the next stage.
func passed(how gantry.Pass, sent []gantry.ItemID, answer []gantry.Item) []gantry.ItemID {
	switch how {
	case gantry.PassOutputs:
		return idsOf(answer)
	case gantry.PassInputs:
		return sent
	case gantry.PassBoth:
		return slices.Concat(sent, idsOf(answer))
	}
	if m := mediaOf(answer); len(m) > 0 {
		return idsOf(m)
	}
	return sent
}

// together passes on a batch, or all of a task. What was answered for each origin stands for that
// origin. Any other answer that goes on is one for all of them, and they go on as one: as the whole
// task, or as the first origin of the batch.
func (p *passage) together(st gantry.Stage, g group, i int, answer []gantry.Item) {
	aligned := true
	for c := range st.Call {
		items := p.made[answerKey{int16(c), int32(i)}]
		aligned = aligned && (lined(st, g.origins, items) || len(mediaOf(items)) == 0)
	}
	aligned = aligned && len(mediaOf(answer)) > 0
	goesOn := st.Pass != gantry.PassInputs && len(mediaOf(answer)) > 0 ||
		len(answer) > 0 && (st.Pass == gantry.PassOutputs || st.Pass == gantry.PassBoth)
	switch {
	case !goesOn:
		p.asItCame(g)
	case aligned:
		for _, o := range g.origins {
			own := slices.DeleteFunc(slices.Clone(answer), func(x gantry.Item) bool { return x.Origin != o })
			p.left.add(o, passed(st.Pass, p.came.of[o], own)...)
		}
	default:
		if st.Each == gantry.EachTask {
			p.left.whole = p.came.all(g.origins)
		}
		p.left.add(g.first, passed(st.Pass, p.came.items(g.origins), answer)...)
	}
}

// status counts how a group's parts ended.
func (w *work) status(stage int16, ordinal int32) (ok, failed, skipped int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.plan.Stages[stage].Call {
		p, _ := w.newest(gantry.PartKey{Leg: w.task.Leg, Stage: stage, Processor: int16(c), Ordinal: ordinal})
		switch p.Status {
		case gantry.PartOK:
			ok++
		case gantry.PartFailed:
			failed++
		case gantry.PartSkipped:
			skipped++
		}
	}
	return ok, failed, skipped
}

// met tells whether as many processors answered for a group as the stage needs, or none was asked.
func (w *work) met(stage int16, ordinal int32) bool {
	ok, failed, _ := w.status(stage, ordinal)
	return failed == 0 || ok >= need(w.plan.Stages[stage])
}

func (w *work) skipped(stage int16, ordinal int32) bool {
	_, _, skipped := w.status(stage, ordinal)
	return skipped > 0
}

// need is how many processors of a stage must answer.
func need(st gantry.Stage) int {
	if st.Need > 0 {
		return st.Need
	}
	return len(st.Call)
}
