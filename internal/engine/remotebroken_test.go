package engine

import (
	"context"
	"io"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// Whichever request fails for good, extraction and ingestion are tried again, and nothing that could not be read
// is refused; what is gone ends the task.
func TestMediaOnABrokenSource(t *testing.T) {
	t.Parallel()
	originals := map[string][]byte{"frames": sample.Ultrasound(40, 640, 480)}
	for _, kind := range []media.ArchiveKind{media.ArchiveZip, media.ArchiveTar, media.ArchiveTarGzip} {
		originals[string(kind)] = pngs(t, 36, kind)
	}
	for name, original := range originals {
		for _, state := range []gantry.State{gantry.Extracting, gantry.Ingesting} {
			t.Run(name+" "+state.String(), func(t *testing.T) {
				t.Parallel()
				from := 0
				for breaksAt(t, original, state, from) {
					from++
				}
				if from < 3 && !(name == "frames" && state == gantry.Ingesting) { // frames are not looked at again
					t.Errorf("it takes %d requests", from)
				}
			})
		}
	}
}

// breaksAt lets all requests from one on fail, and tells whether there were so many.
func breaksAt(t *testing.T, original []byte, state gantry.State, from int) bool {
	t.Helper()
	w := newWorld(t)
	w.plan.Extract.Archives, w.plan.Extract.MaxBytes, w.plan.Extract.Frames = []string{"zip", "tar", "tar.gz"}, 1<<30, gantry.RenderPNG
	b := w.keep(original)
	if state == gantry.Ingesting {
		if tr := w.step(t.Context(), gantry.Extracting, 0); tr.To != gantry.Ingesting {
			t.Fatalf("%+v", tr)
		}
		b.asked = nil
	}
	err := gantry.Errorf(gantry.Transient, "short_body", "broke")
	want, code := gantry.Retry, gantry.Code("short_body")
	if from%2 == 1 {
		err = gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "gone")
		want, code = gantry.End, gantry.CodeSourceGone
	}
	b.fail = func(nth int, _ int64) (int, error) {
		if nth >= from {
			return 100, err
		}
		return 0, nil
	}
	tr := w.step(t.Context(), state, 0)
	for _, x := range w.items {
		if x.Rejected || x.Reason != "" {
			t.Fatalf("request %d: item %d is refused: %s", from, x.ID, x.Reason)
		}
	}
	if b.requests() <= from {
		want, code = gantry.Advance, ""
	}
	if tr.Change != want || tr.Code != code {
		t.Errorf("request %d: %+v", from, tr)
	}
	return b.requests() > from
}

// sendsAll makes the world's processor read what it is sent.
func (w *world) sendsAll() {
	w.process = func(ctx context.Context, r *gantry.Request) error {
		body, err := r.Open(ctx, 0)
		if err != nil {
			return err
		}
		defer body.Close()
		if _, err := io.Copy(io.Discard, body); err != nil {
			return err
		}
		return answer1(gantry.MediaJSON, `{}`)(ctx, r)
	}
}

// A zip of 38 MB and 201 entries takes about as many requests in each state as its bytes fill, in a process of its
// own each; one entry of it takes two: the directory and the entry.
func TestRequestsOfAnArchive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("score", gantry.EachPart, gantry.OnErrorFail))
	w.plan.Extract.MaxBytes, w.plan.Extract.MaxEntries = 1<<30, 1000
	archive := squares(t, 201, 437, media.ArchiveZip)
	b := w.keep(archive)
	w.sendsAll()
	for _, s := range []gantry.State{gantry.Extracting, gantry.Ingesting, gantry.Inferring} {
		b.asked = nil
		if tr := w.step(t.Context(), s, 0); tr.Change != gantry.Advance {
			t.Fatalf("%+v", tr)
		}
		total := int64(0)
		for _, x := range b.asked {
			total += x[1]
		}
		t.Logf("%s: %d requests for %d of %d bytes", s, len(b.asked), total, len(archive))
		if len(b.asked) > 24 || total > int64(len(archive))*3/2 {
			t.Errorf("%s: %d requests for %d of %d bytes", s, len(b.asked), total, len(archive))
		}
	}
	b.asked = nil
	e := New(Options{Store: w, Session: w, Caller: w, Plans: w, Rand: func() float64 { return 0 }, Scratch: t.TempDir()})
	x := &work{e: e, plan: w.plan, shelf: newShelf(e), items: w.items}
	x.enterStep(t.Context(), gantry.Task{})
	r, err := x.open(t.Context(), w.items[100])
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	defer r.Close()
	if n, err := io.Copy(io.Discard, r); n < 437*437 || err != nil || len(b.asked) > 3 {
		t.Errorf("%d bytes of one entry, %v, in %d requests", n, err, len(b.asked))
	}
}

// An original that is gone ends the task though its stage skips what fails; a part that a source's failure
// befell is tried again.
func TestPartsOnABrokenSource(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  *gantry.Error
		want gantry.Change
	}{
		"gone":   {gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "gone"), gantry.End},
		"broken": {gantry.Errorf(gantry.Transient, "short_body", "broke"), gantry.Park},
	} {
		w := newWorld(t, each("score", gantry.EachPart, gantry.OnErrorSkip))
		w.plan.Extract.MaxBytes = 1 << 30
		b := w.keep(pngs(t, 36, media.ArchiveZip))
		w.sendsAll()
		for _, s := range []gantry.State{gantry.Extracting, gantry.Ingesting} {
			if tr := w.step(t.Context(), s, 0); tr.Change != gantry.Advance {
				t.Fatalf("%+v", tr)
			}
		}
		b.asked = nil
		b.fail = func(nth int, _ int64) (int, error) {
			if nth >= 4 {
				return 0, c.err
			}
			return 0, nil
		}
		tr := w.step(t.Context(), gantry.Inferring, 0)
		if tr.Change != c.want || c.want == gantry.End && (tr.Code != gantry.CodeSourceGone || tr.To != gantry.Failed || b.requests() > 8) {
			t.Errorf("%s: %+v after %d requests", name, tr, b.requests())
		}
		for k, p := range w.parts {
			if p.Status == gantry.PartFailed {
				t.Errorf("%s: part %d failed for good: %s", name, k.Ordinal, p.Reason)
			}
		}
	}
}

// Without a place, or a source that reads in place, the original is gone.
func TestNothingSaysWhereItIs(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*world){
		"another source": func(w *world) { w.plan.Sources[0].Name = "other" },
		"no driver": func(w *world) {
			w.plan.Sources[0].Open = func(context.Context) (gantry.Source, int32, error) { return struct{ gantry.Source }{}, 1, nil }
		},
	} {
		w := newWorld(t)
		w.keep(noise(10))
		set(w)
		if tr := w.step(t.Context(), gantry.Extracting, 0); tr.To != gantry.Failed || tr.Code != gantry.CodeSourceGone {
			t.Errorf("%s: %+v", name, tr)
		}
	}
}
