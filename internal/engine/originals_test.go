package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// ward is a source that keeps the members of a collection, by place.
type ward struct {
	gantry.Source
	mu    sync.Mutex
	files map[string][]byte
	asked int
	fail  func(nth int, place string) error // nth from 0
}

func (b *ward) Locate(context.Context, gantry.Object) (string, error) { return "", nil }

func (b *ward) OpenRange(_ context.Context, place string, from, n int64) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.fail != nil {
		if err := b.fail(b.asked-1, place); err != nil {
			return nil, err
		}
	}
	body, ok := b.files[place]
	if !ok {
		return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "gone")
	}
	return io.NopCloser(bytes.NewReader(body[from : from+n])), nil
}

// collect makes the world's task one of a collection whose members were copied.
func (w *world) collect(bodies ...[]byte) {
	w.several = nil
	for i, b := range bodies {
		at := fmt.Sprint("in", i)
		w.blobs[at] = b
		w.several = append(w.several, gantry.Arrival{ID: int64(900 - i), Collection: 4, Source: "p/inbox", Name: fmt.Sprintf("DOE^JANE/%05d", i),
			Location: at, Size: int64(len(b)), SHA: sha256.Sum256(b), Version: "v"})
	}
}

// leave leaves the members where their source keeps them.
func (w *world) leave() *ward {
	b := &ward{files: map[string][]byte{}}
	for i := range w.several {
		a := &w.several[i]
		at := fmt.Sprint("place of ", i)
		b.files[at] = w.blobs[a.Location]
		delete(w.blobs, a.Location)
		a.Place, a.Location, a.SHA, a.Version = at, "", gantry.Digest{}, "same"
	}
	w.plan.Sources = []Source{{Name: "inbox", Index: 3, Open: func(context.Context) (gantry.Source, int32, error) { return b, 5, nil }}}
	w.plan.Retry.Initial = 0
	return b
}

// pictures are n PNGs that differ.
func pictures(t *testing.T, n int) [][]byte {
	t.Helper()
	out := make([][]byte, n)
	for i := range out {
		img := image.NewGray(image.Rect(0, 0, 4, 4))
		img.Pix[0], img.Pix[1] = byte(i), byte(i>>8)
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		out[i] = b.Bytes()
	}
	return out
}

func manifestIn(t *testing.T, text string) (m manifest) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// gathered has a task of a collection that is put together again at a sink. Its service gives back what it gets.
func gathered(t *testing.T, bodies [][]byte, stages ...gantry.Stage) (*family, *keeper) {
	t.Helper()
	f, k := apart(t, nil, stages...)
	f.items = nil
	f.collect(bodies...)
	return f, k
}

