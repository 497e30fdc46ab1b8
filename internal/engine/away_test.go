package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// away fails to find any pipeline.
type away struct{ err error }

// Plan fails.
func (a away) Plan(context.Context, int32) (*Plan, error) { return nil, a.err }

// TestPlanAway lets a task wait while the database cannot be asked for its pipeline, and ends one whose pipeline
// cannot be read by anybody.
func TestPlanAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	for _, c := range []struct {
		err  error
		want gantry.Transition
	}{
		{errors.New("unexpected EOF"), gantry.Transition{To: gantry.Inferring, Change: gantry.Park, After: time.Second}},
		{gantry.Errorf(gantry.Unavailable, "busy", "b"), gantry.Transition{To: gantry.Inferring, Change: gantry.Park, After: time.Second}},
		{gantry.Errorf(gantry.Illegal, "bad_pipeline", "b"), gantry.Transition{To: gantry.Failed, Change: gantry.End, Kind: gantry.Illegal, Code: "bad_pipeline", Detail: "b"}},
	} {
		e := New(Options{Store: w, Session: w, Caller: w, Blobs: w.blobs, Plans: away{c.err}, Rand: func() float64 { return 0.5 }, Scratch: t.TempDir()})
		step, end := e.Begin(gantry.Task{Lease: lease, PublicID: "id", State: gantry.Inferring})
		c.want.Lease, c.want.From = lease, gantry.Inferring
		if diff := cmp.Diff(c.want, step(t.Context(), gantry.Task{Lease: lease, PublicID: "id", State: gantry.Inferring})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.err, diff)
		}
		end()
	}
}
