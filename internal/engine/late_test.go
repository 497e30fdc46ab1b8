package engine

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// watched is a session whose commits are looked at before they are made.
type watched struct {
	*world
	look func(*gantry.Write)
}

func (s watched) Commit(ctx context.Context, x *gantry.Write) error {
	s.look(x)
	return s.world.Commit(ctx, x)
}

// begin takes up a task at inferring in an engine over the session.
func (s watched) begin(t *testing.T) (e *Engine, step func() gantry.Transition) {
	e = New(Options{Store: s.world, Session: s, Caller: s.world, Blobs: s.blobs, Plans: s.world, Rand: func() float64 { return 0.5 }, Scratch: t.TempDir()})
	task := gantry.Task{Lease: gantry.Lease{Task: 7, Seq: 3}, PublicID: "id", State: gantry.Inferring}
	run, end := e.Begin(task)
	t.Cleanup(end)
	return e, func() gantry.Transition { return run(t.Context(), task) }
}

// TestTheOnlyPartIsPlannedWithItsIntent holds that a stage of one part commits no plan of its own, and one of two does.
func TestTheOnlyPartIsPlannedWithItsIntent(t *testing.T) {
	t.Parallel()
	for parts, want := range map[int]int{1: 0, 2: 1} {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(parts)
		plans := 0
		s := watched{w, func(x *gantry.Write) {
			if len(x.Plan) > 0 {
				plans++
			}
		}}
		w.process = func(_ context.Context, r *gantry.Request) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.parts) != parts {
				t.Errorf("a call is made while %d of %d parts are planned", len(w.parts), parts)
			}
			return nil
		}
		_, step := s.begin(t)
		if tr := step(); tr.To != gantry.Responding {
			t.Errorf("%d parts: left for %s (%s)", parts, tr.To, tr.Detail)
		}
		if plans != want {
			t.Errorf("%d parts: %d commits of a plan beside those of intents, want %d", parts, plans, want)
		}
		for k, p := range w.parts {
			if p.Status != gantry.PartOK {
				t.Errorf("part %v is %v", k, p.Status)
			}
		}
	}
}

// TestAPartThatWaitsIsPlannedBefore fills the room of the target: what waits for it is on the books.
func TestAPartThatWaitsIsPlannedBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(1)
	planned := make(chan struct{}, 1)
	s := watched{w, func(x *gantry.Write) {
		if len(x.Plan) > 0 {
			planned <- struct{}{}
		}
	}}
	e, step := s.begin(t)
	room := e.room(w.plan.Calls[0][0].Limiter)
	for room.TryEnter(0, e.places(w.plan.Calls[0][0])) {
	}
	done := make(chan gantry.Transition)
	go func() { done <- step() }()
	select {
	case <-planned:
	case <-time.After(10 * time.Second):
		t.Fatal("a part that waits for a place is not planned")
	}
	w.mu.Lock()
	called := slices.Clone(w.called)
	w.mu.Unlock()
	if len(called) > 0 {
		t.Error("it is called for in a full room")
	}
	room.Leave(0)
	if tr := <-done; tr.To != gantry.Responding {
		t.Errorf("left for %s (%s)", tr.To, tr.Detail)
	}
}
