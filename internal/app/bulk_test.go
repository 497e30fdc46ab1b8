package app_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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

var everyEnd = postgres.Choice{States: []gantry.State{gantry.Done, gantry.Failed, gantry.Cancelled}}

// TestBulkRedrive redrives those of many tasks for which an expression holds, and no other; whoever asks for what cannot be
// evaluated has changed nothing.
func TestBulkRedrive(t *testing.T) {
	t.Parallel()
	const n = 24
	var mended atomic.Bool
	s := serve(t, func(w http.ResponseWriter, _ *http.Request, body []byte, _ int) {
		switch c := digest(body)[0]; {
		case mended.Load() || c >= 'a':
			answerJSON(w, body)
		case c%2 == 0:
			w.WriteHeader(http.StatusUnprocessableEntity)
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	})
	r := newRig(t, nil)
	inbox, _ := r.serving(oneStage(s.URL, "20s"))
	for i := range n {
		drop(t, inbox, fmt.Sprintf("%d.png", i), noise(20, [32]byte{byte(i), 7}))
	}
	count := func(code string) (m int) {
		for _, x := range r.tasks() {
			if x.State == "done" && code == "" || x.State == "failed" && x.Error.Code == code {
				m++
			}
		}
		return m
	}
	r.eventually("the tasks did not end", func() bool { return count("")+count("http_422")+count("http_403") == n })
	sent := len(s.all())
	unfit, denied, done := count("http_422"), count("http_403"), count("")
	if unfit == 0 || denied == 0 || done == 0 {
		t.Fatalf("%d %d %d", unfit, denied, done)
	}
	db := r.operator()
	for where, want := range map[string]int{`error.code == "http_422"`: unfit, `error.kind == "denied" && error.stage == "draw"`: denied, `task.state == "done"`: done,
		`task.age < 3600 && task.ended < 3600 && task.source == "inbox" && task.created > "2020"`: n, `task.priority < 9`: 0, ``: n} {
		list, err := db.Choose(t.Context(), app.Bulk{Choice: everyEnd, Where: where})
		if err != nil || len(list) != want {
			t.Errorf("%s: %d tasks, want %d: %v", where, len(list), want, err)
		}
	}
	if list, err := db.Choose(t.Context(), app.Bulk{Choice: everyEnd, Limit: 5}); err != nil || len(list) != 5 {
		t.Errorf("%d tasks: %v", len(list), err)
	}
	if list, err := db.Choose(t.Context(), app.Bulk{Choice: postgres.Choice{Pipeline: "other", States: everyEnd.States}}); err != nil || len(list) != 0 {
		t.Errorf("%d tasks: %v", len(list), err)
	}
	if _, err := db.Choose(t.Context(), app.Bulk{Choice: everyEnd, Where: `error.kidn == "x"`}); gantry.CodeOf(err) != pipeline.CodeBadExpression {
		t.Errorf("%v", err)
	}
	mended.Store(true)
	list, err := db.Choose(t.Context(), app.Bulk{Choice: everyEnd, Where: `error.code == "http_422"`})
	if err != nil {
		t.Fatal(err)
	}
	var said []app.Verdict
	tell := func(v app.Verdict) error { said = append(said, v); return nil }
	if err := app.Each(t.Context(), list, db.Redriving("tester", app.Selection{Parts: app.PartsFailed}, all.Drivers()), tell); err != nil {
		t.Fatal(err)
	}
	for _, v := range said {
		if v.Result != app.ResultRedriven {
			t.Errorf("%+v", v)
		}
	}
	r.eventually("they are not done", func() bool { return count("") == done+unfit })
	if got := len(s.all()) - sent; got != unfit || count("http_403") != denied || len(said) != unfit {
		t.Errorf("%d calls about %d tasks", got, unfit)
	}
	if err := app.Each(t.Context(), list, db.Retrying("tester", all.Drivers()), tell); err != nil || said[len(said)-1].Result != app.ResultRefused {
		t.Errorf("retry of what is done: %+v, %v", said[len(said)-1], err)
	}
}

// TestEachStops says how far it came when it is stopped or the database fails.
func TestEachStops(t *testing.T) {
	t.Parallel()
	list := make([]postgres.TaskRow, 120)
	ctx, stop := context.WithCancel(t.Context())
	n := 0
	act := func(context.Context, postgres.TaskRow) (app.Verdict, error) {
		if n++; n == 70 {
			stop()
		}
		return app.Verdict{}, nil
	}
	if err := app.Each(ctx, list, act, func(app.Verdict) error { return nil }); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "70 of 120 tasks") {
		t.Errorf("%v", err)
	}
	gone := errors.New("gone")
	err := app.Each(t.Context(), list, func(context.Context, postgres.TaskRow) (app.Verdict, error) { return app.Verdict{}, gone }, nil)
	if !errors.Is(err, gone) || !strings.HasPrefix(err.Error(), "0 of 120 tasks") {
		t.Errorf("%v", err)
	}
}

// TestRedriveSkipped calls what a when left out, and only if it is asked for.
func TestRedriveSkipped(t *testing.T) {
	t.Parallel()
	_, archive := fourPictures(t)
	v := &versioned{}
	s := serve(t, v.serve)
	r := newRig(t, nil)
	inbox, _ := r.serving(head("choosy") + `
stages: [{name: quality, call: qa, when: 'item.index > 1'}, {name: draw, call: a, keep_if: 'stages.quality.qa[0].result.change == nil'}]
processors: {qa: {kind: http, url: "` + s.URL + `/qa"}, a: {kind: http, url: "` + s.URL + `/a"}}
`)
	drop(t, inbox, "x.zip", archive)
	task := r.top("done")
	p := &pass{s: s}
	if got := p.next(); len(got) != 2+4 || got["quality/qa/0/0"] != 0 {
		t.Fatalf("called %v", got)
	}
	r.redrive(app.Selection{Stage: "quality"})
	if diff := cmp.Diff(map[string]int{"quality/qa/2/1": 1, "quality/qa/3/1": 1}, p.next()); diff != "" {
		t.Errorf("called again (-want +got):\n%s", diff)
	}
	r.redrive(app.Selection{Parts: app.PartsSkipped})
	if diff := cmp.Diff(map[string]int{"quality/qa/0/2": 1, "quality/qa/1/2": 1}, p.next()); diff != "" {
		t.Errorf("called of what was left out (-want +got):\n%s", diff)
	}
	if got := r.redrive(app.Selection{Parts: app.PartsSkipped}); got.Result != app.ResultRefused {
		t.Errorf("%+v", got)
	}
	if _, err := os.Stat(filepath.Join(r.out, task.ID, "r2", "quality", "000001.json")); err != nil {
		t.Error(err)
	}
}
