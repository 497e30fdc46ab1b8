package postgres_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// ended is a task with parts of two stages, each given by its status, that ended from a state.
func (b *bed) ended(from, to gantry.State, stages ...[]gantry.PartStatus) gantry.Task {
	b.t.Helper()
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	b.commit(b.worker, advance(task, from))
	task.Seq++
	task.State = from
	for s, list := range stages {
		for i, x := range list {
			p := gantry.Part{PartKey: gantry.PartKey{Stage: int16(s), Ordinal: int32(i)}, First: gantry.ItemID(i + 1), Count: 1, DueIn: -1}
			b.commit(b.worker, &gantry.Write{Lease: task.Lease, Plan: []gantry.Part{p}})
			if x != gantry.PartPlanned {
				p.Status, p.Attempt, p.Reason = x, 1, "http_500"
				b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{p}})
			}
		}
	}
	b.finish(task, to, int16(max(len(stages)-1, 0)))
	return task
}

func (b *bed) finish(task gantry.Task, to gantry.State, stage int16) {
	b.t.Helper()
	w := end(task, to)
	w.Transition.Stage = stage
	if got := b.commit(b.worker, w); !got[0] {
		b.t.Fatal("the end did not land")
	}
}

// redrive selects of the one processor of two stages.
func (b *bed) redrive(task gantry.Task, statuses ...gantry.PartStatus) postgres.Redriven {
	b.t.Helper()
	return must(b.Redrive(b.t.Context(), postgres.Redrive{Task: task.Task, Top: task.Task, Calls: []postgres.RedriveCall{{Stage: 0}, {Stage: 1}}, Statuses: statuses,
		Within: time.Hour, Waiting: 2 * time.Hour, Priority: 3, By: "tester"}))(b.t)
}

// parts lists the rows of a task as stage/ordinal/generation status reason.
func (b *bed) parts(task gantry.Task) (out []string) {
	b.t.Helper()
	for _, p := range must(b.Parts(b.t.Context(), task.Task, 0))(b.t) {
		out = append(out, fmt.Sprintf("%d/%d/%d %s %s", p.Stage, p.Ordinal, p.Generation, p.Status, p.Reason))
	}
	return out
}

const (
	ok      = gantry.PartOK
	failed  = gantry.PartFailed
	skipped = gantry.PartSkipped
)

