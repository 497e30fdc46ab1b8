package app_test

import (
	"fmt"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// refuse lets the database refuse rows that a condition holds of, until it is mended.
func (r *rig) refuse(table, when string) (mended func()) {
	r.t.Helper()
	r.exec(`create function refuse() returns trigger language plpgsql as $$ begin raise 'refused' using errcode = '57P03'; end $$`)
	r.exec(fmt.Sprintf(`create trigger refuse before insert on %s for each row when (%s) execute function refuse()`, table, when))
	return func() { r.exec(`drop trigger refuse on ` + table) }
}

// TestRoutedHalfway lets an arrival join the collection of one pipeline, and the database refuse its task in another, as if the process
// had died in between: it is not known before all is made, nor done with.
func TestRoutedHalfway(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	in, moved := t.TempDir(), t.TempDir()
	put(t, in, "f/0.png", noise(20, [32]byte{1}))
	put(t, in, "f/1.png", noise(20, [32]byte{2}))
	put(t, in, "f/_done", nil)
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", "group: {by: prefix, quiet: 50ms, marker: _done}"), r.branch("two", s.URL+"/score", "")}
	source := fmt.Sprintf("  shelf: {kind: dir, path: %q, settle: 10ms, match: all, after: move, move_to: %q, routes: [{to: one}, {when: 'object.name == \"0.png\"', to: two}]}\n", in, moved)
	mended := r.refuse("task", "new.arrival is not null")
	r.servingRoutes(pipelines, r.shared(source), func() bool {
		return r.number(`select count(*) from task where collection is not null and final_state = 5`) == 1
	})
	r.servingRoutes(pipelines, r.shared(source), func() bool { return r.number(`select count(*) from aftercare where due is null`) == 2 }) // a member and the marker
	if n := r.number(`select count(*) from aftercare where due is not null`); n != 1 {
		t.Errorf("%d inputs that are not everywhere yet are kept, not 1", n)
	}
	mended()
	r.servingRoutes(pipelines, r.shared(source), func() bool {
		return r.number(`select count(*) from task where arrival is not null and final_state = 5`) == 1 && r.number(`select count(*) from aftercare where due is not null`) == 0
	})
	if n := r.number(`select count(*) from task`); n != 2 {
		t.Errorf("%d tasks", n)
	}
}

// TestRoutedHalfwayTogether does so between two collections, with a member and with the marker.
func TestRoutedHalfwayTogether(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	r := newRig(t, nil)
	in := t.TempDir()
	put(t, in, "f/0.png", noise(20, [32]byte{1}))
	put(t, in, "f/_done", nil)
	const group = "group: {by: prefix, quiet: 50ms, marker: _done}"
	pipelines := []*gantry.Pipeline{r.branch("one", s.URL+"/score", group), r.branch("two", s.URL+"/score", group)}
	source := fmt.Sprintf("  shelf: {kind: dir, path: %q, settle: 10ms, match: all, routes: [{to: one}, {to: two}]}\n", in)
	done := func(n int) func() bool {
		return func() bool { return r.number(`select count(*) from task where final_state = 5`) == n }
	}
	mended := r.refuse("collection", "new.pipeline = 'two'")
	r.servingRoutes(pipelines, r.shared(source), done(1))
	mended()
	r.servingRoutes(pipelines, r.shared(source), done(2))
	r.wantSets("0.png", "0.png")
	if n := r.number(`select count(*) from arrival where sequencer = ''`); n != 0 {
		t.Errorf("%d arrivals are still not known", n)
	}
}
