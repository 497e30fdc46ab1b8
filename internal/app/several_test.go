package app_test

import (
	"fmt"
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
	pipelines := []*gantry.Pipeline{r.branch("sets", s.URL+"/score", "group: {by: prefix, quiet: 50ms}"), r.branch("each", s.URL+"/score", "")}
	step, id := 0, 0
	r.servingRoutes(pipelines, shared, func() bool {
		switch {
		case step == 0 && r.number(`select count(*) from source_state`) > 0: // it serves
			id = r.number(`select id from pipeline_version where name = 'each'`)
			exec(`delete from pipeline_version where name = 'each'`) // no task can refer to it
			d.put("in/set/1.png", noise(30, [32]byte{1}))
			step++
		case step == 1 && r.number(`select count(*) from collection_member`) == 1 && r.number(`select count(*) from task`) == 1:
			exec(fmt.Sprintf(`insert into pipeline_version(id, name, version, resolved) overriding system value values (%d, 'each', '\x%x', '%s')`,
				id, pipelines[1].Version[:], strings.ReplaceAll(string(pipelines[1].Resolved), `'`, `''`)))
			step++
		}
		return step == 2 && r.number(`select count(*) from task where final_state = 5`) == 2
	})
	if n := r.number(`select count(*) from arrival where status = 0 and sequencer is not null`); n != 1 {
		t.Errorf("%d arrivals are known", n)
	}
	if n := r.number(`select told::int from source_channel where source = 'incoming'`); n != 1 {
		t.Errorf("told of %d new objects", n)
	}
}
