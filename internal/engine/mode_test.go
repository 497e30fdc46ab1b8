package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// by makes an output of a part of one of a stage's processors.
func by(processor int16, part int32, x gantry.Item) gantry.Item {
	x.Processor, x.Part = processor, part
	return x
}

// from gives an output another parent than its origin.
func from(parent gantry.ItemID, x gantry.Item) gantry.Item {
	x.Parent = parent
	return x
}

func endedPart(stage, processor int16, ordinal int32, status gantry.PartStatus) gantry.Part {
	return gantry.Part{PartKey: gantry.PartKey{Stage: stage, Processor: processor, Ordinal: ordinal}, Status: status}
}

func fan(name string, how gantry.Each) gantry.Stage {
	return gantry.Stage{Name: name, Mode: gantry.Fanout, Each: how, Call: []string{"a", "b"}, OnError: gantry.OnErrorSkip}
}

func staged(mode gantry.Mode, how gantry.Each, pass gantry.Pass) gantry.Stage {
	return gantry.Stage{Name: "s", Mode: mode, Each: how, Call: []string{"m"}, Max: 2, Pass: pass, OnError: gantry.OnErrorSkip}
}

const (
	js = gantry.MediaJSON
	pn = gantry.MediaPNG
)

// TestModes says what the calls of the last stage are sent, what goes on after it, and what is delivered.
func TestModes(t *testing.T) {
	t.Parallel()
	seq, cum := gantry.Sequential, gantry.Cumulative
	for _, c := range []struct {
		name   string
		stages []gantry.Stage
		items  []gantry.Item
		parts  []gantry.Part
		calls  [][]gantry.ItemID // of the last stage, by ordinal
		left   [][]gantry.ItemID // after it, by origin
		paths  []string
	}{
		{name: "the union of a fanout by processor", stages: []gantry.Stage{fan("f", gantry.EachPart)},
			items: append(originals(2, 0), by(1, 0, made(3, 0, 1, 0, pn)), by(0, 0, made(4, 0, 1, 0, pn)), by(0, 1, made(5, 0, 2, 0, js))),
			calls: [][]gantry.ItemID{{1}, {2}}, left: [][]gantry.ItemID{{4, 3}, {2}},
			paths: []string{"id/f/a/000001.png", "id/f/b/000001.png", "id/f/a/000002.json"}},
		{name: "an origin that not all answered is left out", stages: []gantry.Stage{fan("f", gantry.EachPart)},
			items: append(originals(2, 0), by(0, 0, made(3, 0, 1, 0, js))),
			parts: []gantry.Part{endedPart(0, 0, 0, gantry.PartOK), endedPart(0, 1, 0, gantry.PartFailed), endedPart(0, 0, 1, gantry.PartOK), endedPart(0, 1, 1, gantry.PartOK)},
			calls: [][]gantry.ItemID{{1}, {2}}, left: [][]gantry.ItemID{{2}}, paths: []string{"id/f/a/000001.json"}},
		{name: "any of a fanout is enough", stages: []gantry.Stage{{Name: "f", Mode: gantry.Fanout, Each: gantry.EachPart, Call: []string{"a", "b"}, Need: 1}},
			items: append(originals(1, 0), by(1, 0, made(2, 0, 1, 0, pn))),
			parts: []gantry.Part{endedPart(0, 0, 0, gantry.PartFailed), endedPart(0, 1, 0, gantry.PartOK)},
			calls: [][]gantry.ItemID{{1}}, left: [][]gantry.ItemID{{2}}, paths: []string{"id/f/b/000001.png"}},
		{name: "a frame with all that was made of it", stages: []gantry.Stage{fan("f", gantry.EachPart), staged(cum, gantry.EachPart, "")},
			items: append(originals(2, 0), by(1, 0, made(3, 0, 1, 0, pn)), by(0, 0, made(4, 0, 1, 1, pn)), by(0, 0, made(5, 0, 1, 0, js)), by(0, 1, made(6, 0, 2, 0, js))),
			calls: [][]gantry.ItemID{{1, 5, 4, 3}, {2, 6}}, left: [][]gantry.ItemID{{4, 3}, {2}},
			paths: []string{"id/f/a/000001.json", "id/f/a/000001-2.png", "id/f/b/000001.png", "id/f/a/000002.json"}},
		{name: "a report over all, and over what the whole was answered", stages: []gantry.Stage{staged(seq, gantry.EachPart, ""), staged(seq, gantry.EachTask, ""), staged(cum, gantry.EachTask, "")},
			items: append(originals(2, 0), made(3, 0, 2, 0, js), made(4, 0, 1, 0, pn), made(5, 1, 0, 0, pn), made(6, 2, 0, 0, js)),
			calls: [][]gantry.ItemID{{1, 2, 4, 3, 5}}, left: [][]gantry.ItemID{{5}},
			paths: []string{"id/s/000002.json", "id/s/task.png", "id/s/task.json"}},
		{name: "one call for each item", stages: []gantry.Stage{staged(seq, gantry.EachPart, ""), staged(seq, gantry.EachItem, "")},
			items: append(originals(1, 0), made(2, 0, 1, 0, pn), made(3, 0, 1, 1, pn), by(0, 1, from(3, made(4, 1, 1, 0, pn))), by(0, 0, from(2, made(5, 1, 1, 0, js)))),
			calls: [][]gantry.ItemID{{2}, {3}}, left: [][]gantry.ItemID{{2, 4}},
			paths: []string{"id/s/000001.png", "id/s/000001.json", "id/s/000001-2.png"}},
		{name: "a batch answered one by one", stages: []gantry.Stage{staged(seq, gantry.EachBatch, "")},
			items: append(originals(3, 0), by(0, 0, made(4, 0, 1, 0, pn)), by(0, 0, made(5, 0, 2, 1, pn)), by(0, 1, made(6, 0, 3, 0, js))),
			calls: [][]gantry.ItemID{{1, 2}, {3}}, left: [][]gantry.ItemID{{4}, {5}, {3}},
			paths: []string{"id/s/000001.png", "id/s/000002.png", "id/s/000003.json"}},
		{name: "a batch answered as one", stages: []gantry.Stage{staged(seq, gantry.EachBatch, "")},
			items: append(originals(3, 0), by(0, 0, made(4, 0, 1, 0, pn)), by(0, 1, made(5, 0, 3, 0, js))),
			calls: [][]gantry.ItemID{{1, 2}, {3}}, left: [][]gantry.ItemID{{4}, {3}},
			paths: []string{"id/s/000001.png", "id/s/000003.json"}},
		{name: "data of a batch belong to each", stages: []gantry.Stage{staged(seq, gantry.EachBatch, ""), staged(cum, gantry.EachPart, "")},
			items: append(originals(2, 0), by(0, 0, made(3, 0, 1, 0, js))),
			calls: [][]gantry.ItemID{{1, 3}, {2, 3}}, left: [][]gantry.ItemID{{1}, {2}}, paths: []string{"id/s/000001.json"}},
		{name: "the answers alone", stages: []gantry.Stage{staged(seq, gantry.EachPart, gantry.PassOutputs)},
			items: append(originals(2, 0), made(3, 0, 1, 0, js)),
			calls: [][]gantry.ItemID{{1}, {2}}, left: [][]gantry.ItemID{{3}}, paths: []string{"id/s/000001.json"}},
		{name: "what was sent alone", stages: []gantry.Stage{staged(seq, gantry.EachPart, gantry.PassInputs)},
			items: append(originals(1, 0), made(2, 0, 1, 0, pn)),
			calls: [][]gantry.ItemID{{1}}, left: [][]gantry.ItemID{{1}}, paths: []string{"id/s/000001.png"}},
		{name: "both", stages: []gantry.Stage{staged(seq, gantry.EachPart, gantry.PassBoth), staged(seq, gantry.EachPart, gantry.PassBoth)},
			items: append(originals(1, 0), made(2, 0, 1, 0, pn), made(3, 1, 1, 0, js)),
			calls: [][]gantry.ItemID{{1, 2}}, left: [][]gantry.ItemID{{1, 2, 3}}, paths: []string{"id/s/000001.png", "id/s/000001.json"}},
		{name: "a part that was not sent passes on", stages: []gantry.Stage{staged(seq, gantry.EachPart, gantry.PassOutputs)},
			items: append(originals(2, 0), by(0, 1, made(3, 0, 2, 0, pn))), parts: []gantry.Part{endedPart(0, 0, 0, gantry.PartSkipped)},
			calls: [][]gantry.ItemID{{1}, {2}}, left: [][]gantry.ItemID{{1}, {3}}, paths: []string{"id/s/000002.png"}},
		{name: "a batch that failed is a gap", stages: []gantry.Stage{staged(seq, gantry.EachBatch, "")}, items: originals(3, 0),
			parts: []gantry.Part{endedPart(0, 0, 0, gantry.PartFailed)}, calls: [][]gantry.ItemID{{1, 2}, {3}}, left: [][]gantry.ItemID{{3}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			world := newWorld(t, c.stages...)
			w := &work{plan: world.plan, task: gantry.Task{PublicID: "id"}, items: c.items, parts: map[gantry.PartKey]gantry.Part{}}
			for _, p := range c.parts {
				w.setPart(p)
			}
			last := int16(len(c.stages) - 1)
			p, err := w.enter(t.Context(), last)
			if err != nil {
				t.Fatal(err)
			}
			var calls [][]gantry.ItemID
			for _, g := range p.groups {
				calls = append(calls, g.inputs)
			}
			if diff := cmp.Diff(c.calls, calls); diff != "" {
				t.Errorf("sends (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.left, comesTo(t, w, last+1)); diff != "" {
				t.Errorf("leaves (-want +got):\n%s", diff)
			}
			outputs, err := w.outputs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var paths []string
			for _, x := range outputs {
				paths = append(paths, x.path)
			}
			if diff := cmp.Diff(c.paths, paths); diff != "" {
				t.Errorf("delivers (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFanout calls each processor for each origin, takes what need allows, and says what failed.
func TestFanout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fan("f", gantry.EachPart))
	w.leaves(2)
	w.process = func(ctx context.Context, r *gantry.Request) error {
		if strings.Contains(r.Key, "/b/1/") {
			return gantry.Errorf(gantry.Permanent, "http_422", "no")
		}
		return answer1(gantry.MediaJSON, `1`)(ctx, r)
	}
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Fatalf("left with %+v", tr)
	}
	if diff := cmp.Diff([]string{"id/0/f/a/0/0", "id/0/f/a/1/0", "id/0/f/b/0/0", "id/0/f/b/1/0"}, w.calledKeys()); diff != "" {
		t.Errorf("called (-want +got):\n%s", diff)
	}
	if tr := w.step(t.Context(), gantry.Responding, 0); tr.To != gantry.Done {
		t.Fatalf("left with %+v", tr)
	}
	if got := strings.Join(w.put, " "); !strings.Contains(got, "id/f/a/000001.json") || !strings.Contains(got, "id/f/b/000001.json") || len(w.put) != 4 {
		t.Errorf("delivered %s", got)
	}
	w.called = nil
	w.plan.Stages[0].OnError = gantry.OnErrorFail
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Failed || tr.Code != "http_422" || len(w.called) != 0 {
		t.Errorf("where both must answer: %+v", tr)
	}
	w.plan.Stages[0].Need = 1
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding || len(w.called) != 0 {
		t.Errorf("where one is enough: %+v", tr)
	}
}

// TestBatchOrigins lines the answers of a batch up with what they are about.
func TestBatchOrigins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, staged(gantry.Sequential, gantry.EachBatch, ""))
	w.leaves(3)
	picture := string(tinyPNG(t))
	w.process = func(ctx context.Context, r *gantry.Request) error {
		for range r.Items {
			if err := answer1(gantry.MediaPNG, picture)(ctx, r); err != nil {
				return err
			}
		}
		return answer1(gantry.MediaJSON, `1`)(ctx, r)
	}
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Fatalf("left with %+v", tr)
	}
	if len(w.called) != 2 || w.parts[gantry.PartKey{}].Count != 2 || w.parts[gantry.PartKey{Ordinal: 1}].First != 3 {
		t.Errorf("called %v, parts %+v", w.called, w.parts)
	}
	got := map[gantry.ItemID][]string{}
	for _, x := range w.items[4:] {
		if x.Media == pn && x.Parent != x.Origin {
			t.Errorf("%d is made of %d, about %d", x.ID, x.Parent, x.Origin)
		}
		got[x.Origin] = append(got[x.Origin], x.Media)
	}
	if diff := cmp.Diff(map[gantry.ItemID][]string{1: {pn, js}, 2: {pn}, 3: {pn, js}}, got); diff != "" {
		t.Errorf("answers by origin (-want +got):\n%s", diff)
	}
}

// TestFanoutResumes goes on where a process died in the middle of a fanout: what was answered is not
// called again, and what was made has the places that it would have had.
func TestFanoutResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, fan("f", gantry.EachPart), staged(gantry.Cumulative, gantry.EachTask, ""))
	w.leaves(4)
	ctx, die := context.WithCancelCause(t.Context())
	var n atomic.Int32
	w.process = func(ctx context.Context, r *gantry.Request) error {
		if n.Add(1) > 3 {
			die(errors.New("killed"))
			return ctx.Err()
		}
		return answer1(gantry.MediaJSON, r.Key)(ctx, r)
	}
	if tr := w.step(ctx, gantry.Inferring, 0); tr.Change != gantry.Release {
		t.Fatalf("the first process left with %+v", tr)
	}
	n.Store(-100)
	w.called = nil
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Inferring || tr.Stage != 1 {
		t.Fatalf("the second process left with %+v", tr)
	}
	if len(w.called) != 5 {
		t.Errorf("called %v again", w.called)
	}
	var got []string
	w.process = func(_ context.Context, r *gantry.Request) error {
		for _, x := range r.Items {
			got = append(got, string(x.Body))
		}
		return nil
	}
	w.step(t.Context(), gantry.Inferring, 1)
	want := []string{"\x00", "\x01", "\x02", "\x03"}
	for _, p := range []string{"a", "b"} {
		for i := range 4 {
			want = append(want, fmt.Sprintf("id/0/f/%s/%d/0", p, i))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the report reads (-want +got):\n%s", diff)
	}
}
