package app_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// hold lets no task of a pipeline begin until let go.
func (r *rig) hold(pipeline string) (letGo func()) {
	r.t.Helper()
	op, key := r.operator(), "pipeline:"+pipeline
	r.eventually("the pipeline is not known", func() bool {
		ok, err := op.PauseLimit(r.t.Context(), key, "tester")
		return ok && err == nil
	})
	return func() {
		if _, err := op.ResumeLimit(r.t.Context(), key); err != nil {
			r.t.Error(err)
		}
	}
}

// gather waits until n objects have come, whose tasks are held, and makes one task of all of them in their place, as the end
// of a collection does. It gives the task's id.
func (r *rig) gather(n int) (id string) {
	r.t.Helper()
	r.eventually("not all objects have come", func() bool { return r.count(`select count(*) from task_hot where phase = 0`) == n })
	tx, err := r.Store.Pool().Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	defer tx.Rollback(r.t.Context())
	for _, q := range []string{
		`insert into collection(pipeline, key_mac, source, closed, closed_at, reason) select split_part(min(source), '/', 1), '\x07', min(source), true, now(), 'quiet' from arrival`,
		`insert into collection_member select c.id, a.id from collection c, arrival a`,
		`delete from task_hot where id > (select min(id) from task)`,
		`delete from task where id > (select min(id) from task)`,
		`update task set arrival = null, collection = (select id from collection), public_id = reverse(public_id)`, // no member's own
	} {
		if _, err := tx.Exec(r.t.Context(), q); err != nil {
			r.t.Fatal(err)
		}
	}
	if err := tx.QueryRow(r.t.Context(), `select public_id from task`).Scan(&id); err != nil {
		r.t.Fatal(err)
	}
	if err := tx.Commit(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return id
}

// TestCollectionRedriven takes files of one folder through three stages as one task: each is called about, the report is one
// call for all. What failed is redriven alone, and delivered anew; the API says how many objects there are.
func TestCollectionRedriven(t *testing.T) {
	t.Parallel()
	pictures, archive := fourPictures(t)
	var mended atomic.Bool
	v := &versioned{refuse: func(path, sum string) bool { return path == "/b" && sum == digest(pictures[2]) && !mended.Load() }}
	s := serve(t, v.serve)
	r := newRig(t, nil)
	inbox, _ := r.serving(threeStages(s.URL, ""))
	letGo := r.hold("three")
	size := int64(len(archive))
	other := noise(20, [32]byte{99})
	drop(t, inbox, "DOE^JANE-0.png", other)
	drop(t, inbox, "DOE^JANE-1.zip", archive)
	drop(t, inbox, "DOE^JANE-2.dcm", study(t, 1)[0])
	size += int64(len(other) + len(study(t, 1)[0]))
	id := r.gather(3)
	letGo()
	task := r.top("done")
	p := &pass{s: s}
	if got := p.next(); len(got) != 6+12+1 || task.ID != id {
		t.Fatalf("called %v for %s", got, task.ID)
	}
	x, err := r.Task(t.Context(), id)
	if err != nil || x.Originals != 3 || x.Bytes != size || task.Source != "three/inbox" || task.Originals != 3 || task.Bytes != size {
		t.Errorf("%+v, %+v, %v", x, task, err)
	}
	before := contents(t, r.out)
	m, text := manifestOf(t, r.out, id)
	if len(m.Inputs) != 3 || m.Inputs[1].SHA256 != digest(archive) || m.Input.Size != 0 || len(m.Items) != 6 || len(m.Errors) != 1 || m.Errors[0].Item != "input#1#2" || len(m.Outputs) != 6+11+1 {
		t.Fatalf("manifest %s", text)
	}
	if list := append(delivered(t, r.out), r.log.text(), string(text)); strings.Contains(strings.Join(list, "\n"), "DOE") {
		t.Error("a name came out")
	}
	mended.Store(true)
	r.redrive(app.Selection{Parts: app.PartsFailed})
	if got := p.next(); got["models/b/3/1"] != 1 || got["report/report/0/1"] != 1 || len(got) != 2 {
		t.Errorf("called again %v", got)
	}
	if m := r.deliveredAnew(id, 1, before); len(m.Errors) != 0 || len(m.Outputs) != 6+12+1 || len(m.Inputs) != 3 {
		t.Errorf("manifest %+v", m)
	}
}

// TestCollectionInShards divides 2,000 files among tasks, and calls once for all of them in the end.
func TestCollectionInShards(t *testing.T) {
	t.Parallel()
	const n = 2000
	var whole atomic.Int64
	s := serve(t, func(w http.ResponseWriter, q *http.Request, body []byte, _ int) {
		if q.URL.Path == "/report" {
			whole.Add(int64(len(body)))
		}
		answerJSON(w, body)
	})
	r := newRig(t, nil)
	inbox, _ := r.serving(head("many") + fmt.Sprintf(`
stages: [{name: score, call: score}, {name: report, mode: cumulative, each: task, call: report}]
processors:
  score: {kind: http, url: "%s/score", limits: {concurrency: 16}}
  report: {kind: http, url: "%s/report", body: zip, limits: {concurrency: 16}}
`, s.URL, s.URL))
	letGo := r.hold("many")
	sums := map[string]bool{}
	for i := range n {
		b := noise(6, [32]byte{byte(i), byte(i >> 8)})
		sums[digest(b)] = true
		drop(t, inbox, fmt.Sprintf("%04d.png", i), b)
	}
	for end := time.Now().Add(3 * within); r.count(`select count(*) from task_hot`) < n && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	id := r.gather(n)
	letGo()
	for end := time.Now().Add(3 * within); r.count(`select count(*) from task where final_state is not null and parent is null`) == 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	task := r.top("done")
	m, _ := manifestOf(t, r.out, id)
	if task.Children != 4 || task.Originals != n || len(m.Inputs) != n || len(m.Items) != n || len(m.Outputs) != n+1 || len(m.Errors) != 0 {
		t.Errorf("%+v; %d inputs, %d items, %d outputs", task, len(m.Inputs), len(m.Items), len(m.Outputs))
	}
	for i, x := range m.Items {
		if x.Path != fmt.Sprintf("input#%d", i) || !sums[x.SHA256] || m.Inputs[i].SHA256 != x.SHA256 {
			t.Fatalf("item %d is %+v", i, x)
		}
	}
	if got := len(s.all()); got != n+1 || whole.Load() == 0 {
		t.Errorf("%d calls", got)
	}
}

// seriesOf is a pipeline that sends all of a task in one call.
func (r *rig) seriesOf(d *depot, onError, url string) *gantry.Pipeline {
	r.t.Helper()
	p, err := pipeline.Parse("test.yaml", fmt.Appendf([]byte(head("series")), `
sources: {inbox: {kind: s3, bucket: inbox, prefix: in/, endpoint: %q, path_style: true, poll: 50ms, copy: never, auth: gateway}}
sinks: {out: {kind: dir, path: %q}}
on_error: %s
stages: [{name: volume, each: task, call: model}]
processors: {model: {kind: http, url: %q, body: multipart, timeout: 20s}}
auth: {gateway: {kind: aws, access_key_id: "${env:ID}", secret_access_key: "${env:SECRET}"}}
`, d.front, r.out, onError, url), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// TestSeriesInPlace sends slices that lie in a bucket as one request, and nothing is copied. A process that loses the task in the middle
// of looking at them, one that is bad, and one that is gone by then, change what they should and no more.
func TestSeriesInPlace(t *testing.T) {
	t.Parallel()
	slice := study(t, 12)
	for name, c := range map[string]struct {
		bad, gone, lost bool
		policy          string
		state, code     string
		items           int
	}{
		"sound":                   {policy: "fail", state: "done", items: 12},
		"rescued in the middle":   {policy: "fail", state: "done", items: 12, lost: true},
		"one is bad, and skipped": {policy: "skip", bad: true, state: "done", items: 11},
		"one is bad, and fails":   {policy: "fail", bad: true, state: "failed", code: "not_dicom"},
		"one is gone":             {policy: "skip", gone: true, state: "failed", code: "source_gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, scoring)
			env := map[string]string{}
			r := newRig(t, env)
			r.TTL, r.Grace = 600*time.Millisecond, 100*time.Millisecond
			d := newDepot(t, env, false)
			for i, b := range slice {
				if c.bad && i == 7 {
					b = []byte("a note about the scan")
				}
				d.put(fmt.Sprintf("in/DOE^JANE/%02d.dcm", i), b)
			}
			run := func(a *app.App) (stop func()) {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- a.Serve(ctx, []*gantry.Pipeline{r.seriesOf(d, c.policy, s.URL+"/score")}) }()
				return sync.OnceFunc(func() { cancel(); <-done })
			}
			defer run(r.beside())()
			letGo := r.hold("series")
			id := r.gather(12)
			if c.gone {
				d.put("in/DOE^JANE/07.dcm", []byte("another"))
			}
			if c.lost {
				half := make(chan bool, 1)
				d.mu.Lock()
				d.gets, d.wrong = 0, func(nth int, w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
					if nth < 8 {
						return false
					}
					select {
					case half <- true:
					default:
					}
					time.Sleep(50 * time.Millisecond)
					panic(http.ErrAbortHandler)
				}
				d.mu.Unlock()
				letGo()
				<-half
				r.exec(`update worker set expires_at = now() - interval '1 s' where id in (select owner from task_hot)`)
				d.mu.Lock()
				d.wrong = nil
				d.mu.Unlock()
				defer run(r.App)()
			} else {
				letGo()
			}
			task := r.topAs("at its end", func(x postgres.TaskRow) bool { return x.ID == id && x.FinishedAt != nil })
			if task.State != c.state || codeOf(task) != c.code || r.copied() != 0 {
				t.Fatalf("%+v %+v\n%s", task, task.Error, r.log.text())
			}
			if n := r.count(`select count(*) from task_event where change = 9`); (n > 0) != c.lost {
				t.Errorf("the task was rescued %d times", n)
			}
			r.holdReads(id)
			if c.state != "done" {
				if len(s.all()) != 0 {
					t.Errorf("%d calls", len(s.all()))
				}
				return
			}
			m, _ := manifestOf(t, r.out, id)
			if len(m.Inputs) != 12 || len(m.Items) != c.items || len(m.Outputs) != 1 || m.Outputs[0].Path != "volume/task.json" || len(m.Errors) != 12-c.items {
				t.Errorf("manifest %+v", m)
			}
			calls := r.calls(postgres.Filter{Task: id})
			if len(s.all()) != 1 || len(calls) != 1 {
				t.Errorf("%d requests, %d calls on record", len(s.all()), len(calls))
			}
		})
	}
}

// holdReads wants every read of a member on record with the arrival that it was of.
func (r *rig) holdReads(id string) {
	r.t.Helper()
	calls, err := r.Store.Calls(r.t.Context(), postgres.Filter{Task: id, Boundary: "source"})
	if err != nil || len(calls) == 0 || slices.ContainsFunc(calls, func(c postgres.CallRow) bool { return c.Source != "series/inbox" }) {
		r.t.Errorf("%d reads on record, or not of what: %v", len(calls), err)
	}
	if n := r.count(`select count(*) from call_intent where boundary = 0 and arrival is null and task_id = (select id from task where public_id = $1)`, id); n != 0 {
		r.t.Errorf("%d reads are of nothing", n)
	}
}

// TestCollectionMoves lets a collection begin anew in another pipeline, with all its originals.
func TestCollectionMoves(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	inbox := r.servingTwo(oneStage(s.URL, "20s"), strings.Replace(oneStage(s.URL, "20s"), "one-stage", "other", 1))
	letGo := r.hold("one-stage")
	defer letGo()
	for i := range 3 {
		drop(t, inbox, fmt.Sprintf("%d.png", i), noise(9, [32]byte{byte(i)}))
	}
	id := r.gather(3)
	if v, err := r.operator().Move(t.Context(), id, app.Moving{To: "other", By: "tester", Wait: within, Drivers: all.Drivers()}); err != nil || v.Result != app.ResultMoved {
		t.Fatalf("%+v, %v", v, err)
	}
	task := r.topAs("done", inState("done"))
	m, _ := manifestOf(t, r.out, id+"/leg1")
	if task.Pipeline != "other" || task.Originals != 3 || len(m.Inputs) != 3 || len(m.Outputs) != 3 {
		t.Errorf("%+v, manifest %+v", task, m)
	}
}
