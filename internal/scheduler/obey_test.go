package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// orders is a store that asks for the end of tasks; nothing else is asked of it.
type orders struct {
	Store
	tasks []gantry.Command
	err   error
}

// Obey gives the tasks.
func (o orders) Obey(context.Context, gantry.WorkerID) ([]gantry.Command, error) {
	return o.tasks, o.err
}

// TestObey breaks off what is asked for and nothing else, also a task that this process let go of and
// took up again before it had forgotten it.
func TestObey(t *testing.T) {
	t.Parallel()
	s := &Session{held: map[gantry.TaskID]*grip{}, store: orders{tasks: []gantry.Command{{Task: 1, Verb: gantry.VerbCancel}, {Task: 2}, {Task: 9}}}, opts: Options{Log: slog.New(slog.DiscardHandler)}}
	s.claims = newClaimer(s)
	first, cancelFirst := context.WithCancelCause(t.Context())
	letGo := s.hold(gantry.Lease{Task: 1}, cancelFirst)
	again, cancelAgain := context.WithCancelCause(t.Context())
	forget := s.hold(gantry.Lease{Task: 1}, cancelAgain)
	letGo()
	other, cancelOther := context.WithCancelCause(t.Context())
	s.hold(gantry.Lease{Task: 3}, cancelOther)
	s.obey(t.Context())
	if !errors.Is(context.Cause(again), gantry.ErrCancelled) || first.Err() != nil || other.Err() != nil {
		t.Errorf("%v, %v, %v", context.Cause(again), first.Err(), other.Err())
	}
	s.store = orders{tasks: []gantry.Command{{Task: 3, Verb: gantry.VerbMove, To: gantry.Passage{Lane: 4}, By: "me"}}}
	s.obey(t.Context())
	if m, ok := errors.AsType[*gantry.Moved](context.Cause(other)); !ok || m.To.Lane != 4 || m.By != "me" || gantry.CodeOf(m) != gantry.CodeMoved {
		t.Errorf("a move breaks off with %v", context.Cause(other))
	}
	paused, cancelPaused := context.WithCancelCause(t.Context())
	s.hold(gantry.Lease{Task: 5}, cancelPaused)
	s.store = orders{tasks: []gantry.Command{{Task: 5, Verb: gantry.VerbPause}}}
	if s.obey(t.Context()); context.Cause(paused) != gantry.ErrPaused {
		t.Errorf("a pause breaks off with %v", context.Cause(paused))
	}
	last, cancelLast := context.WithCancelCause(t.Context())
	s.hold(gantry.Lease{Task: 6}, cancelLast)
	forget()
	if len(s.held) != 3 {
		t.Errorf("%d tasks are held", len(s.held))
	}
	s.store = orders{err: errors.New("away")}
	s.obey(t.Context())
	if last.Err() != nil {
		t.Error("an error broke a task off")
	}
}
