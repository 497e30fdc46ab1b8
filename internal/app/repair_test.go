package app_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// servingTwo runs two pipelines until the test ends: the first takes what is dropped, and the second what is moved to
// it. Both deliver to one folder.
func (r *rig) servingTwo(first, second string) (inbox string) {
	r.t.Helper()
	inbox = r.t.TempDir()
	r.TTL, r.Grace = 600*time.Millisecond, time.Second
	var both []*gantry.Pipeline
	for i, src := range []string{first, second} {
		folder, name := inbox, "inbox"
		if i > 0 {
			folder, name = r.t.TempDir(), "elsewhere"
		}
		src += fmt.Sprintf("sources: {%s: {kind: dir, path: %q}}\nsinks: {out: {kind: dir, path: %q}}\n", name, folder, r.out)
		p, err := pipeline.Parse("test.yaml", []byte(src), all.Drivers(), r.Lookup)
		if err != nil {
			r.t.Fatal(err)
		}
		both = append(both, p)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, both) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("serve: %v", err)
		}
	})
	return inbox
}

// topAs waits for the one task that belongs to no other to be as wanted.
func (r *rig) topAs(what string, ok func(postgres.TaskRow) bool) postgres.TaskRow {
	r.t.Helper()
	var last []postgres.TaskRow
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		list, err := r.Store.Tasks(r.t.Context(), postgres.Filter{})
		if err != nil {
			r.t.Fatal(err)
		}
		last = list
		for _, x := range list {
			if x.Parent == "" && ok(x) {
				return x
			}
		}
	}
	r.t.Fatalf("not %s in time: %+v\n%s", what, last, r.log.text())
	return postgres.TaskRow{}
}

func (r *rig) count(q string, args ...any) (n int) {
	r.t.Helper()
	if err := r.Store.Pool().QueryRow(r.t.Context(), q, args...).Scan(&n); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func inState(s string) func(postgres.TaskRow) bool {
	return func(x postgres.TaskRow) bool { return x.State == s }
}

// elsewhere is a pipeline that asks the service at /second.
func elsewhere(url, rest string) string {
	return strings.Replace(strings.Replace(oneStage(url, "20s"), "one-stage", "second", 1), "/draw", "/second", 1) + rest
}

// hanging is a service whose first address never answers and whose second does.
func hanging(t *testing.T) (s *service, asked *atomic.Int32) {
	asked = &atomic.Int32{}
	return serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		if r.URL.Path == "/draw" {
			asked.Add(1)
			<-r.Context().Done()
			return
		}
		answerJSON(w, body)
	}), asked
}

