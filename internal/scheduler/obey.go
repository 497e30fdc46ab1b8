package scheduler

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// hold notes how a task that runs here is broken off; nil when the process lets go of it.
func (s *Session) hold(t gantry.TaskID, cancel context.CancelCauseFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel == nil {
		delete(s.held, t)
		return
	}
	s.held[t] = cancel
}

// obey breaks off the tasks of this process that an operator has cancelled. Each ends by a transition
// of its own, once its calls are on record.
func (s *Session) obey(ctx context.Context) {
	tasks, err := s.store.Obey(ctx, s.Worker)
	s.report(ctx, "read commands", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range tasks {
		if cancel := s.held[t]; cancel != nil {
			cancel(gantry.ErrCancelled)
		}
	}
}
