package audit_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// bed is a store with one pipeline and a process, and a way past the guards of the database.
type bed struct {
	*postgres.Store
	t                       testing.TB
	dsn                     string
	root                    *pgx.Conn // of forge
	pipeline, lane, limiter int32
	worker                  gantry.WorkerID
	ids                     *gantry.IDs
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{t: t, dsn: postgrestest.DSN(t), ids: gantry.NewIDs(time.Now, rand.Reader)}
	b.Store = must(postgres.Open(t.Context(), b.dsn))(t)
	t.Cleanup(b.Store.Close)
	b.pipeline = must(b.EnsurePipeline(t.Context(), &gantry.Pipeline{Name: "p", Version: gantry.Digest{1}, Resolved: []byte(`{}`)}))(t)
	b.limiter = must(b.EnsureLimiter(t.Context(), "http://a", gantry.LimiterSpec{MaxUnits: 2, Rate: 4, Burst: 2, Hold: time.Minute}, true))(t)
	b.lane = must(b.EnsureLane(t.Context(), "p", "in", must(b.EnsureLimiter(t.Context(), "pipeline:p", gantry.LimiterSpec{MaxUnits: -1}, true))(t), 0))(t)
	b.worker = b.register(time.Hour)
	return b
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (b *bed) register(ttl time.Duration) gantry.WorkerID {
	b.t.Helper()
	return must(b.Register(b.t.Context(), "host", 1, ttl))(b.t)
}

// forge changes rows as whoever owns the server can, without the triggers that guard the record.
func (b *bed) forge(q string, args ...any) {
	b.t.Helper()
	if b.root == nil {
		b.root = must(pgx.Connect(b.t.Context(), b.dsn))(b.t)
		b.t.Cleanup(func() { b.root.Close(context.WithoutCancel(b.t.Context())) })
		must(b.root.Exec(b.t.Context(), `set session_replication_role = replica; set search_path = gantry`))(b.t)
	}
	if n := must(b.root.Exec(b.t.Context(), q, args...))(b.t).RowsAffected(); n == 0 && q != "analyze" {
		b.t.Fatalf("forged nothing: %s", q)
	}
}

// forged are the tables that forgeries change.
var forged = []string{"task", "task_hot", "task_event", "part", "item", "call_intent", "call_outcome"}

// keep copies what restore puts back.
func (b *bed) keep() {
	b.t.Helper()
	for _, name := range forged {
		b.forge(fmt.Sprintf("create table kept_%[1]s as table %[1]s", name))
	}
}

func (b *bed) restore() {
	b.t.Helper()
	for _, name := range forged {
		b.forge(fmt.Sprintf("delete from %[1]s", name))
		b.forge(fmt.Sprintf("insert into %[1]s overriding system value select * from kept_%[1]s", name))
	}
}

// task enqueues one and claims it.
func (b *bed) task(name string) gantry.Task {
	b.t.Helper()
	b.enqueue(name)
	return b.claim(b.worker)
}

func (b *bed) enqueue(name string) {
	b.t.Helper()
	id := must(b.ArrivalIDs(b.t.Context(), 1))(b.t)[0]
	must(b.Enqueue(b.t.Context(), []gantry.Admission{{Arrival: gantry.Arrival{ID: id, Source: "p/in", RefMAC: gantry.MAC(nil, name), Version: "v", Size: 3},
		PublicID: name, Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}}))(b.t)
}

func (b *bed) claim(w gantry.WorkerID) gantry.Task {
	b.t.Helper()
	got := must(b.Claim(b.t.Context(), w, []gantry.Want{{Lane: b.lane, N: 1}}))(b.t)
	if len(got) != 1 {
		b.t.Fatalf("claimed %d tasks", len(got))
	}
	return got[0]
}

func (b *bed) commit(w gantry.WorkerID, x ...*gantry.Write) {
	b.t.Helper()
	if got := must(b.Commit(b.t.Context(), w, x))(b.t); slices.Contains(got, false) {
		b.t.Fatalf("landed %v", got)
	}
}

// move commits a transition and gives the task after it.
func (b *bed) move(t gantry.Task, c gantry.Change, to gantry.State, stage int16) gantry.Task {
	b.t.Helper()
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, To: to, Stage: stage, Change: c, Code: "c"}})
	t.Seq, t.State, t.Stage = t.Seq+1, to, stage
	return t
}

