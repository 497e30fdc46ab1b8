package app_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestRedriveShards calls a part again that failed in one of two shards: this alone, the report of the task, and
// nothing of other shards. What a shard adds to its items takes nobody's ids.
func TestRedriveShards(t *testing.T) {
	t.Parallel()
	pictures, archive := fourPictures(t)
	var mended atomic.Bool
	v := &versioned{refuse: func(path, sum string) bool { return path == "/b" && sum == digest(pictures[1]) && !mended.Load() }}
	s := serve(t, v.serve)
	r := newRig(t, nil)
	inbox, _ := r.serving(threeStages(s.URL, "extract: {shard: 2}\n"))
	drop(t, inbox, "x.zip", archive)
	task := r.top("done")
	p := &pass{s: s}
	if got := p.next(); got["models/b/0/0"] != 2 || got["models/b/1/0"] != 2 || got["report/report/0/0"] != 1 {
		t.Fatalf("called %v", got)
	}
	before := contents(t, r.out)
	mended.Store(true)
	v.change.Add(1)
	r.redrive(app.Selection{Parts: app.PartsFailed})
	if diff := cmp.Diff(map[string]int{"models/b/1/1": 1, "report/report/0/1": 1}, p.next()); diff != "" {
		t.Errorf("called again (-want +got):\n%s", diff)
	}
	m := r.deliveredAnew(task.ID, 1, before)
	if len(m.Errors) != 0 || len(m.Outputs) != 4+8+1 {
		t.Errorf("manifest %+v", m)
	}
	shard := ""
	for _, x := range r.tasks() {
		if x.Role == "shard" {
			shard = x.ID
		}
	}
	if got, err := r.operator().Redrive(t.Context(), shard, "tester", app.Selection{}, all.Drivers()); err != nil || got.Result != app.ResultRefused || !strings.HasSuffix(got.Reason, task.ID) {
		t.Errorf("a shard alone: %+v, %v", got, err)
	}
	r.redrive(app.Selection{Stage: "models"})
	if got := p.next(); got["models/a/0/2"] != 2 || got["models/b/1/2"] != 2 || got["report/report/0/2"] != 1 || len(got) != 5 {
		t.Errorf("called again for a stage: %v", got)
	}
	r.redrive(app.Selection{Stage: "report"})
	if diff := cmp.Diff(map[string]int{"report/report/0/3": 1}, p.next()); diff != "" {
		t.Errorf("called again for the report (-want +got):\n%s", diff)
	}
	if m := r.deliveredAnew(task.ID, 3, before); len(m.Outputs) != 13 {
		t.Errorf("manifest %+v", m)
	}
}

// twoStudies is an archive of two studies with two files each. The second is served with an error until mended.
func twoStudies(t *testing.T) (archive []byte, bad string) {
	t.Helper()
	files := study(t, 4)
	for i := 2; i < 4; i++ {
		files[i] = otherStudy(t, files[i], '4')
	}
	var entries []entry
	for i, f := range files {
		entries = append(entries, entry{name: fmt.Sprint(i), body: f})
	}
	return packed(t, entries...), digest(files[3])
}

type children struct {
	Children []struct {
		Task, State string
		Delivery    int
	}
}

// TestRetryReopensStudies tries the study again that failed with its task, and no other.
func TestRetryReopensStudies(t *testing.T) {
	t.Parallel()
	archive, bad := twoStudies(t)
	var mended atomic.Bool
	v := &versioned{refuse: func(_, sum string) bool { return sum == bad && !mended.Load() }}
	s := serve(t, v.serve)
	r := newRig(t, nil)
	inbox, _ := r.serving(studies(s.URL, "group: {by: study}"))
	drop(t, inbox, "x.zip", archive)
	task := r.top("failed")
	p := &pass{s: s}
	p.next()
	before := contents(t, r.out)
	mended.Store(true)
	for _, x := range r.tasks() {
		if x.Role == "member" && x.State == "failed" {
			if got, err := r.operator().Retry(t.Context(), x.ID, "tester", all.Drivers()); err != nil || got.Result != app.ResultRefused {
				t.Errorf("a study alone: %+v, %v", got, err)
			}
		}
	}
	if got, err := r.operator().Retry(t.Context(), task.ID, "tester", all.Drivers()); err != nil || got.Result != app.ResultReopened || got.State != "responding" {
		t.Fatalf("%+v, %v", got, err)
	}
	r.top("done")
	if diff := cmp.Diff(map[string]int{"score/score/1/0": 1}, p.next()); diff != "" {
		t.Errorf("called again (-want +got):\n%s", diff)
	}
	var m children
	readJSON(t, filepath.Join(r.out, task.ID, "r1", "_manifest.json"), &m)
	if len(m.Children) != 2 || m.Children[0].State != "done" || m.Children[1].State != "done" || m.Children[1].Delivery != 0 {
		t.Fatalf("manifest %+v", m)
	}
	manifestOf(t, r.out, m.Children[1].Task) // the first that it has
	now := contents(t, r.out)
	for name, sum := range before {
		if now[name] != sum {
			t.Errorf("%s is not what was delivered before", name)
		}
	}
}

