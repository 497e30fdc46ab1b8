package scheduler

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// grip is how a task that runs here is broken off.
type grip struct {
	cancel context.CancelCauseFunc
	seq    int32 // of the lease, as far as this process knows
}

// hold notes that a task runs here. letGo forgets it, unless the process has taken the task up again
// meanwhile.
func (s *Session) hold(t gantry.Lease, cancel context.CancelCauseFunc) (letGo func()) {
	g := &grip{cancel, t.Seq}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[t.Task] = g
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held[t.Task] == g {
			delete(s.held, t.Task)
		}
	}
}

// stillHolds notes that a task that runs here went on to another state.
func (s *Session) stillHolds(t gantry.Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.held[t.Task]; g != nil {
		g.seq = t.Seq
	}
}

// knows tells whether a task that this process holds runs here under that very lease, or under the one
// before: that it went on is not known before the commit's answer is there.
func (s *Session) knows(t gantry.Lease) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.held[t.Task]
	return g != nil && t.Seq <= g.seq+1
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
