package engine

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxSide is how many parts of one task run side by side; the targets' limits are the true bound.
const maxSide = 128

// infer runs the parts of the task's stage that have no answer yet, and leaves the stage when all
// have ended. A part that was answered is never called again.
func (w *work) infer(ctx context.Context) (gantry.Event, error) {
	units, err := w.planStage(ctx, w.task.Stage)
	if err != nil {
		return "", err
	}
	if err := w.runParts(ctx, units); err != nil {
		return "", err
	}
	if err := w.endOfStage(); err != nil {
		return "", err
	}
	if int(w.task.Stage)+1 < len(w.plan.Stages) {
		return gantry.Next, nil
	}
	return gantry.Finish, nil
}

// runParts calls for every part that may be tried now. Parts do not stop one another; only a lost
// lease, a stop or a passed deadline does.
func (w *work) runParts(ctx context.Context, units []unit) error {
	call := w.plan.Calls[w.task.Stage][0]
	room := w.e.room(call.Limiter, call.Units)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxSide)
	for _, u := range units {
		if u.Status != gantry.PartPlanned || u.DueIn > 0 {
			continue
		}
		if w.e.stopping() || gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := room.Acquire(gctx, 1); err != nil {
				return nil // the wait below says why
			}
			defer room.Release(1)
			if w.e.stopping() {
				return nil
			}
			return w.runPart(gctx, call, u)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// endOfStage says whether all parts have ended, and how.
func (w *work) endOfStage() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var failed *gantry.Part
	next := time.Duration(-1)
	for k, p := range w.parts {
		if k.Stage != w.task.Stage {
			continue
		}
		switch p.Status {
		case gantry.PartPlanned, gantry.PartOut:
			due := max(0, time.Duration(p.DueIn)*time.Microsecond)
			if next < 0 || due < next {
				next = due
			}
		case gantry.PartFailed:
			if failed == nil || p.Ordinal < failed.Ordinal {
				failed = &p
			}
		}
	}
	switch {
	case next >= 0 && w.e.stopping():
		return errStop
	case next >= 0:
		return parked{after: max(next, time.Millisecond)}
	case failed == nil, w.plan.Stages[w.task.Stage].OnError == gantry.OnErrorSkip && w.anyOK():
		return nil
	}
	kind, ok := w.kinds[failed.PartKey]
	if !ok {
		kind = gantry.Permanent
	}
	return ended{gantry.Errorf(kind, failed.Reason, "stage %s: part %d failed after %d tries: %s",
		w.plan.Stages[w.task.Stage].Name, failed.Ordinal, failed.Attempt, failed.Reason)}
}

// anyOK tells whether a part of the stage was answered; mu is held.
func (w *work) anyOK() bool {
	for k, p := range w.parts {
		if k.Stage == w.task.Stage && p.Status == gantry.PartOK {
			return true
		}
	}
	return false
}
