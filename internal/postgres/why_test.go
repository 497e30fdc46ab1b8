package postgres_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

func (b *bed) facts(task gantry.TaskID, keys ...string) postgres.Facts {
	b.t.Helper()
	return must(b.Facts(b.t.Context(), task, keys))(b.t)
}

// TestFactsOfAReadyTask counts what goes before it in its lane, and no task of another lane.
func TestFactsOfAReadyTask(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(6)
	other := must(b.EnsureLane(t.Context(), "p", "other", b.limiter, 0))(t)
	b.exec(`update task_hot set lane = $1 where id = 1`, other)
	b.exec(`update task_hot set priority = 1 where id = 6`)
	b.exec(`update task_hot set priority = 8 where id = 5`)
	b.exec(`update task_hot set phase = 2, run_at = now() + interval '1 h' where id = 2`)
	for id, want := range map[gantry.TaskID]postgres.FactAhead{1: {}, 2: {}, 3: {All: 1, Urgent: 1}, 4: {All: 2, Urgent: 1}, 5: {All: 3, Urgent: 3}, 6: {}} {
		if got := b.facts(id).Ahead; got != want {
			t.Errorf("%+v are before task %d, want %+v", got, id, want)
		}
	}
	f := b.facts(4)
	if f.State != gantry.Queued || f.Phase != gantry.Ready || f.Rank != 5 || f.Lane != (postgres.FactLane{Pipeline: "p", Source: "in", Limiter: b.limiter}) ||
		f.Owner != 0 || f.Ended != nil || f.Pause != nil || f.Due != nil || f.Until == nil || f.Last.Change != -1 || time.Since(f.Now).Abs() > time.Minute {
		t.Errorf("%+v", f)
	}
	if _, err := b.Facts(t.Context(), 99, nil); gantry.CodeOf(err) != postgres.CodeNoTask || gantry.KindOf(err) != gantry.NotFound {
		t.Errorf("of no task: %v", err)
	}
}

// TestFactsOfProcesses tells those that work alone, from a lane of their own, and not any more, from the others.
func TestFactsOfProcesses(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(3)
	runner, dead := b.register(time.Hour), b.register(-time.Second)
	private := must(b.EnsureLane(t.Context(), "p", "run", b.limiter, runner))(t)
	b.exec(`update task_hot set lane = $1 where id = 3`, private)
	b.exec(`update task_hot set crashes = 2 where id = 2`)
	b.claim(b.worker, 2)
	if got := b.facts(3).Lane; got.Private != int64(runner) || got.Source != "run" {
		t.Errorf("lane %+v", got)
	}
	if err := b.SetPlaces(t.Context(), b.worker, 7); err != nil {
		t.Fatal(err)
	}
	f := b.facts(2)
	want := []postgres.Process{
		{ID: int64(b.worker), Host: "host", PID: 1, Tasks: 2, Places: 7, Alone: true},
		{ID: int64(runner), Host: "host", PID: 1, Private: true},
		{ID: int64(dead), Host: "host", PID: 1},
	}
	if diff := cmp.Diff(want, f.Processes, cmpopts.IgnoreTypes(time.Time{})); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	if !f.Processes[0].ExpiresAt.After(f.Now) || f.Processes[2].ExpiresAt.After(f.Now) || f.Owner != int64(b.worker) || !f.Aside || f.Deaths != 2 {
		t.Errorf("%+v", f)
	}
}

