package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestAnswerThatVanishes calls a later part again though all that it is sent now was there before: an answer that went
// with it is not there any more.
func TestAnswerThatVanishes(t *testing.T) {
	t.Parallel()
	f := newFamily(t, 3, 0, anyOf(fan("f", gantry.EachPart)), staged(gantry.Cumulative, gantry.EachPart, ""))
	f.process = byBody(t)
	if tr := f.run(t.Context(), top); tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	f.called, f.process = nil, func(ctx context.Context, r *gantry.Request) error {
		if strings.Contains(r.Key, "/f/b/1/") {
			return gantry.Errorf(gantry.Permanent, "http_422", "no")
		}
		return byBody(t)(ctx, r)
	}
	if tr := f.redrive(func(p gantry.Part) bool { return p.Processor == 1 && p.Ordinal == 1 }); tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	if diff := cmp.Diff([]string{"id/0/f/b/1/1", "id/0/s/m/1/1"}, f.calledKeys()); diff != "" {
		t.Errorf("called (-want +got):\n%s", diff)
	}
}

// TestNewestGenerationControl shows that what an earlier generation was answered is hidden by nothing but the selection of
// the newest: without it, it would be delivered.
func TestNewestGenerationControl(t *testing.T) {
	t.Parallel()
	f := newFamily(t, 3, 0, each("a", gantry.EachPart, gantry.OnErrorFail))
	f.process = byBody(t)
	f.run(t.Context(), top)
	if tr := f.redrive(func(p gantry.Part) bool { return p.Ordinal == 1 }); tr.To != gantry.Done {
		t.Fatalf("ended with %+v", tr)
	}
	keys := func(selects bool) (out []string) {
		e := New(Options{Store: f, Session: f, Caller: f, Blobs: f.blobs, Plans: f, Scratch: t.TempDir()})
		w := &work{e: e, shelf: newShelf(e), task: gantry.Task{Lease: lease, PublicID: "id", State: gantry.Responding, Delivery: 1}}
		if err := w.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !selects {
			w.raised = nil
		}
		list, err := w.outputs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			out = append(out, x.key)
		}
		return out
	}
	if diff := cmp.Diff([]string{"id/0/a/m/0/0", "id/0/a/m/1/1", "id/0/a/m/2/0"}, keys(true)); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if got := keys(false); slices.Contains(got, "id/0/a/m/1/1") || !slices.Contains(got, "id/0/a/m/1/0") {
		t.Errorf("the control delivers %v", got)
	}
}

// TestRedriveDiesWhilePlanning loses the process at every commit of a redrive that plans more parts than fit into one:
// whoever goes on gives each part the same place, and calls it once.
func TestRedriveDiesWhilePlanning(t *testing.T) {
	t.Parallel()
	const n = chunk + 10
	for die := range 2 {
		f := newFamily(t, n, 0, each("a", gantry.EachPart, gantry.OnErrorSkip), each("b", gantry.EachPart, gantry.OnErrorSkip))
		f.process = answer1(gantry.MediaPNG, string(tinyPNG(t)))
		f.run(t.Context(), top)
		f.called = nil
		for k, p := range liveOf(f.parts) {
			if k.Stage == 0 {
				p.Generation = 1
				f.parts[p.PartKey] = gantry.Part{PartKey: p.PartKey, First: p.First, Count: 1, DueIn: -1, Reason: gantry.CodeRedriven}
			}
		}
		task := gantry.Task{Lease: lease, PublicID: "id", State: gantry.Inferring, Delivery: 1}
		if tr := f.stepOf(t.Context(), task); tr.Stage != 1 {
			t.Fatalf("left with %+v", tr)
		}
		task.Stage = 1
		w := &dying{world: f.world, left: die}
		if tr := w.step(t.Context(), task); tr.Change != gantry.Retry {
			t.Fatalf("the process that dies left with %+v", tr)
		}
		if tr := f.run(t.Context(), task); tr.To != gantry.Done {
			t.Fatalf("ended with %+v", tr)
		}
		keys := f.calledKeys()
		if len(keys) != 2*n || len(slices.Compact(keys)) != 2*n {
			t.Errorf("after %d commits: %d calls", die, len(keys))
		}
		live := liveOf(f.parts)
		for i := range int32(n) {
			if p := live[gantry.PartKey{Stage: 1, Ordinal: i}]; p.First != gantry.ItemID(i+1) || p.Generation != 1 || p.Status != gantry.PartOK {
				t.Fatalf("after %d commits: part %d is %+v", die, i, p)
			}
		}
	}
}

// dying is a world in which a process dies after so many commits.
type dying struct {
	*world
	left int
}

func (d *dying) Commit(ctx context.Context, x *gantry.Write) error {
	if d.left--; d.left < 0 {
		return errors.New("the line is cut")
	}
	return d.world.Commit(ctx, x)
}

func (d *dying) step(ctx context.Context, task gantry.Task) gantry.Transition {
	e := New(Options{Store: d, Session: d, Caller: d, Blobs: d.blobs, Plans: d, Rand: func() float64 { return 0.5 }, Scratch: d.t.TempDir()})
	step, end := e.Begin(task)
	defer end()
	return step(ctx, task)
}
