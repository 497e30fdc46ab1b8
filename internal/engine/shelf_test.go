package engine

import (
	"context"
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
