package app_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// why waits until the first cause of a task is one, and the causes say some texts, and gives all.
func (r *rig) why(id, code string, texts ...string) []api.Cause {
	r.t.Helper()
	var w api.Why
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		if w, err = r.operator().Why(r.t.Context(), id, all.Drivers()); err != nil {
			r.t.Fatal(err)
		}
		if len(w.Causes) > 0 && w.Causes[0].Code == code && say(w.Causes, texts) {
			for _, c := range w.Causes {
				if strings.Contains(fmt.Sprintf("%+v", c), "JANE") {
					r.t.Errorf("a file's name is in %+v", c)
				}
				r.t.Logf("%s  %s %s  %s: %s", w.Task[:min(8, len(w.Task))], w.State, w.Phase, c.Code, c.Text)
			}
			return w.Causes
		}
	}
	r.t.Fatalf("it is not %s in time, but: %+v\n%s", code, w, r.log.text())
	return nil
}

// say tells whether each of the texts is in one of the causes.
func say(list []api.Cause, texts []string) bool {
	return !slices.ContainsFunc(texts, func(text string) bool {
		return !slices.ContainsFunc(list, func(c api.Cause) bool { return strings.Contains(c.Text, text) })
	})
}

func mustSay(t *testing.T, c api.Cause, texts ...string) {
	t.Helper()
	for _, x := range texts {
		if !strings.Contains(c.Text, x) {
			t.Errorf("%s does not say %q: %s", c.Code, x, c.Text)
		}
	}
}

// also finds a cause that is not the first.
func also(t *testing.T, list []api.Cause, code string) api.Cause {
	t.Helper()
	i := slices.IndexFunc(list, func(c api.Cause) bool { return c.Code == code })
	if i < 0 {
		t.Fatalf("no %s among %+v", code, list)
	}
	return list[i]
}

// TestWhyIsItNotBegun asks about two tasks of which one may be in progress, while it hangs, the pipeline is paused, its
// processor is paused, and once no process is left.
func TestWhyIsItNotBegun(t *testing.T) {
	t.Parallel()
	s, asked := hanging(t)
	r := newRig(t, nil)
	inbox, stop := r.serving(oneStage(s.URL, "60s") + "limits: {in_progress: 1}\n")
	drop(t, inbox, "x.png", noise(30, [32]byte{1}))
	first := r.topAs("asked about", func(postgres.TaskRow) bool { return asked.Load() == 1 })
	drop(t, inbox, "JANE-y.png", noise(30, [32]byte{2}))
	second := r.topAs("there", func(x postgres.TaskRow) bool { return x.ID != first.ID })
	drop(t, inbox, "z.png", noise(30, [32]byte{3}))
	third := r.topAs("there", func(x postgres.TaskRow) bool { return x.ID != first.ID && x.ID != second.ID })

	calls := r.why(first.ID, app.WhyCalls)
	mustSay(t, calls[0], "1 call to "+s.URL+" has not ended")
	mustSay(t, also(t, calls, app.WhyWorking), "works on it: inferring, stage draw; draw has answered 0 of 1 part, 1 planned.")
	also(t, calls, app.WhyStateTime)
	full := r.why(third.ID, app.WhyInProgress)
	mustSay(t, full[0], "1 of 1 tasks of one-stage are in progress, held by process 1 (", ", 1 task).")
	if h := full[0].Holders; full[0].Limit != "pipeline:one-stage" || len(h) != 1 || h[0].Process != 1 || h[0].Units != 1 {
		t.Errorf("%+v", full[0])
	}
	mustSay(t, also(t, full, app.WhyAhead), "1 task of one-stage/inbox goes before it: 0 more urgent, 1 older")

	op := r.operator()
	if _, err := op.PauseLimit(t.Context(), s.URL, "ann"); err != nil {
		t.Fatal(err)
	}
	mustSay(t, r.why(first.ID, app.WhyTargetPaused)[0], "No call to "+s.URL+" may begin: ann paused ")
	if _, err := op.PauseLimit(t.Context(), "pipeline:one-stage", "ben"); err != nil {
		t.Fatal(err)
	}
	mustSay(t, r.why(second.ID, app.WhyPipelineStop)[0], "No task of its pipeline may begin: ben paused pipeline:one-stage at ")
	stop()
	mustSay(t, r.why(second.ID, app.WhyNoProcess)[0], "No process is running: start gantry serve")
}

