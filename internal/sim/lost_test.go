package sim

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/scheduler"
	"github.com/gantry-imaging/gantry/internal/sim/model"
)

// forgetful is a store whose first claims that find a task lose their answers, and whose heartbeats may be late.
type forgetful struct {
	*model.Store
	lose int
	most int // tasks in progress at once
	slow func() time.Duration
}

// Claim claims, and says so or not.
func (f *forgetful) Claim(ctx context.Context, w gantry.WorkerID, want []gantry.Want) ([]gantry.Task, error) {
	tasks, err := f.Store.Claim(ctx, w, want)
	f.Look(func(v model.View) { f.most = max(f.most, v.Owned(1)) })
	if len(tasks) > 0 && f.lose > 0 {
		f.lose--
		return nil, errMidway
	}
	return tasks, err
}

// Heartbeat is late now and then.
func (f *forgetful) Heartbeat(ctx context.Context, w gantry.WorkerID, ttl time.Duration) (bool, error) {
	ok, err := f.Store.Heartbeat(ctx, w, ttl)
	if f.slow != nil {
		time.Sleep(f.slow())
	}
	return ok, err
}

// queue makes a store with n tasks, of which so many may be in progress.
func queue(t *testing.T, n, progress int) *forgetful {
	t.Helper()
	ctx := t.Context()
	f := &forgetful{Store: model.New(time.Now)}
	pipeline, _ := f.EnsurePipeline(ctx, &gantry.Pipeline{Name: "p"})
	limiter, _ := f.EnsureLimiter(ctx, "pipeline:p", gantry.LimiterSpec{MaxUnits: progress}, true)
	lane, _ := f.EnsureLane(ctx, "p", "in", limiter, 0)
	for i := range n {
		name := fmt.Sprint("t", i)
		if _, err := f.Enqueue(ctx, []gantry.Admission{{Arrival: gantry.Arrival{ID: int64(i), Source: "p/in", Version: name}, PublicID: name, Pipeline: pipeline,
			Lane: lane, Within: time.Hour}}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// left counts the tasks that have not ended.
func (f *forgetful) left() (n int) {
	f.Look(func(v model.View) {
		for _, t := range v.Tasks() {
			if !t.Ended {
				n++
			}
		}
	})
	return n
}

// failAll ends every task as failed, each after a time.
func failAll(took time.Duration) func(context.Context, *scheduler.Session) (scheduler.Begin, error) {
	return func(context.Context, *scheduler.Session) (scheduler.Begin, error) {
		return func(gantry.Task) (scheduler.Step, func()) {
			return func(ctx context.Context, t gantry.Task) gantry.Transition {
				select {
				case <-time.After(took):
				case <-ctx.Done():
					return gantry.Transition{}
				}
				return gantry.Transition{Lease: t.Lease, From: t.State, To: gantry.Failed, Change: gantry.End}
			}, func() {}
		}, nil
	}
}

// TestLostClaims loses the answers to some claims: the process works on what it holds, and no more is in progress
// than may be.
func TestLostClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := queue(t, 5, 2)
		f.lose = 2
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		defer cancel()
		if err := scheduler.Run(ctx, f, scheduler.Options{}, failAll(100*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if f.left() > 0 || f.most > 2 || f.lose > 0 {
			t.Errorf("%d tasks are left, %d were in progress at once, %d claims were to be lost still", f.left(), f.most, f.lose)
		}
	})
}

// TestLostClaimAtTheEnd asks a process to stop just after it lost the answer to a claim: another one has the task soon.
func TestLostClaimAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := queue(t, 1, 1)
		f.lose = 1
		for _, d := range []time.Duration{300 * time.Millisecond, 8 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			if err := scheduler.Run(ctx, f, scheduler.Options{}, failAll(0)); err != nil {
				t.Fatal(err)
			}
			cancel()
		}
		if f.left() > 0 {
			t.Error("the task is left")
		}
	})
}

// TestLeaseCalledLost lets heartbeats be late for a lease, so that it is called lost while it still runs. Sessions
// end by that, but no task stays with one that has let go of it.
func TestLeaseCalledLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := queue(t, 12, 2)
		n := 0
		f.slow = func() time.Duration {
			if n++; n == 2 {
				return 8 * time.Second
			}
			return 0
		}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		lost := 0
		for ctx.Err() == nil {
			scheduler.Run(ctx, f, scheduler.Options{}, func(_ context.Context, s *scheduler.Session) (scheduler.Begin, error) {
				return func(gantry.Task) (scheduler.Step, func()) {
					return func(ctx context.Context, t gantry.Task) gantry.Transition {
						for range 40 {
							time.Sleep(100 * time.Millisecond)
							if !s.Alive() { // as before a call
								lost++
								return gantry.Transition{}
							}
						}
						return gantry.Transition{Lease: t.Lease, From: t.State, To: gantry.Failed, Change: gantry.End}
					}, func() {}
				}, nil
			})
		}
		if f.left() > 0 || f.most > 2 || lost == 0 {
			t.Errorf("%d tasks are left, %d were in progress at once, %d tasks were let go of", f.left(), f.most, lost)
		}
	})
}

// TestAwait: what a process does beside its tasks can put on record how it ended after the process was asked to
// stop, and the lease lasts as long.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := queue(t, 0, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var written error
		alive := false
		err := scheduler.Run(ctx, f, scheduler.Options{}, func(loops context.Context, s *scheduler.Session) (scheduler.Begin, error) {
			s.Await(func() {
				<-s.Stopping()
				time.Sleep(20 * time.Second) // longer than a lease
				f.Look(func(v model.View) { alive = v.Alive(s.Worker) })
				written = s.Commit(loops, &gantry.Write{Outcome: &gantry.Outcome{ID: gantry.UUID{1}}})
			})
			return failAll(0)(loops, s)
		})
		f.Look(func(v model.View) {
			if err != nil || written != nil || !alive || len(v.Outcomes()) != 1 || len(v.Workers()) != 0 {
				t.Errorf("%v, %v, alive %t, %d outcomes, %d workers are left", err, written, alive, len(v.Outcomes()), len(v.Workers()))
			}
		})
	})
}
