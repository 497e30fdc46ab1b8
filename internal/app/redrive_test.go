package app_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// threeStages scores every picture, gives it to two models, and sends all of that to a report.
func threeStages(url, more string) string {
	return head("three") + more + `
stages:
  - {name: quality, call: qa}
  - {name: models, mode: fanout, each: part, call: [a, b], need: any, on_error: skip}
  - {name: report, mode: cumulative, each: task, call: report}
processors:
  qa: {kind: http, url: "` + url + `/qa"}
  a: {kind: http, url: "` + url + `/a"}
  b: {kind: http, url: "` + url + `/b"}
  report: {kind: http, url: "` + url + `/report", body: zip}
`
}

// pass is what was asked of a service since the last look: how often, by stage, processor, ordinal and generation.
type pass struct {
	s    *service
	seen int
}

func (p *pass) next() map[string]int {
	list := p.s.all()
	got := map[string]int{}
	for _, x := range list[p.seen:] {
		_, key, _ := strings.Cut(x.key, "/0/") // after the task and its leg
		got[key]++
	}
	p.seen = len(list)
	return got
}

// redrive redrives the one task and waits for its end.
func (r *rig) redrive(what app.Selection) app.Verdict {
	r.t.Helper()
	task := r.top("")
	v, err := r.operator().Redrive(r.t.Context(), task.ID, "tester", what, all.Drivers())
	if err != nil {
		r.t.Fatal(err)
	}
	if v.Result == app.ResultRedriven {
		r.top("done")
	}
	return v
}

// top waits until the task that is no child of another is in a state, or is there.
func (r *rig) top(state string) (top postgres.TaskRow) {
	r.t.Helper()
	r.eventually("the task is not "+state, func() bool {
		for _, x := range r.tasks() {
			if x.Parent == "" && (state == "" || x.State == state) {
				top = x
				return true
			}
		}
		return false
	})
	return top
}

// contents reads all files below a folder.
func contents(t *testing.T, root string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, name := range delivered(t, root) {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		got[name] = digest(b)
	}
	return got
}

// deliveredAnew wants a whole delivery under the prefix of a number, and all files from before as they were.
func (r *rig) deliveredAnew(id string, n int, before map[string]string) record {
	r.t.Helper()
	m, _ := manifestOf(r.t, r.out, fmt.Sprintf("%s/r%d", id, n))
	now := contents(r.t, r.out)
	for name, sum := range before {
		if now[name] != sum {
			r.t.Errorf("%s is not what was delivered before", name)
		}
	}
	return m
}

func fourPictures(t *testing.T) ([][]byte, []byte) {
	t.Helper()
	var list [][]byte
	var entries []entry
	for i := range 4 {
		list = append(list, noise(20, [32]byte{byte(i)}))
		entries = append(entries, entry{name: fmt.Sprint(i), body: list[i], stored: true})
	}
	return list, packed(t, entries...)
}

// versioned answers with JSON that says how often a service was changed, but for models, which draw.
type versioned struct {
	change atomic.Int32
	refuse func(path, sum string) bool
}