// TestRedrivePlansAnew adds rows for what is selected and leaves all others; a part is selected by its newest generation.
func TestRedrivePlansAnew(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.ended(gantry.Responding, gantry.Done, []gantry.PartStatus{ok, failed, skipped}, []gantry.PartStatus{ok, ok})
	got := b.redrive(task, failed)
	if diff := cmp.Diff(postgres.Redriven{Generation: 1, Calls: []postgres.RedriveCall{{Parts: 1}}, Tasks: 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := []string{"0/0/0 ok http_500", "0/1/0 failed http_500", "0/1/1 planned redriven", "0/2/0 skipped http_500", "1/0/0 ok http_500", "1/1/0 ok http_500"}
	if diff := cmp.Diff(want, b.parts(task)); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	if again := b.redrive(task, failed); again.Refused != "it has not ended" {
		t.Errorf("%+v", again)
	}
	task = b.claim(b.worker, 1)[0]
	if task.State != gantry.Inferring || task.Stage != 0 || task.Priority != 3 || task.Delivery != 0 || task.Remaining < 59*time.Minute {
		t.Errorf("claimed %+v", task)
	}
	events := must(b.Events(t.Context(), int64(task.Task)))(t)
	if last := events[len(events)-1]; last.From != "done" || last.To != "inferring" || last.Change != "reopened" || last.Detail != "redrive 1 of 1 parts by tester" {
		t.Errorf("on record as %+v", last)
	}
	b.finish(task, gantry.Failed, 0)
	if got := b.redrive(task, failed); got.Refused != "it has no such part" {
		t.Errorf("what failed was planned anew, and counts no more: %+v", got)
	}
	if got := b.redrive(task, gantry.PartPlanned, ok, failed, gantry.PartOut); got.Generation != 2 || len(got.Calls) != 2 || got.Calls[0].Parts != 2 || got.Calls[1].Parts != 2 {
		t.Errorf("%+v", got)
	}
	b.exec(`update part set status = 3, reason = 'no_group' where generation = 2 and stage = 1`)
	task = b.claim(b.worker, 1)[0]
	b.finish(task, gantry.Failed, 0)
	if got := b.redrive(task, skipped); got.Generation != 3 || len(got.Calls) != 1 || got.Calls[0].Parts != 1 {
		t.Errorf("what nothing is left for is not selected: %+v", got)
	}
	if n := b.count(`select count(*) from part where generation = 3 and reason is null and status = 0`); n != 1 {
		t.Errorf("%d parts are called whatever a when says", n)
	}
}

// TestRedriveDeliversAnew raises the delivery if anything may lie at a sink under the one before, and only then.
func TestRedriveDeliversAnew(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	call := func(task gantry.Task, how gantry.Result) {
		in := &gantry.Intent{ID: b.ids.New(), Lease: task.Lease, Boundary: gantry.AtSink, Op: gantry.OpPut, Limiter: b.limiter, Pipeline: b.pipeline,
			Part: gantry.PartKey{Generation: task.Delivery}}
		b.commit(b.worker, &gantry.Write{Intent: in})
		b.commit(b.worker, &gantry.Write{Lease: task.Lease, Outcome: &gantry.Outcome{ID: in.ID, Task: task.Task, Limiter: b.limiter, Result: how}})
	}
	task := b.ended(gantry.Inferring, gantry.Failed, []gantry.PartStatus{failed})
	for i, c := range []struct {
		call  bool
		how   gantry.Result
		raise int16
	}{{false, 0, 0}, {true, gantry.ResultNotSent, 0}, {true, gantry.ResultFailed, 1}, {false, 0, 1}, {true, gantry.ResultOK, 2}, {false, 0, 2}} {
		got := b.redrive(task, gantry.PartPlanned, failed)
		if got.Refused != "" {
			t.Fatalf("%d: %+v", i, got)
		}
		task = b.claim(b.worker, 1)[0]
		if c.call {
			call(task, c.how)
		}
		b.finish(task, gantry.Failed, 0)
		b.redrive(task, gantry.PartPlanned)
		task = b.claim(b.worker, 1)[0]
		if task.Delivery != c.raise {
			t.Errorf("%d: delivers under %d, want %d", i, task.Delivery, c.raise)
		}
		b.finish(task, gantry.Failed, 0)
	}
}

// TestRedriveRefuses changes nothing where it cannot do all.
func TestRedriveRefuses(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.ended(gantry.Inferring, gantry.Failed, []gantry.PartStatus{failed})
	b.exec(`update lane set source = 'gone'`)
	if got := b.redrive(task, failed); got.Refused != "its source is not served any more" {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff([]string{"0/0/0 failed http_500"}, b.parts(task)); diff != "" || b.count(`select count(*) from task_hot`) != 0 {
		t.Errorf("it was changed: %s", diff)
	}
	if must(b.Reopen(t.Context(), task.Task, gantry.Timeouts{}, 2, ""))(t) {
		t.Error("it was reopened")
	}
	b.exec(`update lane set source = 'in'`)
	if err := b.Cancel(t.Context(), task.Task, "late"); err != nil {
		t.Fatal(err)
	}
	b.exec(`insert into command(task_id, verb, by) values ($1, 'cancel', 'in the last moment')`, int64(task.Task))
	if got := b.redrive(task, failed); got.Refused != "" {
		t.Errorf("%+v", got)
	}
	must(b.Obey(t.Context(), b.worker))(t)
	if got := b.claim(b.worker, 1); len(got) != 1 {
		t.Error("a command that came too late ended what was redriven")
	}
}

// TestRedriveWakesTheFamily puts back a shard with a selected part, its task, and a shard that did not end well, and
// no other; the task waits for both at the first stage of any.
func TestRedriveWakesTheFamily(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	parent := b.divided(4)
	shards := b.claimShards(b.worker, 4)
	part := gantry.Part{PartKey: gantry.PartKey{Stage: 1}, First: 1, Count: 1, DueIn: -1}
	for _, s := range shards {
		p := part
		b.commit(b.worker, &gantry.Write{Lease: s.Lease, Plan: []gantry.Part{p}})
		if p.Status, p.Attempt = ok, 1; s.Ordinal == 1 {
			p.Status = failed
		}
		b.commit(b.worker, &gantry.Write{Lease: s.Lease, Parts: []gantry.Part{p}})
	}
	b.commit(b.worker, end(shards[0], gantry.Done), end(shards[1], gantry.Done), end(shards[2], gantry.Done), end(shards[3], gantry.Failed))
	b.finish(b.claim(b.worker, 1)[0], gantry.Failed, 0)
	got := b.redrive(parent, failed)
	if diff := cmp.Diff(postgres.Redriven{Generation: 1, Calls: []postgres.RedriveCall{{Stage: 1, Parts: 1}}, Tasks: 3}, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Waiting || n != 2 {
		t.Errorf("the parent is %s with %d children open", p, n)
	}
	again := b.claim(b.worker, 9)
	if len(again) != 2 || again[0].Task != shards[1].Task || again[0].Stage != 1 || again[1].Task != shards[3].Task || again[1].Stage != 0 || again[0].Priority != 2 {
		t.Fatalf("claimed %+v", again)
	}
	b.commit(b.worker, end(again[0], gantry.Done), end(again[1], gantry.Done))
	if top := b.claim(b.worker, 9); len(top) != 1 || top[0].Task != parent.Task || top[0].State != gantry.Inferring || top[0].Stage != 0 || top[0].Remaining < 119*time.Minute {
		t.Errorf("then it claimed %+v", top)
	}
}

// TestReopenAfterRedrive tries again what failed: under the newest generation, whatever it failed in, and not what a redrive
// took the place of.
func TestReopenAfterRedrive(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.ended(gantry.Inferring, gantry.Failed, []gantry.PartStatus{failed, failed, ok})
	b.exec(`update part set processor = 1 where ordinal = 1`)
	b.redrive(task, failed) // of processor 0 alone
	task = b.claim(b.worker, 1)[0]
	p := gantry.Part{PartKey: gantry.PartKey{Generation: 1}, First: 1, Count: 1, Status: failed, Attempt: 2, DueIn: -1, Reason: "http_503"}
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{p}})
	b.finish(task, gantry.Failed, 0)
	if !must(b.Reopen(t.Context(), task.Task, gantry.Timeouts{Inferring: time.Hour}, 2, "by tester"))(t) {
		t.Fatal("not reopened")
	}
	want := []string{"0/0/0 failed http_500", "0/0/1 planned ", "0/2/0 ok http_500", "0/1/0 failed http_500", "0/1/1 planned "}
	if diff := cmp.Diff(want, b.parts(task)); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

// TestPlanKeepsWhatIsSkipped makes it durable that a when left a part out: another process must not call it.
func TestPlanKeepsWhatIsSkipped(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Plan: []gantry.Part{{Status: skipped, First: 1, Count: 1}, {PartKey: gantry.PartKey{Ordinal: 1}, First: 2, Count: 1}}})
	if diff := cmp.Diff([]string{"0/0/0 skipped ", "0/1/0 planned "}, b.parts(task)); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

var scansAny = regexp.MustCompile(`Seq Scan on (task|task_hot|item|part|call_|arrival|command)`)

// TestRedrivePlans holds the statements that put tasks back to plans that do not grow with the tables.
func TestRedrivePlans(t *testing.T) {
	t.Parallel()
	p := newPlans(t, true)
	p.exec(`insert into part(task_id, ordinal, leg, stage, processor, first, count, status) select n / 10 + 1, n % 10, 0, 0, 0, n, 1, 2 + n % 3 from generate_series(0, 99999) n`)
	p.exec(`insert into arrival(id, source, ref_mac, version, size) overriding system value select n, 'p/in', int8send(n), '', 1 from generate_series(1, 20000) n`)
	p.exec(`insert into command(task_id, verb, by) select n, 'cancel', '' from generate_series(1, 20000) n`)
	p.exec(`update task set arrival = id, parent = case when id between 5 and 40 then 1 end, final_state = 6, finished_at = now()`)
	p.exec(`insert into task_event(task_id, worker, seq, from_state, to_state, attempt, change) select n, 1, 3, 3, 6, 0, 4 from generate_series(1, 2000) n`)
	ids, smalls, one := "array[1,5,6]::bigint[]", "array[0,0,0]::smallint[]", "array[0]::smallint[]"
	args := map[string][]string{
		"kin":   {"1"},
		"count": {ids, one, one, "array[4]::smallint[]"},
		"again": {ids, one, one, "array[4]::smallint[]", "1"},
		"retry": {ids, smalls, "1"},
		"back":  {"array[1501,1505,1506]::bigint[]", smalls, smalls, "array[0,0,0]::int[]", "array[1,1,1]::bigint[]", smalls, "array[true,true,true]::bool[]", "''"},
	}
	p.exec(`delete from task_hot where id > 1500`)
	p.exec(`analyze`)
	for name, sql := range postgres.RedriveForTest() {
		if plan := p.explain(sql, args[name]...); scansAny.MatchString(plan) {
			t.Errorf("%s reads a whole table:\n%s", name, plan)
		}
	}
}