// TestFactsOfParts counts the newest generation of the stage's parts alone, and finds the first that is due, what is
// out, and calls without an outcome.
func TestFactsOfParts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	target := b.target(gantry.LimiterSpec{MaxUnits: 2, Rate: 1, Burst: 1})
	b.claim(b.worker, 1)
	b.exec(`update task_hot set state = 3, stage = 1`)
	part := `insert into part (task_id, ordinal, leg, stage, processor, generation, status, attempt, asked, first, count, due, out_until, out_limiter, ticket, reason)
		values (1, $1, $2, $3, $4, $5, $6, $7, $8, 0, 1, now() + $9 * interval '1 s', now() + $10 * interval '1 s', $11, $12, $13)`
	for _, x := range [][]any{
		{0, 0, 1, 0, 0, 4, 3, 0, nil, nil, nil, nil, "http_500"}, // failed, and planned again
		{0, 0, 1, 0, 1, 0, 0, 0, nil, nil, nil, nil, "redriven"},
		{1, 0, 1, 0, 0, 2, 1, 0, nil, nil, nil, nil, nil},
		{2, 0, 1, 0, 0, 0, 2, 1, 600, nil, nil, nil, "http_503"},
		{3, 0, 1, 0, 0, 0, 1, 0, 300, nil, nil, nil, "timeout"},
		{4, 0, 1, 0, 0, 0, 1, 0, -5, nil, nil, nil, "http_502"}, // due already
		{0, 0, 1, 1, 0, 3, 0, 0, nil, nil, nil, nil, nil},
		{1, 0, 1, 1, 0, 1, 1, 0, 20, 900, target, "job-1", nil},
		{2, 0, 1, 1, 0, 1, 1, 0, 10, 800, target, "job-2", nil},
		{0, 0, 0, 0, 0, 2, 1, 0, nil, nil, nil, nil, nil}, // of another stage
		{0, 1, 1, 0, 0, 4, 1, 0, nil, nil, nil, nil, nil}, // of another leg
	} {
		b.exec(part, x...)
	}
	call := `insert into call_intent (task_id, id, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
		values (1, gen_random_uuid(), $1, $2, 1, 0, $3, 1, 1, 0, 0, 1, 0, 0, 1, '')`
	b.exec(call, int64(b.worker), target, 1)
	b.exec(call, int64(b.worker), target, 1)
	b.exec(call, int64(b.worker), target, 0) // of a lease that was lost
	f := b.facts(1)
	want := []postgres.Parts{
		{Processor: 0, Planned: 4, OK: 1, Later: 2, Code: "timeout", Tries: 1},
		{Processor: 1, Out: 2, Skipped: 1, OutLimiter: target},
	}
	if diff := cmp.Diff(want, f.Parts, cmpopts.IgnoreTypes(&time.Time{})); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	for i, c := range []struct {
		got  *time.Time
		want float64
	}{{f.Parts[0].Due, 300}, {f.Parts[1].OutDue, 10}, {f.Parts[1].OutUntil, 800}} {
		if c.got == nil || c.got.Sub(f.Now).Seconds() < c.want-30 || c.got.Sub(f.Now).Seconds() > c.want {
			t.Errorf("time %d is %v, want %v s from %v", i, c.got, c.want, f.Now)
		}
	}
	if len(f.Calls) != 1 || f.Calls[0].N != 2 || f.Calls[0].Target != "http://h:1" || f.Calls[0].Since.After(f.Now) {
		t.Errorf("calls %+v", f.Calls)
	}
	if len(f.Limits) != 2 || f.Limits[0].Key != "http://h:1" || f.Limits[1].Key != "pipeline:p" { // that of what is out is found without its key
		t.Errorf("limits %+v", f.Limits)
	}
}

