package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// keeper is a sink that keeps what it gets. refuse, if set, is asked first.
type keeper struct {
	refuse func(path string) error
	mu     sync.Mutex
	files  map[string][]byte
}

// Deliver keeps a file.
func (k *keeper) Deliver(ctx context.Context, d gantry.Delivery) error {
	if k.refuse != nil {
		if err := k.refuse(d.Path); err != nil {
			return err
		}
	}
	r, err := d.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.files[d.Path] = b
	return err
}

func (k *keeper) names() []string { return slices.Sorted(maps.Keys(k.files)) }

// apart has a task of a file that is taken apart and put together again at a sink. Its service gives back
// what it gets.
func apart(t *testing.T, body []byte, stages ...gantry.Stage) (*family, *keeper) {
	t.Helper()
	f := newFamily(t, 0, 0, stages...)
	x := &f.plan.Extract
	x.Archives, x.Frames, x.Window = []string{"zip", "tar", "tar.gz", "tar.zst"}, gantry.RenderPNG, "stored"
	x.MaxEntries = 1000
	k := &keeper{files: map[string][]byte{}}
	f.plan.Sinks = []Sink{{Name: "s", Limiter: 9, Sink: k, Rejoin: true}}
	f.blobs["in"] = body
	f.process = echo
	return f, k
}

var begin = gantry.Task{Lease: lease, PublicID: "id", State: gantry.Extracting}

// finish takes the task to its end.
func (f *family) finish() {
	f.t.Helper()
	if tr := f.run(f.t.Context(), begin); tr.To != gantry.Done {
		f.t.Fatalf("ended with %+v", tr)
	}
}

// echo answers each item with itself.
func echo(ctx context.Context, r *gantry.Request) error {
	for i, x := range r.Items {
		body, err := r.Open(ctx, i)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(body)
		body.Close()
		if err := errors.Join(err, r.Receive(ctx, x.Media, int64(len(b)), bytes.NewReader(b))); err != nil {
			return err
		}
	}
	return nil
}

// sameFrames wants two files to have the same stored values.
func sameFrames(t *testing.T, was, is []byte) {
	t.Helper()
	a, b := valuesOf(t, was), valuesOf(t, is)
	if len(a) != len(b) {
		t.Fatalf("%d frames of %d", len(b), len(a))
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			t.Errorf("frame %d differs", i)
		}
	}
}

func valuesOf(t *testing.T, b []byte) (out [][]byte) {
	t.Helper()
	f, err := dicom.OpenFrames(bytes.NewReader(b), int64(len(b)), dicom.DefaultFrameLimits())
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Len() {
		p, err := f.Picture(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p.Values)
	}
	return out
}

// entries gives the entries of an archive in their order.
func entries(t *testing.T, kind string, b []byte) (out [][]byte) {
	t.Helper()
	if kind == gantry.MediaGZIP || kind == gantry.MediaZSTD {
		var plain bytes.Buffer
		w := newWorld(t)
		if _, err := media.Decompress(t.Context(), kind, bytes.NewReader(b), &plain, 1, media.NewBudget((&work{plan: w.plan}).limits())); err != nil {
			t.Fatal(err)
		}
		kind, b = gantry.MediaTAR, plain.Bytes()
	}
	w := newWorld(t)
	a, err := media.OpenArchive(kind, bytes.NewReader(b), int64(len(b)), 1, media.NewBudget((&work{plan: w.plan}).limits()))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range a.Entries() {
		r, err := a.Open(e.Ordinal)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, body)
	}
	return out
}

// TestRejoinNested puts frames within archives within archives back where they were.
func TestRejoinNested(t *testing.T) {
	t.Parallel()
	loop, p, j := sample.Ultrasound(3, 16, 16), tinyPNG(t), tinyJPEG(t)
	in := packed(t, media.ArchiveTarZstd, j, packed(t, media.ArchiveTarGzip, p, packed(t, media.ArchiveZip, loop, p)), loop)
	f, k := apart(t, in, each("a", gantry.EachPart, gantry.OnErrorFail))
	f.finish()
	if diff := cmp.Diff([]string{"id/_manifest.json", "id/a/rejoined.tar.zst"}, k.names()); diff != "" {
		t.Fatalf("delivered (-want +got):\n%s", diff)
	}
	top := entries(t, gantry.MediaZSTD, k.files["id/a/rejoined.tar.zst"])
	if len(top) != 3 || !bytes.Equal(top[0], j) {
		t.Fatalf("%d entries", len(top))
	}
	sameFrames(t, loop, top[2])
	inner := entries(t, gantry.MediaGZIP, top[1])
	if len(inner) != 2 || !bytes.Equal(inner[0], p) {
		t.Fatalf("%d entries within", len(inner))
	}
	deepest := entries(t, gantry.MediaZIP, inner[1])
	if len(deepest) != 2 || !bytes.Equal(deepest[1], p) {
		t.Fatalf("%d entries at the bottom", len(deepest))
	}
	sameFrames(t, loop, deepest[0])
	if len(f.called) != 9 {
		t.Errorf("%d calls for 9 leaves", len(f.called))
	}
}

