package engine

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/line"
)

// maxSide is how many parts of one task run side by side; the targets' limits are the true bound.
const maxSide = 128

// infer runs the parts of the task's stage that have no answer yet, and leaves the stage when all
// have ended. A part that was answered is never called again.
func (w *work) infer(ctx context.Context) (gantry.Event, error) {
	if len(w.members) > 0 {
		return gantry.Finish, nil // they went through the stages
	}
	if err := w.awaitShards(); err != nil {
		return "", err
	}
	units, err := w.planStage(ctx, w.task.Stage, true)
	if err != nil {
		return "", err
	}
	if err := w.runParts(ctx, units); err != nil {
		return "", err
	}
	fail.Point("after_parts")
	if err := w.endOfStage(units); err != nil {
		return "", err
	}
	if int(w.task.Stage)+1 < w.stages() {
		return gantry.Next, nil
	}
	return gantry.Finish, nil
}

// runParts calls for every part that may be tried now, each processor's on their own, so that a slow
// one does not hold up another. Parts do not stop one another; only a lost lease, a stop or a passed
// deadline does.
func (w *work) runParts(ctx context.Context, units []unit) error {
	calls := w.plan.Calls[w.task.Stage]
	of := make([][]unit, len(calls))
	for _, u := range units {
		of[u.Processor] = append(of[u.Processor], u)
	}
	g, gctx := errgroup.WithContext(ctx)
	for c, call := range calls {
		g.Go(func() error { return w.runCalls(gctx, call, of[c]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// runCalls calls one processor for its parts.
func (w *work) runCalls(ctx context.Context, call Call, units []unit) error {
	if call.Deferred != nil {
		return w.runDeferred(ctx, call, units)
	}
	room := w.e.room(call.Limiter)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxSide)
	for _, u := range units {
		if u.Status != gantry.PartPlanned || u.DueIn > 0 {
			continue
		}
		if w.halting() || gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if entered, err := w.comeIn(gctx, room, call, &u); !entered {
				return err
			}
			defer room.Leave(w.task.Priority)
			if w.halting() {
				return nil
			}
			return w.runPart(gctx, call, u)
		})
	}
	return g.Wait()
}

// comeIn waits for a place in the room of a call's target. A part that has to wait is planned before, so that people see
// what it waits for. Where it does not come in although err is nil, the wait in runParts says why.
func (w *work) comeIn(ctx context.Context, room *line.Room, call Call, u *unit) (entered bool, err error) {
	places := w.e.places(call)
	if u.fresh {
		if room.TryEnter(w.task.Priority, places) {
			return true, nil
		}
		if err := w.keepFresh(ctx, []gantry.Part{u.Part}); err != nil {
			return false, err
		}
		u.fresh = false
	}
	return room.Enter(ctx, w.task.Priority, places) == nil, nil
}

// endOfStage says whether all parts have ended, and how.
func (w *work) endOfStage(units []unit) error {
	st := w.plan.Stages[w.task.Stage]
	next, answered := time.Duration(-1), false
	var failed *gantry.Part
	for _, u := range units {
		p, _ := w.part(u.PartKey)
		switch {
		case p.Status == gantry.PartPlanned, p.Status == gantry.PartOut:
			due := w.waitOf(p)
			if next < 0 || due < next {
				next = due
			}
		case w.met(w.task.Stage, u.Ordinal):
			answered = true
		case p.Status == gantry.PartFailed && failed == nil:
			failed = &p
		}
	}
	switch {
	case next >= 0 && w.halting():
		return errStop
	case next >= 0:
		return parked{after: max(next, time.Millisecond), heard: w.heard}
	case failed == nil, st.OnError == gantry.OnErrorSkip && (answered || w.task.Role == gantry.Shard): // others may have answers
		return nil
	}
	w.mu.Lock()
	kind, ok := w.kinds[failed.PartKey]
	w.mu.Unlock()
	if !ok {
		kind = gantry.Permanent
	}
	return ended{gantry.Errorf(kind, failed.Reason, "stage %s: part %d failed after %d tries: %s", st.Name, failed.Ordinal, failed.Attempt, failed.Reason)}
}
