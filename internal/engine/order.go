package engine

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ordered sets what priority a task has from a transition on. It changes twice at most: an off-peak task that is begun
// is no longer held to its windows, and once its tags are read a task gets the priority that its pipeline's expression
// gives, and a step more if what has begun is to be finished first.
func (w *work) ordered(ctx context.Context, tr gantry.Transition) gantry.Transition {
	if tr.Change != gantry.Advance {
		return tr
	}
	p := w.task.Priority
	switch tr.From {
	case gantry.Queued:
		if p >= gantry.PriorityOffPeak && len(w.order.OffPeak) > 0 {
			p = gantry.Begun
		}
	case gantry.Ingesting:
		if len(w.members) > 0 {
			return tr // it only waited for them
		}
		p = w.ranked(ctx)
		if p >= gantry.PriorityOffPeak && len(w.order.OffPeak) > 0 {
			if w.task.Priority < gantry.Begun && !w.order.OffPeak.Open(w.e.Now()) {
				return w.untilWindow(tr, p)
			}
			p = gantry.Begun
		}
		if w.order.FinishFirst {
			p = max(p-1, 0)
		}
	}
	if p != w.task.Priority {
		tr.Priority = &p
	}
	return tr
}

// untilWindow gives a task back whose tags say that it is off-peak, until one of the windows opens. It has not been begun: the
// time that it may be queued counts again, from then on.
func (w *work) untilWindow(tr gantry.Transition, p int16) gantry.Transition {
	tr.To, tr.Change, tr.Priority = tr.From, gantry.Release, &p
	tr.Within = w.plan.Timeouts.Queued + w.order.OffPeak.Until(w.e.Now())
	return tr
}

// ranked is a task's priority now that its tags are read. An expression that gives nothing, or cannot be evaluated,
// leaves it as it was: no task fails by it.
func (w *work) ranked(ctx context.Context) int16 {
	r := w.order.Ranking
	if r == nil {
		return w.task.Priority
	}
	vars, err := w.taskVars(ctx, r)
	if err == nil {
		var p int16
		var ok bool
		if p, ok, err = r.Of(vars); ok {
			if w.task.Parent != 0 && p < gantry.PriorityOffPeak {
				p = max(p-1, 0) // as all children are
			}
			return p
		}
	}
	if err != nil && ctx.Err() == nil {
		w.e.Log.Warn("priority", "task", w.task.PublicID, "code", string(gantry.CodeOf(err)), "err", err)
	}
	return w.task.Priority
}
