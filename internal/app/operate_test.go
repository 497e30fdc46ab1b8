package app_test

import (
	stdcmp "cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
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

// serving runs a pipeline with one folder as its source until the test ends or stop is called.
func (r *rig) serving(src string) (inbox string, stop func()) {
	r.t.Helper()
	inbox = r.t.TempDir()
	r.TTL, r.Grace = stdcmp.Or(r.TTL, 600*time.Millisecond), time.Second
	src += fmt.Sprintf("sources: {inbox: {kind: dir, path: %q}}\nsinks: {out: {kind: dir, path: %q}}\n", inbox, r.out)
	p, err := pipeline.Parse("test.yaml", []byte(src), all.Drivers(), r.Lookup)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, []*gantry.Pipeline{p}) }()
	stopped := false
	stop = func() {
		if cancel(); !stopped {
			stopped = true
			if err := <-done; err != nil {
				r.t.Errorf("serve: %v", err)
			}
		}
	}
	r.t.Cleanup(stop)
	return inbox, stop
}

func drop(t *testing.T, inbox, name string, body []byte) {
	t.Helper()
	tmp := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(tmp, body, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(inbox, name)); err != nil {
		t.Fatal(err)
	}
}

// until waits for the only task to be as wanted.
func (r *rig) until(what string, ok func(postgres.TaskRow) bool) postgres.TaskRow {
	r.t.Helper()
	var last []postgres.TaskRow
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		list, err := r.Store.Tasks(r.t.Context(), postgres.Filter{})
		if err != nil {
			r.t.Fatal(err)
		}
		if last = list; len(list) == 1 && ok(list[0]) {
			return list[0]
		}
	}
	r.t.Fatalf("not %s in time: %+v\n%s", what, last, r.log.text())
	return postgres.TaskRow{}
}

func (r *rig) operator() *app.Database { return &app.Database{Store: r.Store, DSN: r.dsn} }

