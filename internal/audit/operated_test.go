package audit_test

import (
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// key is the key of a task.
func (b *bed) key(id string) gantry.TaskID {
	b.t.Helper()
	return gantry.TaskID(must(b.Task(b.t.Context(), id))(b.t).Key)
}

func (b *bed) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// pause pauses a task and lets it go on.
func (b *bed) pause(id string) {
	b.t.Helper()
	b.check(b.Pause(b.t.Context(), b.key(id), "me", "why"))
	if ok := must(b.Resume(b.t.Context(), b.key(id), "me"))(b.t); !ok {
		b.t.Fatal("not resumed")
	}
}

// operate takes tasks through what operators do: "parted" is moved by its process at its second stage, paused, moved
// by nobody while it is paused, fails, and is moved once more; "again" is done in two stages and goes back to the first.
func (b *bed) operate() {
	b.t.Helper()
	to := gantry.Passage{Pipeline: b.pipeline, Lane: b.lane, Within: time.Hour}
	t := b.move(b.inferring(b.task("parted")), gantry.Advance, gantry.Inferring, 1)
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, To: gantry.Queued, Stage: 1, Change: gantry.Move, Passage: &to}})
	b.pause("parted")
	b.check(b.Pause(b.t.Context(), b.key("parted"), "me", ""))
	b.check(b.Move(b.t.Context(), b.key("parted"), to, "me"))
	if ok := must(b.Resume(b.t.Context(), b.key("parted"), "me"))(b.t); !ok {
		b.t.Fatal("not resumed")
	}
	b.move(b.inferring(b.claim(b.worker)), gantry.End, gantry.Failed, 0)
	if ok := must(b.Reenter(b.t.Context(), b.key("parted"), to, 5, "me"))(b.t); !ok {
		b.t.Fatal("not moved")
	}
	b.move(b.claim(b.worker), gantry.Advance, gantry.Extracting, 0)

	t = b.inferring(b.task("again"))
	b.infer(t)
	for _, s := range []gantry.State{gantry.Inferring, gantry.Responding} {
		t = b.move(t, gantry.Advance, s, 1)
	}
	b.move(t, gantry.End, gantry.Done, 1)
	out := must(b.Redrive(b.t.Context(), postgres.Redrive{Task: b.key("again"), Top: b.key("again"), Calls: []postgres.RedriveCall{{}},
		Statuses: []gantry.PartStatus{gantry.PartOK}, Within: time.Hour, Waiting: time.Hour, Priority: 5, By: "me"}))(b.t)
	if out.Refused != "" || out.Tasks != 1 {
		b.t.Fatalf("redriven %+v", out)
	}
	b.enqueue("stopped")
	b.check(b.Pause(b.t.Context(), b.key("stopped"), "me", ""))
}

// TestOperatedHistoryIsHeldToTheRules finds nothing in a record of what operators did, and each forgery of it.
func TestOperatedHistoryIsHeldToTheRules(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.operate()
	if sum, list := b.verify(postgres.Filter{}); len(list) > 0 || sum.Tasks != 3 {
		t.Fatalf("a sound record: %+v, %+v", sum, list)
	}
	b.keep()
	const parted, again = `task_id = (select id from task where public_id = 'parted') and `, `task_id = (select id from task where public_id = 'again') and `
	for _, f := range []struct{ rule, task, sql string }{
		{audit.RuleLeg, "parted", `update task_event set leg = leg - 1 where ` + parted + `change = 6`},
		{audit.RuleLeg, "parted", `update task_event set change = 0 where ` + parted + `change = 6 and worker > 0`},
		{audit.RuleStep, "parted", `update task_event set to_state = 1 where ` + parted + `change = 7`},
		{audit.RuleSeq, "parted", `delete from task_event where ` + parted + `change = 12`},
		{audit.RuleStage, "parted", `update task_event set stage = 0 where ` + parted + `change = 6 and worker > 0`},
		{audit.RuleWorker, "parted", `update task_event set worker = 1 where ` + parted + `change = 12`},
		{audit.RuleAttempt, "parted", `update task_event set attempt = 1 where ` + parted + `change = 6 and from_state = 6`},
		{audit.RuleFinal, "again", `update task_event set change = 6, to_state = 0 where ` + again + `change = 8`},
		{audit.RuleStage, "again", `update task_event set stage = 2 where ` + again + `change = 8`},
		{audit.RulePause, "stopped", `update task_hot set phase = 0 where id = (select id from task where public_id = 'stopped')`},
	} {
		b.forge(f.sql)
		_, list := b.verify(postgres.Filter{})
		if !slices.ContainsFunc(list, func(v audit.Violation) bool { return v.Rule == f.rule && v.Task == f.task }) {
			t.Errorf("%s of %s is not found after %s:\n%+v", f.rule, f.task, f.sql, list)
		}
		b.restore()
	}
}