// TestMoveAtWork moves an archive whose first call hangs to a pipeline that takes no archives but by its own
// extract: it begins there anew, within a heartbeat, and delivers under the place of its leg.
func TestMoveAtWork(t *testing.T) {
	t.Parallel()
	s, asked := hanging(t)
	r := newRig(t, nil)
	inbox := r.servingTwo(oneStage(s.URL, "60s"), elsewhere(s.URL, "extract: {max_entries: 100}\n"))
	drop(t, inbox, "x.zip", packed(t, entry{name: "a", body: noise(30, [32]byte{1})}, entry{name: "b", body: noise(30, [32]byte{2})}))
	task := r.topAs("asked about", func(x postgres.TaskRow) bool { return asked.Load() == 2 })
	o := r.operator()
	m := app.Moving{To: "second", By: "tester", Wait: within, Drivers: all.Drivers()}
	v, err := o.Move(t.Context(), task.ID, m)
	if err != nil || v.Result != app.ResultRefused || !strings.Contains(v.Reason, "--stop") {
		t.Errorf("without stop: %+v %v", v, err)
	}
	m.To, m.Stop = "nobody", true
	if v, err = o.Move(t.Context(), task.ID, m); err != nil || v.Result != app.ResultRefused || v.Reason != "pipeline nobody: no process has served a pipeline of this name" {
		t.Errorf("to a pipeline that is not: %+v %v", v, err)
	}
	m.To = "second"
	if v, err = o.Move(t.Context(), task.ID, m); err != nil || v.Result != app.ResultMoved {
		t.Fatalf("%+v %v", v, err)
	}
	task = r.topAs("done", inState("done"))
	if task.Pipeline != "second" || task.Leg != 1 || task.Items != 5 || task.Error != nil {
		t.Errorf("%+v", task)
	}
	want := []string{"queued extracting advance", "extracting ingesting advance", "ingesting inferring advance", "inferring queued move moved",
		"queued extracting advance", "extracting ingesting advance", "ingesting inferring advance", "inferring responding advance", "responding done end"}
	if diff := cmp.Diff(want, r.changes(task.Key)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if n := r.count(`select count(*) from item where task_id = $1 and leg = 0`, task.Key); n != 3 {
		t.Errorf("%d items of the first leg are kept", n)
	}
	if got, _ := manifestOf(t, r.out, task.ID+"/leg1"); len(got.Outputs) != 2 || len(got.Items) != 2 || got.Pipeline != "second" {
		t.Errorf("manifest %+v", got)
	}
	var broken, ok int
	for _, c := range r.calls(postgres.Filter{}) {
		switch {
		case c.Outcome == "failed" && c.ErrorCode == "moved":
			broken++
		case c.Outcome == "ok":
			ok++
		}
	}
	if broken != 2 || ok != 2 {
		t.Errorf("%d calls broken off, %d went well", broken, ok)
	}
	for _, x := range s.all() {
		if leg := strings.Split(x.key, "/")[1]; (x.path == "/second") != (leg == "1") {
			t.Errorf("%s was sent the key %s", x.path, x.key)
		}
	}
	if v, err = o.Move(t.Context(), task.ID, m); err != nil || v.Result != app.ResultRefused || v.Reason != "it has ended" {
		t.Errorf("one that is done: %+v %v", v, err)
	}
}

// TestMoveFailed moves a task that failed, and one that its new pipeline failed too back again: each leg has its own
// parts, and a retry stays in the leg.
func TestMoveFailed(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		if r.URL.Path == "/draw" || !mended.Load() {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answerJSON(w, body)
	})
	r := newRig(t, nil)
	inbox := r.servingTwo(oneStage(s.URL, "20s"), elsewhere(s.URL, ""))
	drop(t, inbox, "x.png", noise(30, [32]byte{1}))
	task := r.topAs("failed", inState("failed"))
	o := r.operator()
	m := app.Moving{To: "second", By: "tester", Drivers: all.Drivers()}
	if v, err := o.Move(t.Context(), task.ID, m); err != nil || v.Result != app.ResultMoved {
		t.Fatalf("%+v %v", v, err)
	}
	task = r.topAs("failed again", func(x postgres.TaskRow) bool { return x.State == "failed" && x.Leg == 1 })
	if task.Pipeline != "second" || task.Error.Code != "http_400" {
		t.Errorf("%+v", task)
	}
	mended.Store(true)
	if v, err := o.Retry(t.Context(), task.ID, "tester", all.Drivers()); err != nil || v.Result != app.ResultReopened {
		t.Fatalf("%+v %v", v, err)
	}
	task = r.topAs("done", inState("done"))
	if task.Leg != 1 || r.count(`select count(*) from part where task_id = $1 and status = 4 and leg = 0`, task.Key) != 1 ||
		r.count(`select count(*) from part where task_id = $1 and status = 2 and leg = 1`, task.Key) != 1 {
		t.Errorf("%+v", task)
	}
	manifestOf(t, r.out, task.ID+"/leg1")
}

