package gate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// booth is a session that notes the order of what a gate does with it.
type booth struct {
	did    []string
	hold   error // what there is in place of a unit
	refuse error // what the second commit fails with
}

func (b *booth) Commit(_ context.Context, w *gantry.Write) error {
	if w.Intent != nil {
		b.did = append(b.did, "intent")
		return nil
	}
	b.did = append(b.did, "outcome")
	return b.refuse
}

func (b *booth) Acquire(context.Context, int32, int16) (func(), error) {
	b.did = append(b.did, "acquire")
	return sync.OnceFunc(func() { b.did = append(b.did, "release") }), nil
}

func (*booth) Saw(int32, gantry.Showing) {}

func (b *booth) Hold(_ context.Context, _ int32, _ int16, patience time.Duration) (func(bool), error) {
	b.did = append(b.did, "hold "+patience.String())
	if b.hold != nil {
		return nil, b.hold
	}
	over := false
	return func(out bool) {
		switch {
		case over:
		case out:
			b.did = append(b.did, "out")
		default:
			b.did = append(b.did, "back")
		}
		over = true
	}, nil
}

func (b *booth) Alive() bool { return true }

// TestUnits takes a unit after the intent for a call, before it for a submission, which keeps it until its outcome is
// committed, and none for what is done about a part that is out.
func TestUnits(t *testing.T) {
	t.Parallel()
	broke := errors.New("broke")
	goes := []gantry.Part{{Status: gantry.PartOut}}
	for name, c := range map[string]struct {
		unit   gantry.UnitUse
		booth  booth
		send   error
		parts  []gantry.Part
		want   []string
		failed error
	}{
		"call":            {unit: gantry.UnitOfCall, want: []string{"intent", "acquire", "send", "release", "seal", "outcome"}},
		"ticket":          {unit: gantry.UnitKept, parts: goes, want: []string{"hold 3s", "intent", "send", "seal", "outcome", "out"}},
		"answer at once":  {unit: gantry.UnitKept, want: []string{"hold 3s", "intent", "send", "seal", "outcome", "back"}},
		"broken":          {unit: gantry.UnitKept, send: broke, failed: broke, want: []string{"hold 3s", "intent", "send", "seal", "outcome", "back"}},
		"no unit":         {unit: gantry.UnitKept, booth: booth{hold: gantry.ErrNoUnit}, failed: gantry.ErrNoUnit, want: []string{"hold 3s"}},
		"unknown outcome": {unit: gantry.UnitKept, booth: booth{refuse: broke}, parts: goes, failed: gantry.ErrNotRecorded, want: []string{"hold 3s", "intent", "send", "seal", "outcome", "out"}},
		"of one out":      {unit: gantry.UnitNone, want: []string{"intent", "send", "seal", "outcome"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &c.booth
			g := New(b, gantry.NewIDs(time.Now, zeros{}), time.Now)
			err := g.Call(t.Context(), gantry.CallSpec{Unit: c.unit, Patience: 3 * time.Second, Intent: gantry.Intent{Boundary: gantry.AtProcessor}},
				func(ctx context.Context) error {
					b.did = append(b.did, "send")
					MeterFrom(ctx).Began()
					return c.send
				},
				func(context.Context, error) (*gantry.Write, error) {
					b.did = append(b.did, "seal")
					return &gantry.Write{Parts: c.parts}, nil
				})
			if !errors.Is(err, c.failed) {
				t.Errorf("ended with %v, want %v", err, c.failed)
			}
			if diff := cmp.Diff(c.want, slices.Clone(b.did)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		})
	}
}