// promote makes what is delayed ready.
func (b *bed) promote() {
	b.t.Helper()
	if _, _, err := b.Promote(b.t.Context(), 9); err != nil {
		b.t.Fatal(err)
	}
}

// inferring takes a claimed task to its first stage.
func (b *bed) inferring(t gantry.Task) gantry.Task {
	b.t.Helper()
	for _, s := range []gantry.State{gantry.Extracting, gantry.Ingesting, gantry.Inferring} {
		t = b.move(t, gantry.Advance, s, 0)
	}
	return t
}

// call records a call for a part, and what comes of it.
func (b *bed) call(t gantry.Task, p gantry.Part, out gantry.Outcome) {
	b.t.Helper()
	in := &gantry.Intent{ID: b.ids.New(), Lease: t.Lease, Boundary: gantry.AtProcessor, Op: gantry.OpProcess, Limiter: b.limiter, Pipeline: b.pipeline, Part: p.PartKey, Try: 1}
	b.commit(b.worker, &gantry.Write{Intent: in})
	out.ID, out.Task, out.Limiter = in.ID, t.Task, b.limiter
	w := &gantry.Write{Lease: t.Lease, Outcome: &out, Parts: []gantry.Part{p}}
	if p.Status == gantry.PartOK {
		w.Items = []gantry.Item{{ID: gantry.ItemID(10 + p.Ordinal), Part: p.Ordinal, Stage: p.Stage, Size: 1, Body: []byte("x")}}
	}
	b.commit(b.worker, w)
}

// infer plans two parts and answers them: the second after a failure, and an answer that could not be kept.
func (b *bed) infer(t gantry.Task) {
	b.t.Helper()
	var parts []gantry.Part
	for i := range int32(2) {
		parts = append(parts, gantry.Part{PartKey: gantry.PartKey{Stage: t.Stage, Ordinal: i}, DueIn: -1, Count: 1})
	}
	b.commit(b.worker, &gantry.Write{Lease: t.Lease, Plan: parts, Items: []gantry.Item{{ID: 0, Stage: gantry.OriginalStage, Parent: gantry.NoItem}}})
	b.call(t, parts[1], gantry.Outcome{Result: gantry.ResultFailed, Code: "timeout"})
	b.call(t, parts[1], gantry.Outcome{Result: gantry.ResultOK, Code: "disk_full"})
	for _, p := range parts {
		p.Status, p.Attempt = gantry.PartOK, 1
		b.call(t, p, gantry.Outcome{Result: gantry.ResultOK})
	}
}

// whole is every kind of history that a task may have. Task "full" is done in two stages.
func (b *bed) whole() {
	b.t.Helper()
	t := b.inferring(b.task("full"))
	b.infer(t)
	t = b.move(t, gantry.Advance, gantry.Inferring, 1)
	t = b.move(t, gantry.Advance, gantry.Responding, 1)
	b.move(t, gantry.End, gantry.Done, 1)

	t = b.move(b.task("tried"), gantry.Advance, gantry.Extracting, 0)
	for _, c := range []gantry.Change{gantry.Retry, gantry.Park, gantry.Retry, gantry.Release} {
		b.move(t, c, gantry.Extracting, 0)
		b.promote()
		t = b.claim(b.worker)
	}
	t = b.move(t, gantry.End, gantry.Failed, 0)
	if ok := must(b.Reopen(b.t.Context(), t.Task, gantry.Timeouts{Extracting: time.Hour}, 5, "by me"))(b.t); !ok {
		b.t.Fatal("not reopened")
	}
	b.move(b.claim(b.worker), gantry.Advance, gantry.Ingesting, 0)

	dead := b.register(time.Hour) // it dies holding a task that it moved, and one that it did not
	b.enqueue("moved")
	t = b.claim(dead)
	b.commit(dead, &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: gantry.Queued, To: gantry.Extracting}})
	b.enqueue("claimed")
	b.claim(dead)
	b.forge(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(dead))
	must(b.Reap(b.t.Context()))(b.t)
	b.claim(b.worker)

	t = b.inferring(b.claim(b.worker)) // "claimed", or "moved": one of them is divided
	b.divide(t)

	b.enqueue("idle")
	id := must(b.Task(b.t.Context(), "idle"))(b.t)
	if err := b.Cancel(b.t.Context(), gantry.TaskID(id.Key), "me"); err != nil {
		b.t.Fatal(err)
	}
	b.enqueue("waiting")
}

