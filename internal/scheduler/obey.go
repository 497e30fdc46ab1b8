package scheduler

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// grip is how a task that runs here is broken off.
type grip struct{ cancel context.CancelCauseFunc }

// hold notes that a task runs here. letGo forgets it, unless the process has taken the task up again
// meanwhile.
func (s *Session) hold(t gantry.TaskID, cancel context.CancelCauseFunc) (letGo func()) {
	g := &grip{cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[t] = g
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[t] == g {
			delete(s.held, t)
		}
	}
}

// obey breaks off the tasks of this process that an operator has cancelled, moved or paused. Each goes by a
// transition of its own, once its calls are on record.
func (s *Session) obey(ctx context.Context) {
	asked, err := s.store.Obey(ctx, s.Worker)
	s.report(ctx, "read commands", err)
	if s.claims.handBack(ctx, func(t gantry.TaskID) bool {
		return slices.ContainsFunc(asked, func(o gantry.Command) bool { return o.Task == t })
	}) {
		_, err = s.store.Obey(ctx, s.Worker) // nobody holds them any more
		s.report(ctx, "read commands", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range asked {
		if g := s.held[o.Task]; g != nil {
			g.cancel(o.Cause())
		}
	}
}