func (v *versioned) serve(w http.ResponseWriter, q *http.Request, body []byte, _ int) {
	if v.refuse != nil && v.refuse(q.URL.Path, digest(body)) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	if q.URL.Path == "/a" || q.URL.Path == "/b" {
		answerPNG(w, fmt.Append(body, q.URL.Path, v.change.Load()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"score": 1, "change": %d}`, v.change.Load())
}

// TestRedriveFailedParts calls the one part again that failed, and the report, which is sent more now; then one
// processor of the fanout alone, and a stage whose answers are no input of the next.
func TestRedriveFailedParts(t *testing.T) {
	t.Parallel()
	pictures, archive := fourPictures(t)
	var mended atomic.Bool
	v := &versioned{refuse: func(path, sum string) bool { return path == "/b" && sum == digest(pictures[2]) && !mended.Load() }}
	s := serve(t, v.serve)
	r := newRig(t, nil)
	inbox, _ := r.serving(threeStages(s.URL, ""))
	drop(t, inbox, "x.zip", archive)
	task := r.top("done")
	p := &pass{s: s}
	if got := p.next(); len(got) != 4+8+1 {
		t.Fatalf("called %v", got)
	}
	before := contents(t, r.out)
	if m, _ := manifestOf(t, r.out, task.ID); len(m.Errors) != 1 || len(m.Outputs) != 4+7+1 {
		t.Fatalf("manifest %+v", m)
	}
	mended.Store(true)
	want := app.Verdict{Task: task.ID, Result: app.ResultPlanned, State: "done",
		Redrive: &app.Redriven{Generation: 1, Calls: []app.RedriveCalls{{Stage: "models", Processor: "b", Parts: 1}}}}
	if diff := cmp.Diff(want, r.redrive(app.Selection{Parts: app.PartsFailed, Dry: true})); diff != "" {
		t.Errorf("what would be done (-want +got):\n%s", diff)
	}
	want.Result, want.State = app.ResultRedriven, "inferring"
	if diff := cmp.Diff(want, r.redrive(app.Selection{Parts: app.PartsFailed})); diff != "" {
		t.Errorf("what was done (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"models/b/2/1": 1, "report/report/0/1": 1}, p.next()); diff != "" {
		t.Errorf("called again (-want +got):\n%s", diff)
	}
	if m := r.deliveredAnew(task.ID, 1, before); len(m.Errors) != 0 || len(m.Outputs) != 4+8+1 {
		t.Errorf("manifest %+v", m)
	}
	if c := r.changes(task.Key); !slices.Contains(c, "done inferring reopened") || !strings.HasSuffix(c[len(c)-1], "done end") {
		t.Errorf("events %v", c)
	}

	before = contents(t, r.out)
	v.change.Add(1)
	r.redrive(app.Selection{Processor: "a"})
	if diff := cmp.Diff(map[string]int{"models/a/0/2": 1, "models/a/1/2": 1, "models/a/2/2": 1, "models/a/3/2": 1, "report/report/0/2": 1}, p.next()); diff != "" {
		t.Errorf("called again for one processor (-want +got):\n%s", diff)
	}
	m := r.deliveredAnew(task.ID, 2, before)
	now := contents(t, r.out)
	for i := range 4 {
		a, b := fmt.Sprintf("models/a/%06d.png", i+1), fmt.Sprintf("models/b/%06d.png", i+1)
		if now[task.ID+"/r1/"+a] == now[task.ID+"/r2/"+a] || now[task.ID+"/r1/"+b] != now[task.ID+"/r2/"+b] {
			t.Errorf("of origin %d the outputs of a are the same, or those of b are not", i)
		}
	}
	if len(m.Outputs) != 13 {
		t.Errorf("manifest %+v", m)
	}

	r.redrive(app.Selection{Stage: "quality"})
	if diff := cmp.Diff(map[string]int{"quality/qa/0/3": 1, "quality/qa/1/3": 1, "quality/qa/2/3": 1, "quality/qa/3/3": 1, "report/report/0/3": 1}, p.next()); diff != "" {
		t.Errorf("called again for a stage that annotates (-want +got):\n%s", diff)
	}
	r.redrive(app.Selection{})
	if got := p.next(); len(got) != 13 || got["models/b/3/4"] != 1 || got["quality/qa/0/4"] != 1 {
		t.Errorf("called again for the whole task: %v", got)
	}
	r.deliveredAnew(task.ID, 4, before)
	for reason, what := range map[string]app.Selection{"it has no such part": {Parts: app.PartsFailed},
		`its pipeline version has no stage "x": it has quality, models, report`: {Stage: "x"}, `no such stage calls "x": there are a, b`: {Stage: "models", Processor: "x"}} {
		if v := r.redrive(what); v.Result != app.ResultRefused || v.Reason != reason {
			t.Errorf("%+v: %+v", what, v)
		}
	}
}
