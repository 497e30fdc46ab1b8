package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// TestCollectionResumes dies in the middle of a large collection: the rows are then the same as without, and what was
// committed is not lost.
func TestCollectionResumes(t *testing.T) {
	t.Parallel()
	bodies := pictures(t, 1100)
	bodies[20] = packed(t, media.ArchiveZip, bodies[20], bodies[21])
	var rows [2][]gantry.Item
	for i := range rows {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.plan.Extract.MaxEntries = 2000
		w.collect(bodies...)
		b := w.leave()
		if i == 1 {
			ctx, die := context.WithCancelCause(t.Context())
			b.fail = func(nth int, _ string) error {
				if nth < 800 {
					return nil
				}
				die(errors.New("killed"))
				return context.Cause(ctx)
			}
			tr := w.step(ctx, gantry.Extracting, 0)
			if tr.Change != gantry.Release || len(w.items) != 500 {
				t.Fatalf("%+v with %d items", tr, len(w.items))
			}
			b.fail = nil
		}
		if tr := w.step(t.Context(), gantry.Extracting, 0); tr.To != gantry.Ingesting {
			t.Fatalf("%+v", tr)
		}
		rows[i] = slices.Clone(w.items)
	}
	if diff := cmp.Diff(rows[0], rows[1]); diff != "" || len(rows[0]) != 1102 {
		t.Errorf("%d items (-without +with a crash):\n%s", len(rows[0]), diff)
	}
}

// TestBadMember refuses a member by the policy on bad entries, and only that one.
func TestBadMember(t *testing.T) {
	t.Parallel()
	p := pictures(t, 4)
	for name, c := range map[string]struct {
		body []byte
		code gantry.Code
		path string
	}{
		"no media":          {[]byte("a file that says when the scan was done"), gantry.CodeUnsupportedFormat, "input#2"},
		"nothing":           {nil, gantry.CodeEmpty, "input#2"},
		"a cut picture":     {p[2][:20], gantry.CodeTruncated, "input#2"},
		"a cut archive":     {packed(t, media.ArchiveTarGzip, p[0])[:60], gantry.CodeTruncated, "input#2"},
		"one broken inside": {packed(t, media.ArchiveZip, p[0], []byte("no")), gantry.CodeUnsupportedFormat, "input#2#1"},
	} {
		for _, skip := range []bool{true, false} {
			for _, place := range []bool{true, false} {
				f, k := gathered(t, [][]byte{p[0], p[1], c.body, p[3]}, each("a", gantry.EachPart, gantry.OnErrorFail))
				if skip {
					f.plan.OnError = gantry.OnErrorSkip
				}
				if place {
					f.leave()
				}
				tr := f.run(t.Context(), begin)
				if !skip {
					if tr.To != gantry.Failed || tr.Code != c.code || len(f.called) > 0 || !strings.HasPrefix(tr.Detail, c.path+" ") {
						t.Errorf("%s: %+v", name, tr)
					}
					continue
				}
				m := manifestIn(t, string(k.files["id/_manifest.json"]))
				if tr.To != gantry.Done || len(m.Inputs) != 4 || len(m.Errors) != 1 || m.Errors[0].Item != c.path || m.Errors[0].Code != string(c.code) {
					t.Errorf("%s: %+v, %+v", name, tr, m)
				}
			}
		}
	}
	f, _ := gathered(t, [][]byte{[]byte("no"), []byte("nor this")}, each("a", gantry.EachPart, gantry.OnErrorFail))
	f.plan.OnError = gantry.OnErrorSkip
	if tr := f.run(t.Context(), begin); tr.To != gantry.Failed || tr.Code != gantry.CodeUnsupportedFormat {
		t.Errorf("nothing is sound: %+v", tr)
	}
}

// TestGoneMember ends the task with the reason, whenever a member turns out to be gone and whatever the policy; one that cannot
// be read now is tried again, and refused for nothing.
func TestGoneMember(t *testing.T) {
	t.Parallel()
	for _, state := range []gantry.State{gantry.Extracting, gantry.Ingesting, gantry.Inferring} {
		for _, gone := range []bool{true, false} {
			w := newWorld(t, each("a", gantry.EachTask, gantry.OnErrorSkip))
			w.plan.OnError, w.process = gantry.OnErrorSkip, echo
			w.collect(pictures(t, 30)...)
			b := w.leave()
			for s := gantry.Extracting; s < state; s++ {
				if tr := w.step(t.Context(), s, 0); tr.Change != gantry.Advance {
					t.Fatalf("%+v", tr)
				}
			}
			b.fail = func(_ int, place string) error {
				switch {
				case place != "place of 17":
					return nil
				case gone:
					return gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "gone")
				}
				return gantry.Errorf(gantry.Transient, "short_body", "broke")
			}
			tr := w.step(t.Context(), state, 0)
			switch {
			case gone && (tr.To != gantry.Failed || tr.Code != gantry.CodeSourceGone),
				!gone && state < gantry.Inferring && (tr.Change != gantry.Retry || tr.Code != "short_body"),
				!gone && state == gantry.Inferring && tr.Change != gantry.Park:
				t.Errorf("%s, gone %t: %+v", state, gone, tr)
			}
			for _, x := range w.items {
				if x.Rejected {
					t.Errorf("%s: item %d is refused", state, x.ID)
				}
			}
		}
	}
}

// TestBudgetOfACollection is one for all members.
func TestBudgetOfACollection(t *testing.T) {
	t.Parallel()
	zeros := packed(t, media.ArchiveTarGzip, append(tinyPNG(t), make([]byte, 700<<10)...))
	for name, c := range map[string]struct {
		bodies [][]byte
		code   gantry.Code
	}{
		"bytes":   {[][]byte{zeros, zeros}, media.CodeArchiveBomb},
		"members": {pictures(t, 101), media.CodeTooManyEntries},
		"entries": {[][]byte{packed(t, media.ArchiveZip, pictures(t, 60)...), packed(t, media.ArchiveZip, pictures(t, 60)...)}, media.CodeTooManyEntries},
		"enough":  {pictures(t, 100), ""},
		"one":     {[][]byte{zeros}, ""},
	} {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.plan.OnError, w.plan.Extract.Archives, w.plan.Extract.MaxRatio = gantry.OnErrorSkip, []string{"zip", "tar.gz"}, 1000
		w.collect(c.bodies...)
		if tr := w.step(t.Context(), gantry.Extracting, 0); tr.Code != c.code || (c.code == "") != (tr.Change == gantry.Advance) {
			t.Errorf("%s: %+v", name, tr)
		}
	}
}
