package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestPause pauses a task whose call hangs, and a divided one with its shards, cancels none of them, and lets
// them go on: the calls are made again, with the attempt that they had.
func TestPause(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request, body []byte, _ int) {
		if !mended.Load() {
			asked.Add(1)
			<-r.Context().Done()
			return
		}
		answerJSON(w, body)
	})
	for _, c := range []struct {
		name, rest string
		files      int
	}{{"whole", "", 2}, {"divided", "extract: {shard: 2}\n", 5}} {
		t.Run(c.name, func(t *testing.T) {
			mended.Store(false)
			asked.Store(0)
			r := newRig(t, nil)
			inbox, _ := r.serving(oneStage(s.URL, "60s") + c.rest)
			var entries []entry
			for i := range c.files {
				entries = append(entries, entry{name: fmt.Sprint(i), body: noise(30, [32]byte{byte(i)})})
			}
			drop(t, inbox, "x.zip", packed(t, entries...))
			task := r.topAs("asked about", func(postgres.TaskRow) bool { return asked.Load() > 1 })
			o := r.operator()
			if v, err := o.Pause(t.Context(), task.ID, "tester", "the scanner is looked at", within); err != nil || v.Result != app.ResultPaused {
				t.Fatalf("%+v %v", v, err)
			}
			task = r.topAs("paused", func(x postgres.TaskRow) bool { return x.Phase == "paused" })
			if p := task.Paused; p == nil || p.By != "tester" || p.Reason != "the scanner is looked at" || time.Since(p.At) > time.Minute {
				t.Errorf("it was paused by %+v", task.Paused)
			}
			time.Sleep(2 * r.TTL)
			if n := r.count(`select count(*) from task_hot where phase <> 4 or owner is not null`); n != 0 {
				t.Errorf("%d tasks are not paused", n)
			}
			r.refusedWhilePaused(task.ID)
			mended.Store(true)
			if v, err := o.Resume(t.Context(), task.ID, "tester"); err != nil || v.Result != app.ResultResumed {
				t.Fatalf("%+v %v", v, err)
			}
			if v, err := o.Resume(t.Context(), task.ID, "tester"); err != nil || v.Result != app.ResultRefused || v.Reason == "" {
				t.Errorf("a second time: %+v %v", v, err)
			}
			task = r.topAs("done", inState("done"))
			if got, _ := manifestOf(t, r.out, task.ID); len(got.Outputs) != c.files || task.Paused != nil {
				t.Errorf("%+v, manifest %+v", task, got)
			}
			if n := r.count(`select count(*) from part where attempt <> 1`) + r.count(`select count(*) from task_event where attempt > 0`); n != 0 {
				t.Errorf("%d attempts were raised", n)
			}
			if n := r.count(`select count(*) from task_pause`) + r.count(`select count(*) from command where done_at is null`); n != 0 {
				t.Errorf("%d pauses and commands are left", n)
			}
		})
	}
}

// refusedWhilePaused tries what makes no sense of a task that tester paused.
func (r *rig) refusedWhilePaused(id string) {
	r.t.Helper()
	o := r.operator()
	if v, err := o.Pause(r.t.Context(), id, "other", "", 0); err != nil || v.Result != app.ResultRefused || !strings.Contains(v.Reason, "paused by tester") {
		r.t.Errorf("a second pause: %+v %v", v, err)
	}
	if v, err := o.Retry(r.t.Context(), id, "tester", all.Drivers()); err != nil || v.Result != app.ResultRefused {
		r.t.Errorf("a retry: %+v %v", v, err)
	}
}

// TestPausedTaskMayEndOrMove cancels a paused task, and moves another, which stays paused in its next leg.
func TestPausedTaskMayEndOrMove(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"cancel", "move"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s, asked := hanging(t)
			r := newRig(t, nil)
			inbox := r.servingTwo(oneStage(s.URL, "60s"), elsewhere(s.URL, ""))
			drop(t, inbox, "x.png", noise(30, [32]byte{1}))
			task := r.topAs("asked about", func(postgres.TaskRow) bool { return asked.Load() == 1 })
			o := r.operator()
			if v, err := o.Pause(t.Context(), task.ID, "tester", "", within); err != nil || v.Result != app.ResultPaused {
				t.Fatalf("%+v %v", v, err)
			}
			if what == "cancel" {
				if v, err := o.Cancel(t.Context(), task.ID, "tester", 0); err != nil || v.Result != app.ResultCancelled {
					t.Fatalf("%+v %v", v, err)
				}
			} else {
				m := app.Moving{To: "second", By: "tester", Drivers: all.Drivers()}
				if v, err := o.Move(t.Context(), task.ID, m); err != nil || v.Result != app.ResultMoved {
					t.Fatalf("%+v %v", v, err)
				}
				time.Sleep(r.TTL)
				task = r.topAs("paused", func(x postgres.TaskRow) bool {
					return x.Phase == "paused" && x.State == "queued" && x.Pipeline == "second"
				})
				if v, err := o.Resume(t.Context(), task.ID, "tester"); err != nil || v.Result != app.ResultResumed {
					t.Fatalf("%+v %v", v, err)
				}
				r.topAs("done", inState("done"))
			}
			if n := r.count(`select count(*) from task_pause`); n != 0 {
				t.Errorf("%d pauses are left", n)
			}
		})
	}
}
