package app_test

import (
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestRoutesInHalves: an object that goes to several pipelines, one of which puts objects together, comes to all of them
// although the database refuses the second after it took the first; and is told of once.
func TestRoutesInHalves(t *testing.T) {
	t.Parallel()
	s := serve(t, scoring)
	env := map[string]string{}
	r := newRig(t, env)
	d := newDepot(t, env, false)
	exec := func(q string) {
		t.Helper()
		if _, err := r.Store.Pool().Exec(t.Context(), q); err != nil {
			t.Error(err)
		}
	}
	shared := r.shared(d.incoming(`{to: sets}, {to: each}`, "match: all, "))
	pipelines := []*gantry.Pipeline{r.branch("sets", s.URL+"/score", "group: {by: prefix, quiet: 1s}"), r.branch("each", s.URL+"/score", "")}
	begun := false
	r.servingRoutes(pipelines, shared, func() bool {
		if !begun && r.number(`select count(*) from worker`) > 0 { // it serves
			begun = true
			exec(`insert into task(id, public_id, pipeline) select nextval(pg_get_serial_sequence('gantry.task', 'id')) + 1, 'in the way', id from pipeline_version where name = 'each'`)
			d.put("in/set/1.png", noise(30, [32]byte{1}))
		}
		return r.number(`select count(*) from task where final_state = 5`) == 2
	})
	if !strings.Contains(r.log.text(), "msg=accept ") {
		t.Error("nothing was refused")
	}
	if n := r.number(`select count(*) from arrival where status = 0 and sequencer is not null`); n != 1 {
		t.Errorf("%d arrivals are known", n)
	}
	if n := r.number(`select told::int from source_channel where source = 'incoming'`); n != 1 {
		t.Errorf("told of %d new objects", n)
	}
}
