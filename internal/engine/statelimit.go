package engine

import (
	"context"
	"errors"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// enterState waits for a unit of the limit of the task's state, if the pipeline has one, and gives what gives
// it back. Whoever holds such a unit waits for none of another state, and the unit of a task in progress was
// there before it: nobody waits for somebody who waits for them. A stop or a pause ends the wait.
func (w *work) enterState(ctx context.Context) (leave func(), err error) {
	limiter, ok := w.plan.States[w.task.State]
	if !ok || w.e.Acquire == nil {
		return func() {}, nil
	}
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-w.e.Session.Stopping():
			cancel(errStop)
		case <-waiting.Done():
		}
	}()
	leave, err = w.e.Acquire(waiting, limiter, w.task.Priority)
	if errors.Is(err, gantry.ErrHeld) {
		return nil, errStop
	}
	return leave, err
}