// TestWhyAreItsCallsHeld asks about a task of three parts whose target allows one call at once, has a rate, and asks to
// be left alone.
func TestWhyAreItsCallsHeld(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ []byte, _ int) {
		if refuse.Load() {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		select {
		case <-r.Context().Done():
		case <-time.After(1500 * time.Millisecond):
			refuse.Store(true)
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	r := newRig(t, nil)
	src := strings.Replace(oneStage(s.URL, "20s"), "timeout: 20s", "timeout: 20s, limits: {concurrency: 1, rate: 30/m}", 1)
	inbox, _ := r.serving(strings.Replace(src, "max: 5s", "max: 60s", 1))
	drop(t, inbox, "x.zip", pictures(t, 3))
	task := r.topAs("inferring", inState("inferring"))
	units := r.why(task.ID, app.WhyUnits, "no start is free before ", "2 calls to ") // one comes after the other
	mustSay(t, units[0], "1 of 1 units of "+s.URL+" are in use, held by process 1 (", "; processes want ")
	mustSay(t, also(t, units, app.WhyRate), s.URL+" takes 0.5 calls a second: no start is free before ")
	mustSay(t, also(t, units, app.WhyCalls), "2 calls to "+s.URL) // 2.5 times the units are begun
	rests := r.why(task.ID, app.WhyTargetRests)
	if rests[0].Until == nil || time.Until(*rests[0].Until) > 31*time.Second || rests[0].Limit != s.URL {
		t.Errorf("%+v", rests[0])
	}
	mustSay(t, rests[0], "asked to be left alone (Retry-After): no call begins before")
}

// TestWhyIsItTriedLater asks about a task whose part failed, whose state failed, and which has failed for good.
func TestWhyIsItTriedLater(t *testing.T) {
	t.Parallel()
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, _ []byte, _ int) {
		w.WriteHeader(http.StatusInternalServerError)
	})
	r := newRig(t, nil)
	inbox, _ := r.serving(strings.Replace(oneStage(s.URL, "20s"), "initial: 1ms, factor: 2, max: 5s", "initial: 10m, factor: 2, max: 10m", 1))
	drop(t, inbox, "x.png", noise(30, [32]byte{1}))
	task := r.topAs("delayed", func(x postgres.TaskRow) bool { return x.Phase == "delayed" })
	later := r.why(task.ID, app.WhyPartsLater)
	mustSay(t, later[0], "1 part for draw is tried again from ", "on: attempt 1 of 3 of the first ended with http_500.")
	if later[0].Until == nil || later[0].Until.Before(time.Now()) {
		t.Errorf("%+v", later[0])
	}
	if err := r.rests(t.Context(), s.URL); err != nil {
		t.Fatal(err)
	}
	also(t, r.why(task.ID, app.WhyPartsLater), app.WhyTargetRests)
}

// rests has a target ask to be left alone.
func (r *rig) rests(ctx context.Context, key string) error {
	rows, err := r.Store.Limits(ctx, key, 1)
	if err != nil || len(rows) != 1 {
		return fmt.Errorf("limits: %+v, %w", rows, err)
	}
	return r.Store.Rest(ctx, rows[0].ID, time.Minute)
}