// TestMoveDivided moves a task that waits for its shards: they end as cancelled, whoever works on them, and it is
// divided anew.
func TestMoveDivided(t *testing.T) {
	t.Parallel()
	s, asked := hanging(t)
	r := newRig(t, nil)
	inbox := r.servingTwo(oneStage(s.URL, "60s")+"extract: {shard: 2}\n", elsewhere(s.URL, "extract: {shard: 3}\n"))
	var entries []entry
	for i := range 7 {
		entries = append(entries, entry{name: fmt.Sprint(i), body: noise(30, [32]byte{byte(i)})})
	}
	drop(t, inbox, "x.zip", packed(t, entries...))
	task := r.topAs("asked about", func(x postgres.TaskRow) bool { return asked.Load() > 0 && x.Phase == "waiting" })
	o := r.operator()
	child := r.child()
	m := app.Moving{To: "second", By: "tester", Stop: true, Wait: within, Drivers: all.Drivers()}
	if v, err := o.Move(t.Context(), child, m); err != nil || v.Result != app.ResultRefused || !strings.Contains(v.Reason, "part of another") {
		t.Errorf("a child: %+v %v", v, err)
	}
	if v, err := o.Move(t.Context(), task.ID, m); err != nil || v.Result != app.ResultMoved {
		t.Fatalf("%+v %v", v, err)
	}
	task = r.topAs("done", inState("done"))
	if got, _ := manifestOf(t, r.out, task.ID+"/leg1"); len(got.Outputs) != 7 || len(got.Errors) != 0 || task.Children != 3 {
		t.Errorf("%d children; manifest %+v", task.Children, got)
	}
	if n := r.count(`select count(*) from task where parent = $1 and leg = 0 and final_state = 7`, task.Key); n != 4 {
		t.Errorf("%d shards of the first leg were cancelled", n)
	}
	if n := r.count(`select count(*) from command where done_at is null`); n != 0 {
		t.Errorf("%d commands are open", n)
	}
}

func (r *rig) child() string {
	r.t.Helper()
	list, err := r.Store.Tasks(r.t.Context(), postgres.Filter{})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, x := range list {
		if x.Parent != "" {
			return x.ID
		}
	}
	r.t.Fatal("no child")
	return ""
}

// TestMoveIf lets tasks that fail go on elsewhere by the file's own rules, and ends one that two pipelines
// move to one another.
func TestMoveIf(t *testing.T) {
	t.Parallel()
	refused := `move_if: [{when: 'error.code == "http_403" and error.stage == "draw"', to: %s}]` + "\n"
	for _, c := range []struct {
		name, back string // a rule of the second pipeline
		state      string
		leg        int
		moves      []string
	}{
		{"once", "", "failed", 1, []string{"inferring queued move http_403", "inferring failed end http_403"}},
		{"round", fmt.Sprintf(refused, "one-stage"), "failed", 2,
			[]string{"inferring queued move http_403", "inferring queued move http_403", "inferring failed end too_many_legs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) { w.WriteHeader(http.StatusForbidden) })
			r := newRig(t, nil)
			inbox := r.servingTwo(oneStage(s.URL, "20s")+fmt.Sprintf(refused, "second"), elsewhere(s.URL, c.back))
			drop(t, inbox, "x.png", noise(30, [32]byte{1}))
			task := r.topAs(c.state, inState(c.state))
			if task.Leg != c.leg {
				t.Errorf("%+v", task)
			}
			var moves []string
			for _, e := range r.changes(task.Key) {
				if strings.Contains(e, " move ") || strings.Contains(e, " end ") {
					moves = append(moves, e)
				}
			}
			if diff := cmp.Diff(c.moves, moves); diff != "" {
				t.Errorf("moves (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("run", func(t *testing.T) { // a task of gantry run goes nowhere
		t.Parallel()
		s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) { w.WriteHeader(http.StatusForbidden) })
		r := newRig(t, nil)
		r.servingTwo(oneStage(s.URL, "20s"), elsewhere(s.URL, ""))
		other := &rig{App: r.App, t: t, dsn: r.dsn, out: t.TempDir(), log: r.log}
		o := other.one(oneStage(s.URL, "20s")+fmt.Sprintf(refused, "second"), file(t, "x.png", noise(30, [32]byte{1})))
		if o.State != "failed" || o.Error.Code != "http_403" {
			t.Errorf("%+v", o)
		}
	})
}
