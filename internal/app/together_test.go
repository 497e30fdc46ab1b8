package app_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// runAll takes the files of a folder through a pipeline, however many tasks they become.
func (r *rig) runAll(src string, inputs ...string) []app.Outcome {
	r.t.Helper()
	p, err := pipeline.Parse("test.yaml", []byte(src), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	got, err := r.RunOnce(r.t.Context(), app.RunOptions{Pipeline: p, Inputs: inputs, Out: r.out})
	if err != nil {
		r.t.Fatalf("run: %v\n%s", err, r.log.text())
	}
	return got
}

// TestRunTogether: the inputs of a run become the tasks that they would become if they arrived, without a wait; a second run of
// them makes tasks of its own.
func TestRunTogether(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	files := study(t, 4)
	for name, c := range map[string]struct {
		group string
		want  []string
		tasks int
	}{
		"folders":  {"{by: prefix, quiet: 1h}", []string{"0.dcm 1.dcm", "2.dcm", "a.png"}, 3},
		"by depth": {"{by: prefix, depth: 1, marker: '*/_done', cap: 2h}", []string{"0.dcm 1.dcm deep/2.dcm", "a.png"}, 2},
		"studies":  {"{by: study, count: 50}", []string{"a.png", "ct/0.dcm ct/1.dcm ct/deep/2.dcm", "_done"}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			in := t.TempDir()
			inputs := []string{"ct/0.dcm", "ct/1.dcm", "ct/deep/2.dcm", "a.png"}
			for i, f := range inputs[:3] {
				put(t, in, f, files[i])
			}
			put(t, in, "a.png", noise(30, [32]byte{1}))
			if strings.Contains(c.group, "_done") || name == "studies" {
				put(t, in, "ct/deep/_done", nil)
				inputs = append(inputs, "ct/deep/_done")
			}
			for i := range inputs {
				inputs[i] = filepath.Join(in, filepath.FromSlash(inputs[i]))
			}
			for run := range 2 {
				got := r.runAll(collecting(s.URL, c.group), inputs...)
				var ids []string
				for _, o := range got {
					ids = append(ids, o.ID)
					if o.State != "done" && !strings.HasSuffix(o.Input, "_done") || !slices.Contains(inputs, o.Input) {
						t.Errorf("%+v", o)
					}
				}
				if slices.Sort(ids); len(slices.Compact(ids)) != c.tasks || len(got) != c.tasks {
					t.Errorf("run %d: %d outcomes of %d tasks", run, len(got), c.tasks)
				}
			}
			r.wantSets(append(c.want, c.want...)...)
		})
	}
}

// TestRunKeepsLimits: a run declares the limits of its file, but beside a process that is at work it changes none.
func TestRunKeepsLimits(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	in := t.TempDir()
	put(t, in, "a.png", noise(30, [32]byte{1}))
	with := func(n int) string {
		src := strings.Replace(collecting(s.URL, "{by: study}"), "/score\"}", fmt.Sprintf("/score\", limits: {concurrency: %d}}", n), 1)
		r.runAll(src+fmt.Sprintf("limits: {in_progress: %d, extracting: %d}\n", n, n), filepath.Join(in, "a.png"))
		var got string
		err := r.Store.Pool().QueryRow(t.Context(), `select string_agg(coalesce(max_units::text, '-'), ' ' order by key) from limiter
			where key like 'http:%' or key in ('pipeline:collecting', 'pipeline:collecting:extracting', 'pipeline:collecting:ingesting')`).Scan(&got)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := with(3) + ", " + with(5); got != "3 3 3 -, 5 5 5 -" {
		t.Error(got)
	}
	w, err := r.Store.Register(t.Context(), "elsewhere", 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got := with(7); got != "5 5 5 -" {
		t.Errorf("beside another process: %s", got)
	}
	if err := r.Store.Resign(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if got := with(2); got != "2 2 2 -" {
		t.Errorf("alone again: %s", got)
	}
}