func (r *rig) changes(key int64) (out []string) {
	r.t.Helper()
	events, err := r.Store.Events(r.t.Context(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range events {
		out = append(out, strings.TrimSpace(e.From+" "+e.To+" "+e.Change+" "+e.Code))
	}
	return out
}

// TestCancelRunningTask breaks off a call that hangs: within a heartbeat the task is cancelled and the
// call is on record. The control is that without the command it goes on.
func TestCancelRunningTask(t *testing.T) {
	t.Parallel()
	var hanging, left atomic.Int32
	s := serve(t, func(_ http.ResponseWriter, r *http.Request, _ []byte, _ int) {
		hanging.Add(1)
		<-r.Context().Done()
		left.Add(1)
	})
	r := newRig(t, nil)
	inbox, _ := r.serving(oneStage(s.URL, "60s"))
	drop(t, inbox, "x.png", noise(30, [32]byte{1}))
	task := r.until("inferring", func(x postgres.TaskRow) bool { return x.State == "inferring" && hanging.Load() == 1 })
	time.Sleep(2 * r.TTL / 3) // two heartbeats
	if task = r.until("known", func(postgres.TaskRow) bool { return true }); task.State != "inferring" || left.Load() != 0 {
		t.Fatalf("it is %s with %d calls broken off before anybody asked", task.State, left.Load())
	}
	begun := time.Now()
	v, err := r.operator().Cancel(t.Context(), task.ID[:8], "tester", within)
	if err != nil || v != (app.Verdict{Task: task.ID, Result: app.ResultCancelled, State: "cancelled"}) {
		t.Fatalf("%+v, %v", v, err)
	}
	if took := time.Since(begun); took > 5*r.TTL {
		t.Errorf("took %s with heartbeats every %s", took, r.TTL/3)
	}
	calls := r.calls(postgres.Filter{})
	if len(calls) != 1 || calls[0].Outcome != "failed" || calls[0].ErrorCode != "cancelled" {
		t.Errorf("recorded %+v", calls)
	}
	task = r.until("cancelled", func(x postgres.TaskRow) bool { return x.State == "cancelled" })
	if task.Error == nil || task.Error.Code != "cancelled" || task.FinishedAt == nil {
		t.Errorf("%+v", task)
	}
	if c := r.changes(task.Key); c[len(c)-1] != "inferring cancelled end cancelled" {
		t.Errorf("%v", c)
	}
	if files := delivered(t, r.out); len(files) != 0 {
		t.Errorf("delivered %v", files)
	}
	for id, reason := range map[string]string{task.ID: "it has ended", "": "it is no id of a task", "%": "it is no id of a task", "aaaa": "there is no such task"} {
		if v, err := r.operator().Cancel(t.Context(), id, "tester", 0); err != nil || v.Result != app.ResultRefused || v.Reason != reason {
			t.Errorf("%q: %+v, %v", id, v, err)
		}
	}
	if v, err := r.operator().Retry(t.Context(), task.ID, "tester", all.Drivers()); err != nil || v.Result != app.ResultRefused {
		t.Errorf("retry of a cancelled task: %+v, %v", v, err)
	}
}

// TestCancelIdleTask ends at once a task that waits for its next try.
func TestCancelIdleTask(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		w.Header().Set("Retry-After", "600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	r := newRig(t, nil)
	inbox, stop := r.serving(strings.Replace(oneStage(s.URL, "60s"), "max: 5s", "max: 5m", 1))
	drop(t, inbox, "x.png", noise(30, [32]byte{1}))
	task := r.until("delayed", func(x postgres.TaskRow) bool { return x.Phase == "delayed" })
	stop()
	v, err := r.operator().Cancel(t.Context(), task.ID, "tester", 0)
	if err != nil || v.Result != app.ResultCancelled {
		t.Fatalf("%+v, %v", v, err)
	}
	if c := r.changes(task.Key); c[len(c)-1] != "inferring cancelled end cancelled" {
		t.Errorf("%v", c)
	}
	var open int
	if err := r.Store.Pool().QueryRow(t.Context(), `select count(*) from command where done_at is null or result <> 'cancelled' or by <> 'tester'`).Scan(&open); err != nil || open != 0 {
		t.Errorf("%d commands are not closed: %v", open, err)
	}
}

// TestRetryFailedTask mends a service that refused one part of three: only that one is called again,
// and what it answered is delivered with the others.
func TestRetryFailedTask(t *testing.T) {
	t.Parallel()
	ct := study(t, 3)
	var mended atomic.Bool
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		if digest(body) == digest(ct[1]) && !mended.Load() {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answerJSON(w, body)
	})
	r := newRig(t, nil)
	inbox, _ := r.serving(oneStage(s.URL, "20s"))
	drop(t, inbox, "x.zip", packed(t, entry{name: "a", body: ct[0]}, entry{name: "b", body: ct[1]}, entry{name: "c", body: ct[2]}))
	task := r.until("failed", func(x postgres.TaskRow) bool { return x.State == "failed" })
	before := len(r.changes(task.Key))
	calls := r.calls(postgres.Filter{})
	mended.Store(true)
	v, err := r.operator().Retry(t.Context(), task.ID, "tester", all.Drivers())
	if err != nil || v != (app.Verdict{Task: task.ID, Result: app.ResultReopened, State: "inferring"}) {
		t.Fatalf("%+v, %v", v, err)
	}
	if again, err := r.operator().Retry(t.Context(), task.ID, "tester", all.Drivers()); err != nil || again.Result != app.ResultRefused {
		t.Errorf("the second time: %+v, %v", again, err)
	}
	task = r.until("done", func(x postgres.TaskRow) bool { return x.State == "done" })
	if task.Error != nil {
		t.Errorf("it is done with %+v", task.Error)
	}
	want := []string{"failed inferring reopened", "inferring responding advance", "responding done end"}
	if diff := cmp.Diff(want, r.changes(task.Key)[before:]); diff != "" {
		t.Errorf("events after the failure (-want +got):\n%s", diff)
	}
	events, err := r.Store.Events(t.Context(), task.Key)
	if err != nil || !slices.IsSortedFunc(events, func(a, b postgres.EventRow) int { return a.Seq - b.Seq }) || events[before].Detail != "by tester" {
		t.Errorf("%+v, %v", events, err)
	}
	after := r.calls(postgres.Filter{})[len(calls):]
	if len(calls) != 3 || len(after) != 1 || after[0].Attempt != 1 || after[0].Outcome != "ok" || after[0].Part != 1 {
		t.Errorf("%d calls before, after it %+v", len(calls), after)
	}
	if m, _ := manifestOf(t, r.out, task.ID); len(m.Outputs) != 3 || len(m.Errors) != 0 {
		t.Errorf("manifest %+v", m)
	}
}

// TestRetryOfRun refuses a task whose process, and whose folder of results, are gone.
func TestRetryOfRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) { w.WriteHeader(http.StatusBadRequest) })
	o := r.one(oneStage(s.URL, "20s"), file(t, "x.png", noise(30, [32]byte{1})))
	v, err := r.operator().Retry(t.Context(), o.ID, "tester", all.Drivers())
	if err != nil || v.Result != app.ResultRefused || !strings.Contains(v.Reason, "gantry run") {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestRetryWithShards mends a service that refused one part in the second of three shards: that shard alone is
// tried again, and then the task delivers everything.
func TestRetryWithShards(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	bad := noise(30, [32]byte{3})
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		if digest(body) == digest(bad) && !mended.Load() {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answerJSON(w, body)
	})
	r := newRig(t, nil)
	inbox, _ := r.serving(oneStage(s.URL, "20s") + "extract: {shard: 2}\n")
	var entries []entry
	for i := range 5 {
		entries = append(entries, entry{name: fmt.Sprint(i), body: noise(30, [32]byte{byte(i)})})
	}
	drop(t, inbox, "x.zip", packed(t, entries...))
	ended := func(state string) (top postgres.TaskRow) {
		for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			list, err := r.Store.Tasks(t.Context(), postgres.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range list {
				if x.Parent == "" && x.State == state {
					return x
				}
			}
		}
		t.Fatalf("not %s in time\n%s", state, r.log.text())
		return top
	}
	task := ended("failed")
	before := len(r.calls(postgres.Filter{}))
	mended.Store(true)
	if v, err := r.operator().Retry(t.Context(), task.ID, "tester", all.Drivers()); err != nil || v.Result != app.ResultReopened {
		t.Fatalf("%+v, %v", v, err)
	}
	ended("done")
	if n := len(r.calls(postgres.Filter{})) - before; n != 1 {
		t.Errorf("%d more calls, want the one that failed", n)
	}
	if m, _ := manifestOf(t, r.out, task.ID); len(m.Outputs) != 5 || len(m.Errors) != 0 {
		t.Errorf("manifest %+v", m)
	}
}

// eventually waits until something holds.
func (r *rig) eventually(otherwise string, holds func() bool) {
	r.t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s in time\n%s", otherwise, r.log.text())
		}
	}
}