// TestRedriveStudy redrives one study of two by its own id: the whole is delivered anew, the other study is not.
func TestRedriveStudy(t *testing.T) {
	t.Parallel()
	archive, _ := twoStudies(t)
	v := &versioned{}
	s := serve(t, v.serve)
	r := newRig(t, nil)
	inbox, _ := r.serving(studies(s.URL, "group: {by: study}"))
	drop(t, inbox, "x.zip", archive)
	task := r.top("done")
	p := &pass{s: s}
	p.next()
	before := contents(t, r.out)
	v.change.Add(1)
	second := gantry.ChildID(task.ID, gantry.Member, 1)
	got, err := r.operator().Redrive(t.Context(), second, "tester", app.Selection{}, all.Drivers())
	if err != nil || got.Result != app.ResultRedriven || got.Redrive.Calls[0].Parts != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	r.top("done")
	if diff := cmp.Diff(map[string]int{"score/score/0/1": 1, "score/score/1/1": 1}, p.next()); diff != "" {
		t.Errorf("called again (-want +got):\n%s", diff)
	}
	r.deliveredAnew(second, 1, before)
	var m children
	readJSON(t, filepath.Join(r.out, task.ID, "r1", "_manifest.json"), &m)
	if len(m.Children) != 2 || m.Children[0].Delivery != 0 || m.Children[1].Delivery != 1 {
		t.Errorf("manifest %+v", m)
	}
}

// TestRedriveThroughADeath kills, so to speak, the process in the middle of a redrive: another goes on with what is not
// answered yet, under the same keys.
func TestRedriveThroughADeath(t *testing.T) {
	t.Parallel()
	_, archive := fourPictures(t)
	v := &versioned{}
	var hanging, hang atomic.Int32
	hold := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, q *http.Request, body []byte, n int) {
		if hang.Load() == 1 && q.URL.Path == "/b" && hanging.Add(1) > 2 {
			select {
			case <-hold:
			case <-q.Context().Done():
				return
			}
		}
		v.serve(w, q, body, n)
	})
	r := newRig(t, nil)
	src := threeStages(s.URL, "")
	inbox, stop := r.serving(src)
	drop(t, inbox, "x.zip", archive)
	task := r.top("done")
	p := &pass{s: s}
	p.next()
	before := contents(t, r.out)
	hang.Store(1)
	v.change.Add(1)
	if got, err := r.operator().Redrive(t.Context(), task.ID, "tester", app.Selection{Stage: "models"}, all.Drivers()); err != nil || got.Result != app.ResultRedriven {
		t.Fatalf("%+v, %v", got, err)
	}
	ok := func() (n int) {
		for _, c := range r.calls(postgres.Filter{}) {
			if c.Outcome == "ok" {
				n++
			}
		}
		return n
	}
	r.eventually("the models did not answer", func() bool { return ok() == 13+4+2 && hanging.Load() > 2 })
	stop() // and what hangs is broken off
	hang.Store(0)
	close(hold)
	r.serveIn(src, inbox, "")
	r.top("done")
	answered := map[string]int{}
	for _, c := range r.calls(postgres.Filter{})[13:] {
		if c.Outcome == "ok" {
			answered[fmt.Sprint(c.Processor, c.Part)]++
		}
	}
	want := map[string]int{"a0": 1, "a1": 1, "a2": 1, "a3": 1, "b0": 1, "b1": 1, "b2": 1, "b3": 1, "report0": 1}
	if diff := cmp.Diff(want, answered); diff != "" {
		t.Errorf("answered (-want +got):\n%s", diff)
	}
	for key := range p.next() {
		if !strings.HasSuffix(key, "/1") {
			t.Errorf("called %s", key)
		}
	}
	if m := r.deliveredAnew(task.ID, 1, before); len(m.Outputs) != 13 {
		t.Errorf("manifest %+v", m)
	}
}

