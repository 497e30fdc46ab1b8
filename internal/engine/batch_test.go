package engine

import (
	"bytes"
	"image"
	"image/png"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func tinyPNG(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 4, 4))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// made is an output of a stage.
func made(id gantry.ItemID, stage int16, origin gantry.ItemID, ordinal int32, kind string) gantry.Item {
	return gantry.Item{ID: id, Origin: origin, Parent: origin, Stage: stage, Ordinal: ordinal, Media: kind, Part: max(0, int32(origin)-1)}
}

// comesTo gives the items of each origin that come to a stage; the stage after the last stands for the end.
func comesTo(t *testing.T, w *work, stage int16) (out [][]gantry.ItemID) {
	t.Helper()
	came := w.sound()
	if stage > 0 {
		p, err := w.passed(t.Context(), stage-1)
		if err != nil {
			t.Fatal(err)
		}
		came = p.left
	}
	for _, o := range came.origins {
		out = append(out, came.of[o])
	}
	return out
}

func originals(n int, rejected gantry.ItemID) []gantry.Item {
	items := []gantry.Item{{ID: 0, Parent: gantry.NoItem, Stage: gantry.OriginalStage, Media: gantry.MediaZIP}}
	for i := 1; i <= n; i++ {
		id := gantry.ItemID(i)
		items = append(items, gantry.Item{ID: id, Origin: id, Parent: 0, Ordinal: int32(i - 1), Stage: gantry.OriginalStage,
			Media: gantry.MediaDICOM, Rejected: id == rejected})
	}
	return items
}

// TestReadsAndOutputs says what each stage reads and what is delivered in the end.
func TestReadsAndOutputs(t *testing.T) {
	t.Parallel()
	part, whole := gantry.EachPart, gantry.EachTask
	for _, c := range []struct {
		name   string
		stages []gantry.Each
		items  []gantry.Item
		failed []gantry.Part
		stage  int16                   // that reads
		want   map[int][]gantry.ItemID // by place among the origins
		paths  []string
	}{
		{name: "the first stage reads what is sound", stages: []gantry.Each{part}, items: originals(3, 2),
			want: map[int][]gantry.ItemID{0: {1}, 1: {3}}},
		{name: "data replace nothing", stages: []gantry.Each{part, part}, stage: 1,
			items: append(originals(2, 0), made(3, 0, 1, 0, gantry.MediaJSON), made(4, 0, 2, 0, gantry.MediaJSON)),
			want:  map[int][]gantry.ItemID{0: {1}, 1: {2}},
			paths: []string{"id/s0/000001.json", "id/s0/000002.json"}},
		{name: "media replace", stages: []gantry.Each{part, part}, stage: 1,
			items: append(originals(2, 0), made(3, 0, 2, 0, gantry.MediaPNG), made(4, 0, 1, 0, gantry.MediaPNG)),
			want:  map[int][]gantry.ItemID{0: {4}, 1: {3}},
			paths: []string{"id/s0/000001.png", "id/s0/000002.png"}},
		{name: "in the order of the answer", stages: []gantry.Each{part, part}, stage: 1,
			items: append(originals(1, 0), made(2, 0, 1, 1, gantry.MediaPNG), made(3, 0, 1, 0, "image/jpeg"), made(4, 0, 1, 2, gantry.MediaJSON)),
			want:  map[int][]gantry.ItemID{0: {3, 2}},
			paths: []string{"id/s0/000001.jpg", "id/s0/000001-2.png", "id/s0/000001-3.json"}},
		{name: "what a later stage replaced is not delivered", stages: []gantry.Each{part, part}, stage: 2,
			items: append(originals(1, 0), made(2, 0, 1, 0, gantry.MediaPNG), made(3, 1, 1, 0, gantry.MediaDICOM)),
			want:  map[int][]gantry.ItemID{0: {3}},
			paths: []string{"id/s1/000001.dcm"}},
		{name: "a part that failed is left out from there on", stages: []gantry.Each{part, part}, stage: 1,
			items:  append(originals(2, 0), made(3, 0, 2, 0, gantry.MediaJSON)),
			failed: []gantry.Part{{PartKey: gantry.PartKey{Stage: 0}, First: 1, Status: gantry.PartFailed}},
			want:   map[int][]gantry.ItemID{0: {2}},
			paths:  []string{"id/s0/000002.json"}},
		{name: "one answer for the whole task", stages: []gantry.Each{whole, part}, stage: 1,
			items: append(originals(3, 0), made(4, 0, 0, 0, gantry.MediaPNG), made(5, 0, 0, 1, gantry.MediaJSON)),
			want:  map[int][]gantry.ItemID{0: {4}},
			paths: []string{"id/s0/task.png", "id/s0/task-2.json"}},
		{name: "data about the whole task leave the parts", stages: []gantry.Each{whole, part}, stage: 1,
			items: append(originals(2, 0), made(3, 0, 0, 0, gantry.MediaJSON)),
			want:  map[int][]gantry.ItemID{0: {1}, 1: {2}},
			paths: []string{"id/s0/task.json"}},
		{name: "parts after the whole", stages: []gantry.Each{whole, part}, stage: 2,
			items: append(originals(2, 0), made(3, 0, 0, 0, gantry.MediaPNG), made(4, 1, 0, 0, gantry.MediaPNG)),
			want:  map[int][]gantry.ItemID{0: {4}},
			paths: []string{"id/s1/task.png"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			world := newWorld(t)
			for i, e := range c.stages {
				world.plan.Stages = append(world.plan.Stages, each("s"+string(rune('0'+i)), e, gantry.OnErrorSkip))
			}
			w := &work{plan: world.plan, task: gantry.Task{PublicID: "id"}, items: c.items,
				parts: map[gantry.PartKey]gantry.Part{}}
			for _, p := range c.failed {
				w.setPart(p)
			}
			got := map[int][]gantry.ItemID{}
			for i, items := range comesTo(t, w, c.stage) {
				got[i] = items
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("reads (-want +got):\n%s", diff)
			}
			var paths []string
			outputs, err := w.outputs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range outputs {
				paths = append(paths, x.path)
			}
			if diff := cmp.Diff(c.paths, paths); diff != "" {
				t.Errorf("delivers (-want +got):\n%s", diff)
			}
		})
	}
}
