package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// nest is the work of a task whose original holds n archives, each with a picture in it.
func nest(t *testing.T, n int) *work {
	t.Helper()
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail))
	w.plan.Extract.MaxEntries = 1000
	inner := packed(t, media.ArchiveZip, tinyPNG(t))
	var all [][]byte
	for range n {
		all = append(all, inner)
	}
	w.blobs["in"] = packed(t, media.ArchiveZip, all...)
	task := gantry.Task{Lease: gantry.Lease{Task: 7, Seq: 3}, PublicID: "id", State: gantry.Extracting}
	e := New(Options{Store: w, Session: w, Caller: w, Blobs: w.blobs, Plans: w, Rand: func() float64 { return 0.5 }, Scratch: t.TempDir()})
	k := &work{e: e, task: task, shelf: newShelf(e)}
	t.Cleanup(k.shelf.close)
	if tr := k.step(t.Context(), task); tr.To != gantry.Ingesting {
		t.Fatalf("extraction ended with %+v", tr)
	}
	return k
}

// TestMoreVolumesInUseThanStay: while more volumes are in use than stay open without a reader, another is
// opened once for whoever asks, and not again and again because it is put off the shelf at once.
func TestMoreVolumesInUseThanStay(t *testing.T) {
	t.Parallel()
	k := nest(t, maxVolumes+4)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var held []*volume
		var err error
		for _, x := range k.leaves() {
			var v *volume
			if v, err = k.volume(ctx, x.Parent); err != nil {
				break
			}
			held = append(held, v)
		}
		for _, v := range held {
			k.shelf.release(v)
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-ctx.Done():
		t.Fatal("a volume is opened for ever")
	}
	if n := len(k.shelf.volumes); n > maxVolumes {
		t.Errorf("%d volumes stay open", n)
	}
}

// watchedBlobs tells a test of each blob that is opened.
type watchedBlobs struct {
	shelfOfBytes
	opening func(ctx context.Context) error
}

func (b watchedBlobs) Open(ctx context.Context, location string) (gantry.Blob, error) {
	if err := b.opening(ctx); err != nil {
		return nil, err
	}
	return b.shelfOfBytes.Open(ctx, location)
}

// TestVolumeOutlivesWhoAskedFirst: the end of the one who opens a volume is none of those who wait for it.
func TestVolumeOutlivesWhoAskedFirst(t *testing.T) {
	t.Parallel()
	k := nest(t, 1)
	k.shelf.close()
	entered := make(chan struct{})
	var times atomic.Int32
	k.e.Blobs = watchedBlobs{k.e.Blobs.(shelfOfBytes), func(ctx context.Context) error {
		if times.Add(1) > 1 {
			return nil
		}
		close(entered)
		<-ctx.Done()
		return context.Cause(ctx)
	}}
	first, leave := context.WithCancel(t.Context())
	errs := make(chan error, 2)
	ask := func(ctx context.Context) {
		v, err := k.volume(ctx, 0)
		if err == nil {
			k.shelf.release(v)
		}
		errs <- err
	}
	go ask(first)
	<-entered
	go ask(t.Context())
	time.Sleep(20 * time.Millisecond)
	leave()
	a, b := <-errs, <-errs
	if (a == nil) == (b == nil) {
		t.Errorf("the first was told %v, the second %v", a, b)
	}
}

// TestVolumesAreOpenBeforeTheCall: the time that it takes to unpack or decode is none of the call's own.
func TestVolumesAreOpenBeforeTheCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail))
	w.blobs["in"] = packed(t, media.ArchiveZip, packed(t, media.ArchiveTarGzip, tinyPNG(t), tinyPNG(t)))
	w.plan.Extract.Archives = append(w.plan.Extract.Archives, "tar.gz")
	if leaves, code := through(t, w); len(leaves) != 2 || code != "" {
		t.Fatalf("%v, %s", leaves, code)
	}
	type inCall struct{}
	w.process = func(ctx context.Context, r *gantry.Request) error {
		body, err := r.Open(context.WithValue(ctx, inCall{}, true), 0)
		if err != nil {
			return err
		}
		return errors.Join(body.Close(), answer1(gantry.MediaJSON, `{}`)(ctx, r))
	}
	opened := 0
	e := New(Options{Store: w, Session: w, Caller: w, Plans: w, Rand: func() float64 { return 0.5 }, Scratch: t.TempDir(),
		Blobs: watchedBlobs{w.blobs, func(ctx context.Context) error {
			opened++
			if ctx.Value(inCall{}) != nil {
				t.Error("an archive is opened on the call's time")
			}
			return nil
		}}})
	task := gantry.Task{Lease: gantry.Lease{Task: 7, Seq: 3}, PublicID: "id", State: gantry.Inferring}
	step, end := e.Begin(task)
	defer end()
	if tr := step(t.Context(), task); tr.To != gantry.Responding || opened != 1 {
		t.Errorf("%+v after %d openings", tr, opened)
	}
}

// TestShardsShareAShelf opens what the shards of one task read once in a process, for as long as one of them
// runs, and closes it behind the last.
func TestShardsShareAShelf(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail))
	w.plan.Extract.Shard = 2
	var all [][]byte
	for range 4 {
		all = append(all, tinyPNG(t))
	}
	w.blobs["in"] = packed(t, media.ArchiveZip, all...)
	if _, code := through(t, w); code != "" {
		t.Fatal(code)
	}
	w.process = sends(w, map[string][]byte{})
	opened := 0
	e := New(Options{Store: w, Session: w, Caller: w, Plans: w, Rand: func() float64 { return 0.5 }, Scratch: t.TempDir(),
		Blobs: watchedBlobs{w.blobs, func(context.Context) error { opened++; return nil }}})
	var ends []func()
	for i := range 2 {
		c := &child{parent: 7, members: []gantry.Span{{First: gantry.ItemID(2*i + 1), End: gantry.ItemID(2*i + 3)}}, parts: map[gantry.PartKey]gantry.Part{},
			ChildTask: gantry.ChildTask{ID: gantry.TaskID(100 + i), Role: gantry.Shard, Ordinal: int32(i)}}
		w.kin[c.ID] = c
		task := gantry.Task{Lease: gantry.Lease{Task: c.ID, Seq: 1}, PublicID: "c", Parent: 7, Role: gantry.Shard, Ordinal: int32(i), State: gantry.Inferring}
		step, end := e.Begin(task)
		if tr := step(t.Context(), task); tr.To != gantry.Responding {
			t.Fatalf("left with %+v", tr)
		}
		ends = append(ends, end)
	}
	if opened != 1 || len(w.called) != 4 {
		t.Errorf("opened %d times for %d calls", opened, len(w.called))
	}
	s := e.shelves[7]
	ends[0]()
	if len(s.volumes) != 1 || e.shelves[7] != s {
		t.Error("closed while the other runs")
	}
	ends[1]()
	if len(s.volumes) != 0 || len(e.shelves) != 0 {
		t.Errorf("%d volumes and %d shelves stay", len(s.volumes), len(e.shelves))
	}
}