// TestWhyOfParents asks about a divided task, one of its shards, a paused one, and the end.
func TestWhyOfParents(t *testing.T) {
	t.Parallel()
	s, asked := hanging(t)
	r := newRig(t, nil)
	inbox, _ := r.serving(oneStage(s.URL, "60s") + "extract: {shard: 2}\n")
	drop(t, inbox, "x.zip", pictures(t, 5))
	task := r.topAs("divided", func(x postgres.TaskRow) bool { return x.Phase == "waiting" && asked.Load() > 0 })
	parent := r.why(task.ID, app.WhyChildren)
	mustSay(t, parent[0], "It waits for 3 of its 3 children: ", " (inferring, ")
	list, err := r.Store.Tasks(t.Context(), postgres.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(x postgres.TaskRow) bool { return x.Parent == task.ID && x.Phase == "owned" })
	w, err := r.operator().Why(t.Context(), list[i].ID, all.Drivers())
	if err != nil {
		t.Fatal(err)
	}
	mustSay(t, also(t, w.Causes, app.WhyChildOf), "It is a part of task "+task.ID)
	op := r.operator()
	if _, err := op.Pause(t.Context(), task.ID, "ann", "the service is serviced", within); err != nil {
		t.Fatal(err)
	}
	mustSay(t, r.why(task.ID, app.WhyPaused)[0], "It was paused by ann at ", ", the service is serviced: gantry task resume lets it go on.")
	r.why(list[i].ID, app.WhyPaused)
	if _, err := op.Cancel(t.Context(), task.ID, "ann", within); err != nil {
		t.Fatal(err)
	}
	mustSay(t, r.why(task.ID, app.WhyCancelled)[0], "It was cancelled at ", " in inferring", "with cancelled: An operator cancelled the task.")
	if w, err := op.Why(t.Context(), "aaaa", all.Drivers()); err != nil || len(w.Causes) != 1 || w.Causes[0].Code != app.WhyUnknown || w.Causes[0].Text != "There is no such task." {
		t.Errorf("of no task: %+v, %v", w, err)
	}
}

// TestWhyOfOthers asks about tasks that failed, wait for their window, for a unit of their state, and to run alone.
func TestWhyOfOthers(t *testing.T) {
	t.Parallel()
	s, asked := hanging(t)
	r := newRig(t, nil)
	day := strings.ToLower(time.Now().UTC().AddDate(0, 0, 3).Weekday().String()[:3])
	inbox, _ := r.serving(oneStage(s.URL, "60s") + "limits: {inferring: 1}\noffpeak: " + day + " 02:00-03:00 UTC\n" +
		"priority: 'object.size > 4000 ? \"offpeak\" : \"normal\"'\n")
	drop(t, inbox, "x.png", noise(30, [32]byte{1}))
	held := r.topAs("asked about", func(postgres.TaskRow) bool { return asked.Load() == 1 })
	drop(t, inbox, "JANE-y.png", noise(30, [32]byte{2}))
	waits := r.topAs("inferring", func(x postgres.TaskRow) bool { return x.ID != held.ID && x.State == "inferring" })
	mustSay(t, r.why(waits.ID, app.WhyStateFull)[0], "1 of 1 tasks of one-stage are inferring, held by process 1 (", "1 task): it waits for one of them to end that.")
	drop(t, inbox, "DOE-JANE.png", noise(160, [32]byte{3}))
	night := r.topAs("queued", inState("queued"))
	peak := r.why(night.ID, app.WhyOffPeak)
	mustSay(t, peak[0], "It is off-peak: a window of its pipeline opens at ", "T02:00:00Z")
	drop(t, inbox, "DOE-JANE.zip", []byte("PK\x03\x04 no archive"))
	failed := r.topAs("failed", inState("failed"))
	mustSay(t, r.why(failed.ID, app.WhyFailed)[0], " in extracting, with ", " (illegal): ", "The input is kept: gantry task retry")
	if _, err := r.Store.Pool().Exec(t.Context(), `update task_hot set crashes = 2, priority = 5 where id = $1`, night.Key); err != nil {
		t.Fatal(err)
	}
	r.topAs("set aside", func(x postgres.TaskRow) bool { return x.ID == night.ID && x.Phase == "owned" })
	mustSay(t, r.why(night.ID, app.WhyAlone)[0], "2 processes died while they worked on it: process 1 (", " has set it aside, and works on it alone once the other tasks there have ended (2).")
	drop(t, inbox, "JANE.png", noise(30, [32]byte{4}))
	late := r.topAs("queued", func(x postgres.TaskRow) bool { return x.State == "queued" && x.ID != night.ID })
	mustSay(t, r.why(late.ID, app.WhyBusy)[0], "Every process has as many tasks as it takes: process 1 (", "works on a task alone.")
}