// divide makes three shards, of which one ends and one runs.
func (b *bed) divide(t gantry.Task) {
	b.t.Helper()
	d := &gantry.Division{Role: gantry.Shard, State: gantry.Inferring}
	for i := range 3 {
		d.Children = append(d.Children, gantry.Child{PublicID: fmt.Sprintf("shard-%d", i), Members: []gantry.Span{{First: 1, End: 2}}})
	}
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, To: t.State, Stage: t.Stage, Change: gantry.Wait, Divide: d}})
	s := b.claim(b.worker)
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: s.Lease, From: s.State, To: gantry.Failed, Change: gantry.End, Parent: s.Parent, Code: "c"}})
	b.claim(b.worker)
}

func (b *bed) verify(f postgres.Filter) (audit.Summary, []audit.Violation) {
	b.t.Helper()
	var list []audit.Violation
	sum, err := audit.History(b.t.Context(), b.Store, f, func(v audit.Violation) error { list = append(list, v); return nil })
	if err != nil || sum.Violations != int64(len(list)) {
		b.t.Fatalf("%+v: %v", sum, err)
	}
	return sum, list
}

// forgeries are changes of the record of bed.whole, each with the rule that has to find it.
var forgeries = []struct {
	rule, task, sql string
}{
	{audit.RuleBegin, "full", `update task_event set from_state = 1, to_state = 2 where task_id = (select id from task where public_id = 'full') and seq = 2`},
	{audit.RuleBegin, "shard-0", `update task_event set from_state = 0 where task_id = (select id from task where public_id = 'shard-0')`},
	{audit.RuleFrom, "full", `update task_event set from_state = 1 where task_id = (select id from task where public_id = 'full') and seq = 4`},
	{audit.RuleFrom, "full", `delete from task_event where task_id = (select id from task where public_id = 'full') and seq = 4`},
	{audit.RuleStep, "full", `update task_event set to_state = 4 where task_id = (select id from task where public_id = 'full') and seq = 3`},
	{audit.RuleStep, "tried", `update task_event set change = 3, from_state = 1, to_state = 2 where task_id = (select id from task where public_id = 'tried') and change = 3`},
	{audit.RuleStep, "tried", `update task_event set change = 33 where task_id = (select id from task where public_id = 'tried') and change = 3`},
	{audit.RuleStep, "full", `update task_event set change = 0 where task_id = (select id from task where public_id = 'full') and change = 4`},
	{audit.RuleSeq, "full", `delete from task_event where task_id = (select id from task where public_id = 'full') and seq = 2`},
	{audit.RuleSeq, "full", `update task_event set seq = 9 where task_id = (select id from task where public_id = 'full') and change = 4`},
	{audit.RuleSeq, "tried", `delete from task_event where task_id = (select id from task where public_id = 'tried') and change = 2`},
	{audit.RuleSeq, "idle", `update task_event set worker = 1 where task_id = (select id from task where public_id = 'idle')`},
	{audit.RuleWorker, "full", `update task_event set worker = worker + 1 where task_id = (select id from task where public_id = 'full') and seq = 4`},
	{audit.RuleWorker, "full", `update task_event set worker = 0 where task_id = (select id from task where public_id = 'full') and seq = 4`},
	{audit.RuleStage, "full", `update task_event set stage = 0 where task_id = (select id from task where public_id = 'full') and from_state = 3 and to_state = 3`},
	{audit.RuleAttempt, "tried", `update task_event set attempt = 2 where task_id = (select id from task where public_id = 'tried') and change = 1 and attempt = 1`},
	{audit.RuleLeg, "full", `update task_event set leg = 1 where task_id = (select id from task where public_id = 'full') and seq = 5`},
	{audit.RulePause, "tried", `update task_event set change = 12, worker = 0 where task_id = (select id from task where public_id = 'tried') and change = 3`},
	{audit.RuleFinal, "full", `insert into task_event(task_id, seq, worker, from_state, to_state, stage, attempt, change)
		select task_id, seq + 1, worker, 5, 5, 1, 0, 3 from task_event where task_id = (select id from task where public_id = 'full') and change = 4`},
	{audit.RuleEnd, "full", `update task set final_state = 6 where public_id = 'full'`},
	{audit.RuleEnd, "full", `update task set final_state = null, finished_at = null where public_id = 'full'`},
	{audit.RuleEnd, "full", `insert into task_hot(id, lane, seq) select id, 1, 9 from task where public_id = 'full'`},
	{audit.RuleEnd, "full", `delete from task_event where task_id = (select id from task where public_id = 'full') and change = 4`},
	{audit.RuleStand, "tried", `update task_hot set state = 4 where id = (select id from task where public_id = 'tried')`},
	{audit.RuleStand, "tried", `update task_hot set seq = seq + 1 where id = (select id from task where public_id = 'tried')`},
	{audit.RuleStand, "tried", `update task_hot set phase = 0, owner = null where id = (select id from task where public_id = 'tried')`},
	{audit.RuleStand, "moved|claimed", `update task set final_state = 5, finished_at = now() where public_id like 'shard-%'`},
	{audit.RuleLost, "waiting", `delete from task_hot where id = (select id from task where public_id = 'waiting')`},
	{postgres.OddTwice, "full", `with i as (insert into call_intent select (jsonb_populate_record(i, jsonb_build_object('id', gen_random_uuid()))).* from call_intent i
		join call_outcome o using (task_id, id) where o.result = 0 and o.error_code is null limit 1 returning *)
		insert into call_outcome select (jsonb_populate_record(o, jsonb_build_object('id', (select id from i)))).* from call_outcome o where result = 0 and error_code is null limit 1`},
	{postgres.OddLost, "full", `delete from part where status = 2 and ordinal = 0`},
	{postgres.OddNoAnswer, "full", `update call_outcome set result = 3 where result = 0 and error_code is null`},
	{postgres.OddOpen, "full", `update part set status = 0 where ordinal = 1`},
	{postgres.OddItem, "full", `update item set part = 7 where stage = 0 and part = 1`},
	{postgres.OddItems, "full", `insert into item select (jsonb_populate_record(i, '{"id": 99}')).* from item i where stage = 0 and part = 1`},
	{postgres.OddOutcome, "full", `delete from call_intent where id = (select id from call_outcome where result = 1)`},
	{postgres.OddTask, "#", `delete from task where public_id = 'full'`},
}