// serveIn serves a pipeline in another process, which takes up what is in a folder.
func (r *rig) serveIn(src, inbox, sink string) {
	r.t.Helper()
	src += fmt.Sprintf("sources: {inbox: {kind: dir, path: %q}}\nsinks: {out: {kind: dir, path: %q%s}}\n", inbox, r.out, sink)
	p, err := pipeline.Parse("test.yaml", []byte(src), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	a := r.beside()
	ctx, stop := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ctx, []*gantry.Pipeline{p}) }()
	r.t.Cleanup(func() { stop(); <-ended })
}

// TestRedriveCancelled takes up a task that was cancelled: what was answered stays answered.
func TestRedriveCancelled(t *testing.T) {
	t.Parallel()
	_, archive := fourPictures(t)
	v := &versioned{}
	var free atomic.Bool
	s := serve(t, func(w http.ResponseWriter, q *http.Request, body []byte, n int) {
		if q.URL.Path == "/report" && !free.Load() {
			<-q.Context().Done()
			return
		}
		v.serve(w, q, body, n)
	})
	r := newRig(t, nil)
	inbox, _ := r.serving(threeStages(s.URL, ""))
	drop(t, inbox, "x.zip", archive)
	r.eventually("the report was not asked for", func() bool { return len(s.all()) == 13 })
	task := r.top("inferring")
	if got, err := r.operator().Redrive(t.Context(), task.ID, "tester", app.Selection{}, all.Drivers()); err != nil || got.Reason != "it has not ended" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := r.operator().Cancel(t.Context(), task.ID, "tester", within); err != nil || got.Result != app.ResultCancelled {
		t.Fatalf("%+v, %v", got, err)
	}
	free.Store(true)
	p := &pass{s: s}
	p.next()
	if got := r.redrive(app.Selection{Processor: "b"}); got.Result != app.ResultRedriven {
		t.Fatalf("%+v", got)
	}
	if got := p.next(); len(got) != 5 || got["models/b/3/1"] != 1 || got["report/report/0/1"]+got["report/report/0/0"] != 1 {
		t.Errorf("called again %v", got)
	}
	if m, _ := manifestOf(t, r.out, task.ID); len(m.Outputs) != 13 { // the first delivery
		t.Errorf("manifest %+v", m)
	}
}

// TestRedriveRejoins puts the frames that were made anew in the places of the old ones.
func TestRedriveRejoins(t *testing.T) {
	t.Parallel()
	v := &versioned{}
	pictures, archive := fourPictures(t)
	s := serve(t, v.serve)
	r := newRig(t, nil)
	inbox := t.TempDir()
	src := head("rejoins") + `
stages: [{name: draw, mode: fanout, each: part, call: [a, b], need: any, on_error: skip}]
processors: {a: {kind: http, url: "` + s.URL + `/a"}, b: {kind: http, url: "` + s.URL + `/b"}}
`
	v.refuse = func(path, sum string) bool { return path == "/b" && sum == digest(pictures[1]) && v.change.Load() == 0 }
	r.serveIn(src, inbox, ", rejoin: original")
	drop(t, inbox, "x.zip", archive)
	task := r.top("done")
	before := contents(t, r.out)
	v.change.Add(1)
	r.redrive(app.Selection{Parts: app.PartsFailed})
	m := r.deliveredAnew(task.ID, 1, before)
	if len(m.Outputs) != 2 || len(m.Outputs[0].Joined) != 4 || len(m.Outputs[1].Joined) != 4 {
		t.Fatalf("manifest %+v", m)
	}
	oldNames, old := unzipped(t, filepath.Join(r.out, task.ID, "draw/b/rejoined.zip"))
	names, now := unzipped(t, filepath.Join(r.out, task.ID, "r1/draw/b/rejoined.zip"))
	if diff := cmp.Diff([][]string{{"0", "1.missing", "2", "3"}, {"0", "1", "2", "3"}}, [][]string{oldNames, names}); diff != "" {
		t.Fatalf("entries (-want +got):\n%s", diff)
	}
	made := sha256.Sum256(fmt.Append(slices.Clone(pictures[1]), "/b", 1))
	for i := range 4 {
		if i == 1 && !bytes.Equal(now[i], noise(160, made)) || i != 1 && !bytes.Equal(old[i], now[i]) {
			t.Errorf("entry %d is not what it should be", i)
		}
	}
}