// TestWhyNobodyHasRoom asks about a task that no process has room for, and by HTTP too.
func TestWhyNobodyHasRoom(t *testing.T) {
	t.Parallel()
	s, asked := hanging(t)
	r := newRig(t, nil)
	r.Tasks = 2
	inbox, _ := r.serving(oneStage(s.URL, "60s"))
	for i := range 3 {
		drop(t, inbox, fmt.Sprintf("%d.png", i), noise(30, [32]byte{byte(i)}))
	}
	task := r.topAs("queued", func(x postgres.TaskRow) bool { return x.State == "queued" && asked.Load() == 2 })
	mustSay(t, r.why(task.ID, app.WhyBusy)[0], "Every process has as many tasks as it takes: process 1 (", ") has 2.")
	if w, err := r.App.Why(t.Context(), task.ID); err != nil || w.Task != task.ID || w.Phase != "ready" || w.Causes[0].Code != app.WhyBusy {
		t.Errorf("%+v, %v", w, err)
	}
	if _, err := r.App.Why(t.Context(), "none"); gantry.CodeOf(err) != postgres.CodeNoTask {
		t.Errorf("of no task: %v", err)
	}
}

// TestWhyIsItNotDelivered asks about a task whose sink cannot be written to.
func TestWhyIsItNotDelivered(t *testing.T) {
	t.Parallel()
	answers := make(chan struct{})
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		asked.Add(1)
		<-answers
		answerJSON(w, body)
	})
	r := newRig(t, nil)
	inbox, _ := r.serving(strings.Replace(oneStage(s.URL, "20s"), "initial: 1ms, factor: 2, max: 5s", "initial: 10m, factor: 2, max: 10m", 1))
	drop(t, inbox, "x.png", noise(30, [32]byte{1}))
	task := r.topAs("asked about", func(postgres.TaskRow) bool { return asked.Load() == 1 })
	err := os.RemoveAll(r.out)
	if err == nil {
		err = os.WriteFile(r.out, nil, 0o600)
	}
	if close(answers); err != nil {
		t.Fatal(err)
	}
	retry := r.why(task.ID, app.WhyRetry)
	mustSay(t, retry[0], "Attempt 1 of 3 of responding ended with ", "It is tried again at ")
	if err := r.rests(t.Context(), "dir:"+r.out); err != nil {
		t.Fatal(err)
	}
	also(t, r.why(task.ID, app.WhyRetry), app.WhyTargetRests)
}

// TestWhyIsItsTargetLeftAlone asks about a task whose target failed until its breaker opened, and is tried again.
func TestWhyIsItsTargetLeftAlone(t *testing.T) {
	t.Parallel()
	var hang atomic.Bool
	s := serve(t, func(w http.ResponseWriter, r *http.Request, _ []byte, _ int) {
		if hang.Load() {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusBadGateway)
	})
	r := newRig(t, nil)
	src := strings.Replace(oneStage(s.URL, "20s"), "attempts: 3", "attempts: 20", 1)
	inbox, _ := r.serving(strings.Replace(src, "timeout: 20s", "timeout: 20s, limits: {concurrency: 1, breaker: {failures: 2, open: 3s}}", 1))
	drop(t, inbox, "x.zip", pictures(t, 3))
	task := r.topAs("inferring", inState("inferring"))
	open := r.why(task.ID, app.WhyBreaker)
	mustSay(t, open[0], "Calls to "+s.URL+" failed again and again: none begins before ", "then one tries it.")
	if open[0].Until == nil || open[0].Limit != s.URL {
		t.Errorf("%+v", open[0])
	}
	hang.Store(true)
	mustSay(t, r.why(task.ID, app.WhyProbe)[0], "Calls to "+s.URL+" failed again and again: ")
}