// TestFactsOfLimits says who has units, those of dead processes included, and when the next start is free.
func TestFactsOfLimits(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	target := b.target(gantry.LimiterSpec{MaxUnits: 6, Rate: 1, Burst: 1, Hold: time.Hour})
	dead, idle := b.register(time.Hour), b.register(time.Hour)
	for w, want := range map[gantry.WorkerID]int{dead: 1, b.worker: 3, idle: 0} {
		must(b.Grant(t.Context(), w, target, want, 0))(t)
	}
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(dead))
	if err := errOf(b.Reap(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Reserve(t.Context(), target, 30); err != nil {
		t.Fatal(err)
	}
	f := b.facts(1, "http://h:1", "http://none:1")
	if len(f.Limits) != 2 || f.Limits[0].Units != 6 || f.Limits[0].InUse != 4 {
		t.Fatalf("limits %+v", f.Limits)
	}
	want := []postgres.FactHolder{{Process: int64(b.worker), Host: "host", Units: 3}, {Process: int64(dead), Units: 1}}
	if diff := cmp.Diff(want, f.Limits[0].Holders, cmpopts.IgnoreTypes(&time.Time{})); diff != "" {
		t.Errorf("holders (-want +got):\n%s", diff)
	}
	if h := f.Limits[0].Holders; h[0].HeldUntil != nil || h[1].HeldUntil == nil || h[1].HeldUntil.Sub(f.Now) < 50*time.Minute {
		t.Errorf("holders %+v", h)
	}
	if at := f.Limits[0].Next; at == nil || at.Sub(f.Now) < 15*time.Second || f.Limits[1].Next != nil {
		t.Errorf("the next start is free at %v, of %v", at, f.Now)
	}
}

func errOf[T any](_ T, err error) error { return err }

// TestFactsOfOperatorsAndEnds gives what operators asked and did, and how a task ended.
func TestFactsOfOperatorsAndEnds(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(2)
	held := b.claim(b.worker, 1)[0]
	if err := b.Cancel(t.Context(), held.Task, "ann"); err != nil {
		t.Fatal(err)
	}
	if err := b.Pause(t.Context(), 2, "ben", "lunch"); err != nil {
		t.Fatal(err)
	}
	f := b.facts(held.Task)
	if len(f.Asked) != 1 || f.Asked[0].Verb != "cancel" || f.Asked[0].By != "ann" || f.Asked[0].At.After(f.Now) {
		t.Errorf("asked %+v", f.Asked)
	}
	if f = b.facts(2); f.Phase != gantry.Paused || f.Pause == nil || f.Pause.By != "ben" || f.Pause.Reason != "lunch" || f.Pause.At.After(f.Now) || len(f.Asked) != 0 {
		t.Errorf("%+v, paused %+v", f, f.Pause)
	}
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: held.Lease, From: gantry.Queued, To: gantry.Failed, Stage: 1, Change: gantry.End,
		Kind: gantry.Timeout, Code: gantry.CodeStateTimeout, Detail: "not done in time"}})
	f = b.facts(held.Task)
	if f.State != gantry.Failed || f.Ended == nil || f.Error != (postgres.TaskError{Code: "state_timeout", Kind: "timeout", Message: "not done in time"}) ||
		f.Last.From != gantry.Queued || f.Last.Stage != 1 || f.Last.Change != int16(gantry.End) || f.Last.Code != "state_timeout" {
		t.Errorf("%+v", f)
	}
}

// TestPlansOfFacts reads no table of tasks, parts or calls whole for what a task in a long queue waits for.
func TestPlansOfFacts(t *testing.T) {
	t.Parallel()
	p := newPlans(t, true)
	for name := range postgres.Planning {
		p.exec(`reset ` + name) // people's questions are planned as Postgres likes
	}
	p.exec(`update task set id = id + 98000`)
	p.exec(`update task_hot set phase = 1, owner = 1, state = 3 where id = 99999`)
	p.exec(`insert into part(task_id, ordinal, leg, stage, processor, first, count) select 95000 + n % 5000, n, 0, 0, 0, 0, 1 from generate_series(1, 50000) n`)
	p.exec(`insert into call_intent (task_id, id, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
		select 90000 + n % 10000, gen_random_uuid(), 1, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, '' from generate_series(1, 50000) n`)
	p.exec(`insert into call_outcome (task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind, req_sha, resp_sha)
		select task_id, id, 0, 0, 0, 0, 0, 1, 200, 0, 0, '', '' from call_intent`)
	p.exec(`vacuum analyze`)
	whole := regexp.MustCompile(`Seq Scan on (task_hot|part|task|call_\w+_rest) .*loops`)
	for _, id := range []string{"100000", "99999"} { // one is ready, one at work
		for name, q := range postgres.FactsForTest(id) {
			plan := ""
			if len(q) == 1 {
				plan = strings.Join(must(pgx.CollectRows(must(p.Query(t.Context(), `explain (analyze, costs off, timing off, summary off) `+q[0]))(t), pgx.RowTo[string]))(t), "\n")
			} else {
				plan = p.explain(q[0], q[1:]...)
			}
			if whole.MatchString(plan) {
				t.Errorf("%s of task %s:\n%s", name, id, plan)
			}
		}
	}
}
