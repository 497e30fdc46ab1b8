package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ruling is a ranking that gives what it is told, and keeps what it was asked about.
type ruling struct {
	text     string
	priority int16
	nothing  bool
	err      error
	vars     map[string]any
}

func (r *ruling) String() string { return r.text }
func (r *ruling) Of(vars map[string]any) (int16, bool, error) {
	r.vars = vars
	return r.priority, !r.nothing && r.err == nil, r.err
}

// order has the world's pipeline say which tasks go first.
func (w *world) order(o gantry.Order, err error) {
	w.plan.Order = func(context.Context) (gantry.Order, error) { return o, err }
}

// documents fills the store with media that nothing is to be found out about.
func (w *world) documents(n int) {
	w.leaves(n)
	for i := range w.items[1:] {
		w.items[i+1].Media = gantry.MediaJSON
	}
}

func night(t *testing.T) gantry.Windows {
	t.Helper()
	w, err := gantry.ParseWindows("22:00-06:00 UTC")
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// moved is what a transition does with the priority; -1: it stays.
func moved(tr gantry.Transition) int16 {
	if tr.Priority == nil {
		return -1
	}
	return *tr.Priority
}

// TestOrderOfTransitions: which transitions change a task's priority, and to what.
func TestOrderOfTransitions(t *testing.T) {
	t.Parallel()
	off := night(t)
	says := func(p int16) gantry.Ranking { return &ruling{priority: p} }
	for name, c := range map[string]struct {
		order gantry.Order
		task  gantry.Task
		day   bool
		want  int16
		held  bool
	}{
		"nothing is said":              {gantry.Order{}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, -1, false},
		"urgent by its tags":           {gantry.Order{Ranking: says(1)}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, 1, false},
		"the same by its tags":         {gantry.Order{Ranking: says(5)}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, -1, false},
		"no tags":                      {gantry.Order{Ranking: &ruling{nothing: true}}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, -1, false},
		"a bad expression":             {gantry.Order{Ranking: &ruling{err: gantry.Errorf(gantry.Illegal, "bad_expression", "no")}}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, -1, false},
		"not yet":                      {gantry.Order{Ranking: says(1)}, gantry.Task{State: gantry.Queued, Priority: 5}, true, -1, false},
		"not any more":                 {gantry.Order{Ranking: says(1), FinishFirst: true}, gantry.Task{State: gantry.Inferring, Priority: 5}, true, -1, false},
		"finish first":                 {gantry.Order{FinishFirst: true}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, 4, false},
		"finish first, urgent by tags": {gantry.Order{FinishFirst: true, Ranking: says(1)}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, 0, false},
		"finish first at the top":      {gantry.Order{FinishFirst: true}, gantry.Task{State: gantry.Ingesting, Priority: 0}, true, -1, false},
		"a member":                     {gantry.Order{Ranking: says(3)}, gantry.Task{State: gantry.Ingesting, Priority: 4, Parent: 1}, true, 2, false},
		"off-peak, begun":              {gantry.Order{OffPeak: off}, gantry.Task{State: gantry.Queued, Priority: 8}, false, 7, false},
		"off-peak without windows":     {gantry.Order{}, gantry.Task{State: gantry.Queued, Priority: 8}, true, -1, false},
		"off-peak, begun, finish":      {gantry.Order{OffPeak: off, FinishFirst: true}, gantry.Task{State: gantry.Ingesting, Priority: 7}, true, 6, false},
		"off-peak by tags, by day":     {gantry.Order{OffPeak: off, Ranking: says(8)}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, 8, true},
		"off-peak by tags, by night":   {gantry.Order{OffPeak: off, Ranking: says(8)}, gantry.Task{State: gantry.Ingesting, Priority: 5}, false, 7, false},
		"held, taken up at six":        {gantry.Order{OffPeak: off, Ranking: says(9)}, gantry.Task{State: gantry.Ingesting, Priority: 9}, true, 7, false},
		"begun, then off-peak by tags": {gantry.Order{OffPeak: off, Ranking: says(8)}, gantry.Task{State: gantry.Ingesting, Priority: 7}, true, -1, false},
		"off-peak by tags, no windows": {gantry.Order{Ranking: says(8)}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, 8, false},
		"urgent by tags, by day":       {gantry.Order{OffPeak: off, Ranking: says(1)}, gantry.Task{State: gantry.Ingesting, Priority: 5}, true, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, each("a", gantry.EachTask, gantry.OnErrorFail))
			w.plan.Timeouts.Queued = 12 * time.Hour
			w.documents(1)
			w.order(c.order, nil)
			c.task.Lease, c.task.PublicID = gantry.Lease{Task: 7, Seq: 3}, "id"
			hour := map[bool]int{true: 20, false: 23}[c.day]
			tr := w.stepAt(c.task, time.Date(2026, 11, 26, hour, 0, 0, 0, time.UTC), nil)
			if got := moved(tr); got != c.want {
				t.Errorf("priority %d, want %d: %+v", got, c.want, tr)
			}
			held := tr.Change == gantry.Release && tr.To == gantry.Ingesting && tr.Within == 14*time.Hour
			if held != c.held || !held && tr.Change != gantry.Advance {
				t.Errorf("held %t: %+v", held, tr)
			}
		})
	}
}

// stepAt is stepOf at a time, with a log.
func (w *world) stepAt(task gantry.Task, now time.Time, log *slog.Logger) gantry.Transition {
	w.t.Helper()
	e := New(Options{Store: w, Session: w, Caller: w, Blobs: w.blobs, Plans: w, Rand: func() float64 { return 0.5 }, Scratch: w.t.TempDir(),
		Now: func() time.Time { return now }, Log: log})
	step, end := e.Begin(task)
	defer end()
	return step(w.t.Context(), task)
}

// TestRankingIsTold: the expression gets what the pipeline's when gets, and what it cannot do is said without values.
func TestRankingIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachTask, gantry.OnErrorFail))
	w.documents(3)
	r := &ruling{text: "items.count", err: errors.New("no")}
	w.order(gantry.Order{Ranking: r}, nil)
	var log bytes.Buffer
	tr := w.stepAt(gantry.Task{Lease: gantry.Lease{Task: 7, Seq: 3}, PublicID: "id", State: gantry.Ingesting, Priority: 5}, time.Now(), slog.New(slog.NewTextHandler(&log, nil)))
	if tr.To != gantry.Inferring || tr.Priority != nil || !strings.Contains(log.String(), "task=id") {
		t.Errorf("%+v; the log says %s", tr, log.String())
	}
	object, _ := r.vars["object"].(map[string]any)
	items, _ := r.vars["items"].(map[string]any)
	if items["count"] != 3 || object["source"] != "inbox" || object["media"] != gantry.MediaZIP {
		t.Errorf("it was told %v", r.vars)
	}
}

// TestOrderThatCannotBeRead puts the step off: the task must not go on by rules that nobody knows.
func TestOrderThatCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachTask, gantry.OnErrorFail))
	w.documents(1)
	w.order(gantry.Order{}, gantry.Errorf(gantry.Transient, "", "database away"))
	if tr := w.step(t.Context(), gantry.Ingesting, 0); tr.Change != gantry.Retry {
		t.Errorf("%+v", tr)
	}
}
