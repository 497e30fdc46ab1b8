package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// lookUpPassage is how long a process looks for where a task that fails goes instead.
const lookUpPassage = 5 * time.Second

// moveOn makes the transition into the next leg.
func (w *work) moveOn(to gantry.Passage, kind gantry.Kind, code gantry.Code, why string) gantry.Transition {
	t := w.task
	next, err := t.State.Next(gantry.MoveOn)
	if err != nil {
		return w.end(gantry.Abandon, gantry.Errorf(gantry.Illegal, "", "%w", err))
	}
	return gantry.Transition{Lease: t.Lease, From: t.State, To: next, Stage: t.Stage, Change: gantry.Move, Passage: &to,
		Kind: kind, Code: code, Detail: why}
}

// fail ends the task as failed, unless a rule of the pipeline's move_if holds: then it begins its next leg. What
// belongs to another task, or to one process alone, never moves.
func (w *work) fail(ctx context.Context, err error) gantry.Transition {
	rule := w.moveRule(err)
	if rule == nil {
		return w.end(gantry.Abandon, err)
	}
	legs := int(w.task.Leg) + 1
	if legs >= rule.Legs {
		return w.end(gantry.Abandon, gantry.Errorf(gantry.KindOf(err), gantry.CodeTooManyLegs,
			"not moved to %s: it had %d legs; the last ended with %s: %w", rule.To, legs, gantry.CodeOf(err), err))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookUpPassage)
	defer cancel()
	to, perr := w.e.Passage(ctx, rule.To, w.task.Task)
	if perr != nil {
		return w.end(gantry.Abandon, gantry.Errorf(gantry.KindOf(err), gantry.CodeOf(err), "%w (not moved: %w)", err, perr))
	}
	return w.moveOn(to, gantry.KindOf(err), gantry.CodeOf(err), detail(fmt.Errorf("moved to %s: %w", rule.To, err)))
}

// moveRule finds the first rule that holds for a failure; nil if none does.
func (w *work) moveRule(err error) *gantry.MoveRule {
	t := w.task
	if w.plan == nil || w.e.Passage == nil || t.Role != gantry.NoRole {
		return nil
	}
	stage := ""
	if t.State == gantry.Inferring {
		stage = w.plan.Stages[t.Stage].Name
	}
	vars := map[string]any{
		"error":   map[string]any{"kind": gantry.KindOf(err).String(), "code": string(gantry.CodeOf(err)), "stage": stage},
		"state":   t.State.String(),
		"attempt": int(t.Attempt) + 1,
		"leg":     int(t.Leg),
	}
	for i := range w.plan.MoveIf {
		rule := &w.plan.MoveIf[i]
		holds, eerr := rule.When.Holds(vars)
		if eerr != nil {
			w.e.Log.Warn("move_if", "task", t.PublicID, "to", rule.To, "err", eerr)
		}
		if holds {
			return rule
		}
	}
	return nil
}

// legID is what the ids of the task's children in this leg are made of.
func (w *work) legID() string {
	if w.task.Leg == 0 {
		return w.task.PublicID
	}
	return gantry.PublicID([]byte(w.task.PublicID), "leg", strconv.Itoa(int(w.task.Leg)))
}
