package engine

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// TestSampleRate: a video of few frames an hour can be put together again as well.
func TestSampleRate(t *testing.T) {
	t.Parallel()
	for _, s := range []float64{1e-9, 1.0 / 3600, 2.0 / 3600, 1.0 / 60, 0.5, 1, 5, 29.97, 120} {
		r := sampleRate(s)
		if got := float64(r.Num) / float64(r.Den); r.Num < 1 || s > 1e-6 && math.Abs(got-s) > s/1000 {
			t.Errorf("%g frames a second are %d/%d", s, r.Num, r.Den)
		}
	}
}

// TestRejoinLeavesWhatIsAboutSeveral: one picture that was answered about a batch is none of its first part, and
// stays a file of its own; where a stage answered for each part, the answers are put together.
func TestRejoinLeavesWhatIsAboutSeveral(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answers int
		want    []string
	}{
		{1, []string{"id/_manifest.json", "id/s/000001.png", "id/s/000003.png"}},
		{2, []string{"id/_manifest.json", "id/s/rejoined.zip"}},
	} {
		st := each("s", gantry.EachBatch, gantry.OnErrorFail)
		st.Max = 2
		w := newWorld(t, st)
		w.plan.Sinks[0].Rejoin = true
		p := tinyPNG(t)
		w.blobs["in"] = packed(t, media.ArchiveZip, p, p, p, p)
		if _, code := through(t, w); code != "" {
			t.Fatal(code)
		}
		w.process = func(ctx context.Context, r *gantry.Request) (err error) {
			for range c.answers {
				err = errors.Join(err, answer1(gantry.MediaPNG, string(p))(ctx, r))
			}
			return err
		}
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
			t.Fatalf("left with %+v", tr)
		}
		if tr := w.step(t.Context(), gantry.Responding, 0); tr.To != gantry.Done {
			t.Fatalf("left with %+v", tr)
		}
		if diff := cmp.Diff(c.want, slices.Sorted(slices.Values(w.put))); diff != "" {
			t.Errorf("%d answers for a batch of 2, delivered (-want +got):\n%s", c.answers, diff)
		}
	}
}

// TestRejoinedNames: an entry that gets a suffix takes the name of no other.
func TestRejoinedNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("s", gantry.EachPart, gantry.OnErrorFail))
	w.plan.Sinks[0].Rejoin = true
	var in bytes.Buffer
	a, err := media.NewArchiveWriter(media.ArchiveZip, &in)
	if err != nil {
		t.Fatal(err)
	}
	p, j := tinyPNG(t), tinyJPEG(t)
	for _, e := range []struct {
		name string
		body []byte
	}{{"x", j}, {"x.png", p}, {"x-2.png", p}, {"y", j}} {
		err = errors.Join(err, a.Add(e.name, int64(len(e.body)), bytes.NewReader(e.body)))
	}
	if err := errors.Join(err, a.Close()); err != nil {
		t.Fatal(err)
	}
	w.blobs["in"] = in.Bytes()
	if _, code := through(t, w); code != "" {
		t.Fatal(code)
	}
	w.process = answer1(gantry.MediaPNG, string(p))
	w.step(t.Context(), gantry.Inferring, 0)
	if tr := w.step(t.Context(), gantry.Responding, 0); tr.To != gantry.Done {
		t.Fatalf("left with %+v", tr)
	}
	out := w.items[len(w.items)-1]
	z, err := zip.NewReader(bytes.NewReader(out.Body), out.Size)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range z.File {
		names = append(names, f.Name)
	}
	if diff := cmp.Diff([]string{"x-3.png", "x.png", "x-2.png", "y.png"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