// TestRejoinOutlivesACrash delivers the container that was made before a process died, although what it was made of
// cannot be read any more.
func TestRejoinOutlivesACrash(t *testing.T) {
	t.Parallel()
	f, k := apart(t, sample.Ultrasound(3, 16, 16), each("a", gantry.EachPart, gantry.OnErrorFail))
	ctx, die := context.WithCancelCause(t.Context())
	k.refuse = func(string) error { die(errors.New("killed")); return context.Cause(ctx) }
	if tr := f.run(ctx, begin); tr.Change != gantry.Release || tr.From != gantry.Responding {
		t.Fatalf("the first process left with %+v", tr)
	}
	made := f.containers()
	if len(made) != 1 || len(k.files) > 0 {
		t.Fatalf("%d containers on record, delivered %v", len(made), k.names())
	}
	k.refuse, f.blobs["in"] = nil, nil
	if tr := f.step(t.Context(), gantry.Responding, 0); tr.To != gantry.Done {
		t.Fatalf("the second process left with %+v", tr)
	}
	if diff := cmp.Diff(made, f.containers()); diff != "" {
		t.Errorf("containers (-first +second):\n%s", diff)
	}
	if !bytes.Equal(k.files["id/a/rejoined.dcm"], made[0].Body) {
		t.Errorf("delivered %v, not what was made", k.names())
	}
	f.items = slices.DeleteFunc(f.items, func(x gantry.Item) bool { return x.Transform == rejoinTransform })
	if tr := f.step(t.Context(), gantry.Responding, 0); tr.To == gantry.Done {
		t.Error("the control: without the container on record it was delivered too")
	}
}

// containers are those on record.
func (w *world) containers() (out []gantry.Item) {
	for _, x := range w.items {
		if x.Transform == rejoinTransform {
			out = append(out, x)
		}
	}
	return out
}

// TestRejoinAtOneOfTwoSinks gives each sink what it asks for, in either order, and makes the container once.
func TestRejoinAtOneOfTwoSinks(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		f, k := apart(t, sample.Ultrasound(3, 16, 16), each("a", gantry.EachPart, gantry.OnErrorFail))
		plain, again := &keeper{files: map[string][]byte{}}, &keeper{files: map[string][]byte{}}
		sinks := []Sink{f.plan.Sinks[0], {Name: "plain", Index: 1, Limiter: 9, Sink: plain}, {Name: "again", Index: 2, Limiter: 9, Sink: again, Rejoin: true}}
		if !first {
			slices.Reverse(sinks)
		}
		f.plan.Sinks = sinks
		f.finish()
		if diff := cmp.Diff([]string{"id/_manifest.json", "id/a/rejoined.dcm"}, k.names()); diff != "" || !cmp.Equal(k.files, again.files) {
			t.Errorf("delivered together (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"id/_manifest.json", "id/a/000001.png", "id/a/000002.png", "id/a/000003.png"}, plain.names()); diff != "" {
			t.Errorf("delivered apart (-want +got):\n%s", diff)
		}
		if n := len(f.containers()); n != 1 {
			t.Errorf("%d containers on record", n)
		}
		if bytes.Contains(plain.files["id/_manifest.json"], []byte("joined")) || !bytes.Contains(k.files["id/_manifest.json"], []byte(`"joined"`)) {
			t.Error("a manifest is that of the other sink")
		}
	}
}

// TestRejoinOfDataAlone delivers data as it is: nothing takes the place of what was taken apart.
func TestRejoinOfDataAlone(t *testing.T) {
	t.Parallel()
	f, k := apart(t, sample.Ultrasound(2, 16, 16), each("a", gantry.EachPart, gantry.OnErrorFail), staged(gantry.Cumulative, gantry.EachTask, ""))
	f.process = answer1(gantry.MediaJSON, `{"score": 1}`)
	f.finish()
	if diff := cmp.Diff([]string{"id/_manifest.json", "id/a/000001.json", "id/a/000002.json", "id/s/task.json"}, k.names()); diff != "" {
		t.Errorf("delivered (-want +got):\n%s", diff)
	}
	if n := len(f.containers()); n > 0 {
		t.Errorf("%d containers on record", n)
	}
}

// TestRejoinByProcessor makes a container of each processor's answers of a fanout, beside the data of one of them.
func TestRejoinByProcessor(t *testing.T) {
	t.Parallel()
	p := tinyPNG(t)
	f, k := apart(t, packed(t, media.ArchiveZip, tinyJPEG(t), p, p), fan("f", gantry.EachPart))
	f.process = func(ctx context.Context, r *gantry.Request) error {
		switch {
		case strings.HasPrefix(r.Key, "id/0/f/a/1/"):
			return gantry.Errorf(gantry.Permanent, "http_422", "no")
		case strings.HasPrefix(r.Key, "id/0/f/a/"):
			return errors.Join(answer1(gantry.MediaJSON, `1`)(ctx, r), echo(ctx, r))
		}
		return answer1(gantry.MediaPNG, string(p))(ctx, r)
	}
	f.plan.Stages[0].Need = 1
	f.finish()
	want := []string{"id/_manifest.json", "id/f/a/000001.json", "id/f/a/000003.json", "id/f/a/rejoined.zip", "id/f/b/rejoined.zip"}
	if diff := cmp.Diff(want, k.names()); diff != "" {
		t.Fatalf("delivered (-want +got):\n%s", diff)
	}
	a, b := entries(t, gantry.MediaZIP, k.files["id/f/a/rejoined.zip"]), entries(t, gantry.MediaZIP, k.files["id/f/b/rejoined.zip"])
	if diff := cmp.Diff([][]byte{tinyJPEG(t), []byte("http_422"), p}, a); diff != "" {
		t.Errorf("of a (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([][]byte{p, p, p}, b); diff != "" {
		t.Errorf("of b (-want +got):\n%s", diff)
	}
}