// TestCollection takes members of all kinds through everything: each is an origin, or holds some; what is about the whole is one
// call; members that are containers are put together by themselves; and no path has a name in it.
func TestCollection(t *testing.T) {
	t.Parallel()
	p, j, loop := tinyPNG(t), tinyJPEG(t), sample.Ultrasound(3, 16, 16)
	bodies := [][]byte{p, packed(t, media.ArchiveZip, j, loop), loop, packed(t, media.ArchiveTarGzip, p, j), j}
	for name, place := range map[string]bool{"copied": false, "in place": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			report := each("report", gantry.EachTask, gantry.OnErrorFail)
			report.Mode = gantry.Cumulative
			f, k := gathered(t, bodies, each("a", gantry.EachPart, gantry.OnErrorFail), report)
			if place {
				f.leave()
			}
			var whole []gantry.Item
			f.process = func(ctx context.Context, r *gantry.Request) error {
				if strings.Contains(r.Key, "/report/") {
					whole = r.Items
					return answer1(gantry.MediaJSON, `{"one": true}`)(ctx, r)
				}
				return echo(ctx, r)
			}
			f.finish()
			roots, origins := map[gantry.ItemID]string{}, 0
			x := &work{items: f.items, many: true}
			for _, y := range x.originals() {
				roots[y.ID] = x.path(y)
			}
			want := map[gantry.ItemID]string{1: "input#0", 2: "input#1", 8: "input#2", 12: "input#3", 15: "input#4"}
			if diff := cmp.Diff(want, roots); diff != "" {
				t.Errorf("roots (-want +got):\n%s", diff)
			}
			for _, y := range x.leaves() {
				if origins++; y.Origin != y.ID || y.ID == 0 {
					t.Errorf("item %d has origin %d", y.ID, y.Origin)
				}
			}
			if origins != 11 || len(f.called) != 12 || len(whole) != 22 {
				t.Errorf("%d origins, %d calls, %d items in the call for all", origins, len(f.called), len(whole))
			}
			if diff := cmp.Diff([]string{"id/_manifest.json", "id/a/000001.png", "id/a/000011.jpg", "id/a/original-000002/rejoined.zip", "id/a/original-000003/rejoined.dcm",
				"id/a/original-000004/rejoined.tar.gz", "id/report/task.json"}, k.names()); diff != "" {
				t.Errorf("delivered (-want +got):\n%s", diff)
			}
			sameFrames(t, loop, k.files["id/a/original-000003/rejoined.dcm"])
			if got := entries(t, gantry.MediaGZIP, k.files["id/a/original-000004/rejoined.tar.gz"]); len(got) != 2 || !bytes.Equal(got[1], j) {
				t.Errorf("%d entries in the tar", len(got))
			}
			text := string(k.files["id/_manifest.json"])
			m := manifestIn(t, text)
			if m.Input != nil || len(m.Inputs) != 5 || len(m.Items) != 11 || strings.Contains(text, "DOE") || len(m.Errors) != 0 {
				t.Errorf("manifest %s", text)
			}
			for i, in := range m.Inputs {
				sum := sha256.Sum256(bodies[i])
				if in.Size != int64(len(bodies[i])) || in.SHA256 != gantry.Digest(sum).String() && (!place || in.SHA256 != "" || in.ETag != "same") {
					t.Errorf("input %d: %+v", i, in)
				}
			}
			for _, o := range m.Outputs {
				if o.Path == "a/original-000003/rejoined.dcm" && (o.Parent != "input#2" || len(o.Joined) != 3 || o.Joined[1].Parent != "input#2#1") ||
					o.Path == "report/task.json" && o.Parent != "input" {
					t.Errorf("output %+v", o)
				}
			}
		})
	}
}

// TestManyInPlace keeps little of many members in memory, and reads each in one request a pass.
func TestManyInPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachTask, gantry.OnErrorFail))
	w.plan.Extract.MaxEntries = 5000
	w.collect(pictures(t, 2000)...)
	b := w.leave()
	e := New(Options{Store: w, Session: w, Caller: w, Blobs: w.blobs, Plans: w, Rand: func() float64 { return 0 }, Scratch: t.TempDir()})
	task := gantry.Task{Lease: lease, PublicID: "id", State: gantry.Extracting}
	x := &work{e: e, task: task, shelf: newShelf(e)}
	for s := gantry.Extracting; s < gantry.Inferring; s++ {
		task.State = s
		if tr := x.step(t.Context(), task); tr.Change != gantry.Advance {
			t.Fatalf("%+v", tr)
		}
		if n := e.cached.Load(); n > mostIdle || len(x.reads.open) > mostIdle {
			t.Errorf("after %s %d blocks of %d members are kept", s, n, len(x.reads.open))
		}
	}
	if b.asked > 2*2000 {
		t.Errorf("%d requests for 2,000 members", b.asked)
	}
	x.close()
	if n := e.cached.Load(); n != 0 {
		t.Errorf("%d blocks are counted after the end", n)
	}
}

