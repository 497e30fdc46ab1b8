package audit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// repaired is what operators may do to tasks: "held" and "idle" are paused, resumed and moved, by their process and by
// nobody; "again" is redriven from done to its first stage, and "left" before its part was tried; "idle" is also moved after it
// failed; "still" is paused.
func (b *bed) repaired() {
	b.t.Helper()
	ctx, to := b.t.Context(), gantry.Passage{Pipeline: b.pipeline, Lane: b.lane, Within: time.Hour}
	do := func(err error) {
		b.t.Helper()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	t := b.inferring(b.task("held"))
	t = b.move(t, gantry.Advance, gantry.Inferring, 1)
	do(b.Pause(ctx, t.Task, "me", "why"))
	b.move(t, gantry.Pause, gantry.Inferring, 1)
	must(b.Resume(ctx, t.Task, "me"))(b.t)
	t = b.claim(b.worker)
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, To: gantry.Queued, Stage: 1, Change: gantry.Move, Passage: &to, Code: "c"}})
	t = b.move(b.inferring(b.claim(b.worker)), gantry.Retry, gantry.Inferring, 0)

	b.enqueue("idle")
	id := gantry.TaskID(must(b.Task(ctx, "idle"))(b.t).Key)
	do(b.Pause(ctx, id, "me", ""))
	do(b.Move(ctx, id, to, "me"))
	must(b.Resume(ctx, id, "me"))(b.t)
	do(b.Move(ctx, id, to, "me"))
	t = b.move(b.claim(b.worker), gantry.Advance, gantry.Extracting, 0)
	b.move(t, gantry.End, gantry.Failed, 0)
	must(b.Reenter(ctx, id, to, 5, "me"))(b.t)
	b.claim(b.worker)

	t = b.inferring(b.task("again"))
	b.infer(t)
	t = b.move(t, gantry.Advance, gantry.Inferring, 1)
	t = b.move(t, gantry.Advance, gantry.Responding, 1)
	b.move(t, gantry.End, gantry.Done, 1)
	got := must(b.Redrive(ctx, postgres.Redrive{Task: t.Task, Top: t.Task, Calls: []postgres.RedriveCall{{}}, Statuses: []gantry.PartStatus{gantry.PartOK},
		Within: time.Hour, Priority: 5, By: "me"}))(b.t)
	if got.Refused != "" || got.Tasks != 1 {
		b.t.Fatalf("redrive: %+v", got)
	}
	b.claim(b.worker)

	t = b.inferring(b.task("left")) // a redrive takes the place of a part that was not tried
	part := gantry.Part{PartKey: gantry.PartKey{Ordinal: 3}, DueIn: -1, Count: 1}
	b.commit(b.worker, &gantry.Write{Lease: t.Lease, Plan: []gantry.Part{part}})
	b.move(t, gantry.End, gantry.Failed, 0)
	must(b.Redrive(ctx, postgres.Redrive{Task: t.Task, Top: t.Task, Calls: []postgres.RedriveCall{{}}, Statuses: []gantry.PartStatus{gantry.PartPlanned},
		Within: time.Hour, Priority: 5, By: "me"}))(b.t)
	t = b.claim(b.worker)
	part.Generation, part.Status, part.Attempt = 1, gantry.PartOK, 1
	b.commit(b.worker, &gantry.Write{Lease: t.Lease, Parts: []gantry.Part{part}})
	b.forge(`insert into call_intent select (jsonb_populate_record(i, jsonb_build_object('id', gen_random_uuid(), 'task_id', $1::bigint, 'part', 3, 'generation', 1))).*
		from call_intent i join call_outcome o using (task_id, id) where o.result = 0 and o.error_code is null limit 1`, int64(t.Task))
	b.forge(`insert into call_outcome select (jsonb_populate_record(o, jsonb_build_object('id', (select id from call_intent where task_id = $1), 'task_id', $1::bigint))).*
		from call_outcome o where o.result = 0 and o.error_code is null limit 1`, int64(t.Task))
	b.move(b.move(t, gantry.Advance, gantry.Responding, 0), gantry.End, gantry.Done, 0)

	b.enqueue("still")
	do(b.Pause(ctx, gantry.TaskID(must(b.Task(ctx, "still"))(b.t).Key), "me", ""))
}

// TestRepairsAreHistory holds a record of what operators may do to be sound, and finds what was forged in it.
func TestRepairsAreHistory(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.repaired()
	if sum, list := b.verify(postgres.Filter{}); len(list) > 0 || sum.Tasks != 5 {
		t.Fatalf("a sound record: %+v, %+v", sum, list)
	}
	b.keep()
	for _, f := range []struct{ rule, task, sql string }{
		{audit.RulePause, "held", `update task_event set change = 3 where task_id = (select id from task where public_id = 'held') and change = 7`},
		{audit.RulePause, "still", `update task_hot set phase = 0 where id = (select id from task where public_id = 'still')`},
		{audit.RulePause, "idle", `update task_event set change = 7 where task_id = (select id from task where public_id = 'idle') and change = 12`},
		{audit.RuleWorker, "held", `update task_event set worker = 1, seq = seq where task_id = (select id from task where public_id = 'held') and change = 12`},
		{audit.RuleWorker, "held", `update task_event set worker = 0 where task_id = (select id from task where public_id = 'held') and change = 1`},
		{audit.RuleLeg, "held", `update task_event set leg = 0 where task_id = (select id from task where public_id = 'held') and change = 6`},
		{audit.RuleLeg, "idle", `update task_event set leg = leg + 1 where task_id = (select id from task where public_id = 'idle') and change = 12`},
		{audit.RuleStage, "again", `update task_event set stage = 2 where task_id = (select id from task where public_id = 'again') and change = 8`},
		{audit.RuleFinal, "idle", `update task_event set change = 3 where task_id = (select id from task where public_id = 'idle') and change = 6 and from_state = 6`},
		{audit.RuleStep, "held", `update task_event set to_state = 1 where task_id = (select id from task where public_id = 'held') and change = 6`},
	} {
		b.forge(f.sql)
		if _, list := b.verify(postgres.Filter{}); !slices.ContainsFunc(list, func(v audit.Violation) bool { return v.Rule == f.rule && v.Task == f.task }) {
			t.Errorf("%s of %s is not found after %s:\n%+v", f.rule, f.task, f.sql, list)
		}
		b.restore()
	}
}
