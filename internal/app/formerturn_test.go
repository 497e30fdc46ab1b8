package app_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// A deletion that has the only place among the calls to a bucket gives it up for who takes what was put at its key meanwhile.
func TestDeletionHoldsNothingUp(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, true)
	one := 1
	var once sync.Once
	var listings atomic.Int64
	d.answered = func(a *http.Response) {
		switch q := a.Request; {
		case q.URL.Query().Has("list-type"):
			listings.Add(1)
		case q.Method == http.MethodHead && r.count(`select count(*) from task where final_state = 5`) == 1:
			once.Do(func() { // the deletion has looked, and has the place
				d.put("in/a.png", noise(31, [32]byte{2}))
				for n := listings.Load(); listings.Load() < n+3; time.Sleep(10 * time.Millisecond) { // it is announced, and waits for the place
				}
			})
		}
	}
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "")}
	set := false
	r.servingRoutes(pipelines, r.shared(d.incoming("{to: one}", "after: delete, copy: always, ")), func() bool {
		if !set && listings.Load() > 0 {
			if set, _ = r.Store.SetLimit(t.Context(), d.front+"/inbox", "test", postgres.Setting{Units: &one}); !set {
				t.Error("there is no such limit")
			}
			d.put("in/a.png", noise(30, [32]byte{1}))
		}
		return t.Failed() || set && r.ended(2, 1)
	})
	if got := r.atSource()["delete failed busy"]; got != 1 {
		t.Errorf("the deletion gave its place up %d times", got)
	}
}