// TestShardsOfACollection gives the same as a task that is not divided.
func TestShardsOfACollection(t *testing.T) {
	t.Parallel()
	bodies := pictures(t, 1200)
	bodies[700] = packed(t, media.ArchiveZip, bodies[700], bodies[701])
	report := each("report", gantry.EachTask, gantry.OnErrorFail)
	report.Mode = gantry.Cumulative
	var was [2]string
	var paths [2][]string
	for i, shard := range []int{5000, 500} {
		f := newFamily(t, 0, shard, each("a", gantry.EachPart, gantry.OnErrorFail), report)
		f.items, f.plan.Extract.MaxEntries, f.process = nil, 5000, echo
		f.collect(bodies...)
		f.leave()
		f.finish()
		if want := []int{0, 3}[i]; len(f.kin) != want || len(f.called) != 1202 {
			t.Errorf("%d children, %d calls", len(f.kin), len(f.called))
		}
		was[i], paths[i] = f.manifests()
	}
	if diff := cmp.Diff(was[0], was[1]); diff != "" || !slices.Equal(paths[0], paths[1]) {
		t.Errorf("(-whole +in shards)\n%s", diff)
	}
}

// TestConditionsOfACollection tells expressions how many members there are, and of what size together.
func TestConditionsOfACollection(t *testing.T) {
	t.Parallel()
	for _, mixed := range []bool{false, true} {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		bodies, kind := pictures(t, 5), gantry.MediaPNG
		if mixed {
			bodies[4], kind = tinyJPEG(t), ""
		}
		w.collect(bodies...)
		var size int64
		for _, b := range bodies {
			size += int64(len(b))
		}
		w.step(t.Context(), gantry.Extracting, 0)
		var seen []map[string]any
		w.plan.When = holds(&seen, func(map[string]any) bool { return false })
		if tr := w.step(t.Context(), gantry.Ingesting, 0); tr.Code != gantry.CodeFiltered {
			t.Errorf("%+v", tr)
		}
		vars := map[string]any{"object": map[string]any{"size": size, "media": kind, "source": "inbox", "count": 5}, "items": map[string]any{"count": 5}}
		if diff := cmp.Diff(vars, seen[0]); diff != "" {
			t.Errorf("knows (-want +got):\n%s", diff)
		}
	}
}

// TestStudiesOfACollection makes a child of each study among the members, with the members that it has as its inputs, once the
// collection was moved to another pipeline. In the one that put it together it stays one task, and no file is read for that.
func TestStudiesOfACollection(t *testing.T) {
	t.Parallel()
	files := slicesOf(t)
	f, k := gathered(t, [][]byte{files[0], files[2], files[1]}, each("a", gantry.EachTask, gantry.OnErrorFail))
	f.plan.Group, f.plan.Extract.Frames = gantry.GroupStudy, gantry.RenderNone
	f.leave()
	f.process = answer1(gantry.MediaJSON, `1`)
	if tr := f.run(t.Context(), begin); tr.To != gantry.Done || len(f.kin) != 0 || len(f.called) != 1 {
		t.Fatalf("%+v, %d children", tr, len(f.kin))
	}
	f.called, f.items, f.parts = nil, nil, map[gantry.PartKey]gantry.Part{}
	moved := begin
	moved.Leg = 1
	if tr := f.run(t.Context(), moved); tr.To != gantry.Done {
		t.Fatalf("%+v", tr)
	}
	var inputs []int
	for _, c := range f.kin {
		inputs = append(inputs, len(manifestIn(t, string(k.files[c.PublicID+"/_manifest.json"])).Inputs))
	}
	m := manifestIn(t, string(k.files["id/leg1/_manifest.json"]))
	if slices.Sort(inputs); !slices.Equal(inputs, []int{1, 2}) || len(f.called) != 2 || len(m.Inputs) != 3 || len(m.Children) != 2 {
		t.Errorf("%v inputs, %d calls, %+v", inputs, len(f.called), m)
	}
}

// TestMembersByArrival reads each member where its own arrival says, in whatever order the store gives them.
func TestMembersByArrival(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	bodies := pictures(t, 6)
	w.collect(bodies...)
	w.leave()
	for s := gantry.Extracting; s < gantry.Inferring; s++ {
		w.step(t.Context(), s, 0)
	}
	slices.Reverse(w.several) // names were erased
	got := map[string][]byte{}
	w.process = sends(w, got)
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Fatalf("%+v", tr)
	}
	for i, b := range bodies {
		if !bytes.Equal(got[fmt.Sprintf("id/0/a/m/%d/0", i)], b) {
			t.Errorf("member %d was sent as another", i)
		}
	}
}
