package engine

import (
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
