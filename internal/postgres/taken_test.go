package postgres_test

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestTakenBySink gives what ended well of one delivery to one sink, and nothing else.
func TestTakenBySink(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(2)
	tasks := b.claim(b.worker, 2)
	call := func(task gantry.Task, sha byte, result gantry.Result, change func(*gantry.Intent)) {
		in := &gantry.Intent{ID: b.ids.New(), Lease: task.Lease, Boundary: gantry.AtSink, Op: gantry.OpPut, Limiter: b.limiter, Pipeline: b.pipeline,
			Part: gantry.PartKey{Leg: 1, Processor: 2, Generation: 3}, ItemsSHA: gantry.Digest{sha}}
		if change != nil {
			change(in)
		}
		b.commit(b.worker, &gantry.Write{Lease: task.Lease, Intent: in})
		if result < 9 {
			b.commit(b.worker, &gantry.Write{Lease: task.Lease, Outcome: &gantry.Outcome{ID: in.ID, Task: task.Task, Limiter: b.limiter, Result: result, Status: 0xB000}})
		}
	}
	call(tasks[0], 1, gantry.ResultOK, nil)
	call(tasks[0], 1, gantry.ResultOK, nil)
	call(tasks[0], 2, gantry.ResultFailed, nil)
	call(tasks[0], 2, gantry.ResultOK, nil)
	for i, result := range []gantry.Result{gantry.ResultFailed, gantry.ResultNotSent, gantry.ResultFenced, 9} {
		call(tasks[0], byte(10+i), result, nil)
	}
	for i, change := range []func(*gantry.Intent){
		func(x *gantry.Intent) { x.Part.Leg = 0 }, func(x *gantry.Intent) { x.Part.Processor = 1 }, func(x *gantry.Intent) { x.Part.Generation = 4 },
		func(x *gantry.Intent) { x.Op = gantry.OpManifest }, func(x *gantry.Intent) { x.Op = gantry.OpConfirm }, func(x *gantry.Intent) { x.Boundary = gantry.AtProcessor },
	} {
		call(tasks[0], byte(20+i), gantry.ResultOK, change)
	}
	call(tasks[1], 30, gantry.ResultOK, nil)
	got := map[gantry.Digest]bool{}
	for _, d := range must(b.TakenBySink(t.Context(), tasks[0].Task, 1, 3, 2))(t) {
		got[d] = true
	}
	if diff := cmp.Diff(map[gantry.Digest]bool{{1}: true, {2}: true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

var scansCalls = regexp.MustCompile(`Seq Scan on (task|call_\w+|debt)\b`)

// TestTakenPlans holds the look-up, and what is done about debts, to plans that do not grow with what is there.
func TestTakenPlans(t *testing.T) {
	t.Parallel()
	p := newPlans(t, false)
	p.exec(`insert into call_intent(task_id, id, arrival, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
		select n % 2000 + 1, u7floor(now() + n * interval '1 ms'), 0, 1, 1, 1, 0, 0, 1, 2, 2, 0, 0, 0, 0, 1, '' from generate_series(0, 19999) n`)
	p.exec(`insert into call_outcome(task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind, req_sha, resp_sha)
		select task_id, id, 0, 0, 0, 0, 0, 1, 0, 0, 0, '', '' from call_intent`)
	p.exec(`insert into debt(source, peer, name, digest, due) select 'p/in', 'CT', ('x' || n)::bytea, '', case when n < 500 then now() end from generate_series(1, 20000) n`)
	for _, settings := range []bool{true, false} {
		list := postgres.DebtsForTest()
		if settings { // without them months without calls are read whole, which have none
			list["taken"] = postgres.TakenForTest()
		}
		for name, c := range list {
			if plan := p.explain(c[0], c[1:]...); scansCalls.MatchString(plan) {
				t.Errorf("%s, with the scheduler's settings %v, reads a whole table:\n%s", name, settings, plan)
			}
		}
		for _, table := range []string{"call_intent", "call_outcome", "task", "debt"} {
			p.exec(`vacuum analyze ` + table)
		}
		for name := range postgres.Planning {
			p.exec(`reset ` + name)
		}
	}
}