// TestForgedHistoryIsFound forges one thing at a time in a record that is sound, and wants the rule that it
// breaks named, with the task.
func TestForgedHistoryIsFound(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.whole()
	sum, list := b.verify(postgres.Filter{})
	if len(list) > 0 || sum.Tasks != 9 || sum.Events != 23 {
		t.Fatalf("a sound record: %+v, %+v", sum, list)
	}
	b.keep()
	covered := map[string]bool{}
	for _, f := range forgeries {
		covered[f.rule] = true
		b.forge(f.sql)
		_, list := b.verify(postgres.Filter{})
		if !slices.ContainsFunc(list, func(v audit.Violation) bool {
			return v.Rule == f.rule && (slices.Contains(strings.Split(f.task, "|"), v.Task) || f.task == "#" && v.Task[0] == '#')
		}) {
			t.Errorf("%s of %s is not found after %s:\n%+v", f.rule, f.task, f.sql, list)
		}
		b.restore()
	}
	if _, list := b.verify(postgres.Filter{}); len(list) > 0 {
		t.Errorf("the record was not restored: %+v", list)
	}
	for _, r := range audit.Rules() {
		if !covered[r] {
			t.Errorf("no forgery is to be found by %s", r)
		}
	}
}

// TestHistoryIsSelected looks at the tasks of a pipeline, and at those of the last time.
func TestHistoryIsSelected(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.whole()
	b.forge(`update task set final_state = 6, created_at = now() - interval '2 h' where public_id = 'full'`)
	for _, c := range []struct {
		filter postgres.Filter
		tasks  int64
		found  int
	}{
		{postgres.Filter{}, 9, 1}, {postgres.Filter{Pipeline: "p"}, 9, 1}, {postgres.Filter{Pipeline: "q"}, 0, 0},
		{postgres.Filter{Since: time.Now().Add(-time.Hour)}, 8, 0}, {postgres.Filter{Since: time.Now().Add(time.Hour)}, 0, 0},
	} {
		sum, list := b.verify(c.filter)
		if sum.Tasks != c.tasks || len(list) != c.found {
			t.Errorf("%+v: %d tasks, %+v", c.filter, sum.Tasks, list)
		}
	}
}
