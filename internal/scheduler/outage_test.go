package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestOutageFailsNoTask has the database away until every try of a transition is used up, and back a moment
// later: the task must not fail of it. A transition that the database refuses fails the task.
func TestOutageFailsNoTask(t *testing.T) {
	for _, c := range []struct {
		err    error
		away   int // commits
		landed int
	}{{errLine, maxTries/2 + 2, 0}, {stateError("22021"), 1, 1}} {
		synctest.Test(t, func(t *testing.T) {
			l := newLedger()
			l.hook = func(nth int, tasks []gantry.TaskID) (int, error) {
				if nth <= c.away {
					return 0, c.err
				}
				return len(tasks), nil
			}
			ctx, cancel := context.WithCancel(t.Context())
			s := &Session{commits: newCommitter(l, 1, slog.New(slog.DiscardHandler), func() (int, int) { return 0, 0 })}
			go s.commits.run(ctx)
			tr := &gantry.Transition{Lease: gantry.Lease{Task: 7, Seq: 3}, From: gantry.Extracting, To: gantry.Ingesting}
			err := s.land(ctx, tr)
			if l.rows[7] != c.landed || (c.landed == 0) != errors.Is(err, errLine) || (tr.To == gantry.Failed) != (c.landed == 1) {
				t.Errorf("%v: %d transitions landed, the task went to %s: %v", c.err, l.rows[7], tr.To, err)
			}
			cancel()
			synctest.Wait()
		})
	}
}
