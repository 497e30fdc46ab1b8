package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const connectionsSQL = `select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend'`

// ledger reads an installation's database, beside the program.
type ledger struct {
	db     *pgx.Conn
	before int // connections that there were without any process
}

func openLedger(t *testing.T, i installation) *ledger {
	t.Helper()
	db, err := pgx.Connect(t.Context(), i.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(context.WithoutCancel(t.Context())) })
	if _, err := db.Exec(t.Context(), `set search_path = gantry`); err != nil {
		t.Fatal(err)
	}
	l := &ledger{db: db}
	l.before = l.count(t, connectionsSQL)
	return l
}

func (l *ledger) scan(t *testing.T, to any, query string, args ...any) {
	t.Helper()
	if err := l.db.QueryRow(t.Context(), query, args...).Scan(to); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (l *ledger) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	l.scan(t, &n, query, args...)
	return n
}

func (l *ledger) text(t *testing.T, query string, args ...any) (s string) {
	t.Helper()
	l.scan(t, &s, query, args...)
	return s
}

// worker gives the id of a process's present lease, 0 if it has none.
func (l *ledger) worker(t *testing.T, p *process) int64 {
	t.Helper()
	return int64(l.count(t, `select coalesce(max(id), 0) from worker where pid = $1`, p.cmd.Process.Pid))
}

// finished waits until n tasks are done, and wants none to end otherwise.
func (l *ledger) finished(t *testing.T, n int) {
	t.Helper()
	l.finishedWithin(t, n, 60*time.Second)
}

func (l *ledger) finishedWithin(t *testing.T, n int, within time.Duration) {
	t.Helper()
	defer func() {
		if t.Failed() {
			t.Logf("of %d tasks of %d arrivals are left: %s", l.count(t, `select count(*) from task`), l.count(t, `select count(*) from arrival`),
				l.text(t, `select coalesce(string_agg(format('%s in state %s phase %s, died of %s, aside %s, run in %s, owned by %s;', n, state, phase, crashes, aside, run, owner), ' '), 'none')
					from (select state, phase, crashes, aside, owner, run_at - now() as run, count(*) as n from task_hot group by 1, 2, 3, 4, 5, 6) x`))
		}
	}()
	eventually(t, within, fmt.Sprintf("%d tasks to be done", n), func() bool {
		if bad := l.count(t, `select count(*) from task where final_state <> 5`); bad > 0 {
			t.Fatalf("%d tasks ended otherwise: %s", bad, l.text(t, `select string_agg(distinct error_code || ': ' || error, '; ') from task where final_state <> 5`))
		}
		return l.count(t, `select count(*) from task where final_state = 5`) == n
	})
	if all := l.count(t, `select count(*) from task`); all != n {
		t.Errorf("%d tasks were made of %d files", all, n)
	}
}

// part is what the record says of one part.
type part struct {
	sha     string // of the item that it sends
	sent    int    // calls that may have left: those with an outcome of not_sent have not
	ok      int
	belated int // calls begun after the answer was on record
}

const partsSQL = `
select t.public_id || '/' || p.leg || '/enhance/model/' || p.ordinal || '/' || p.generation, encode(x.sha, 'hex'),
       count(i.id) filter (where o.result is distinct from 2),
       count(i.id) filter (where o.result = 0),
       count(i.id) filter (where i.at > k.at)
from part p join task t on t.id = p.task_id
join item x on x.task_id = p.task_id and x.id = p.first
left join call_intent i on i.task_id = p.task_id and i.boundary = 1 and i.leg = p.leg and i.stage = p.stage
  and i.processor = p.processor and i.part = p.ordinal and i.generation = p.generation
left join call_outcome o on o.task_id = i.task_id and o.id = i.id
left join lateral (select min(oo.at) as at from call_intent ii join call_outcome oo using (task_id, id)
  where ii.task_id = p.task_id and ii.boundary = 1 and ii.part = p.ordinal and oo.result = 0) k on true
where p.status = 2
group by 1, 2`

// parts gives every part that was answered by its Idempotency-Key.
func (l *ledger) parts(t *testing.T) map[string]part {
	t.Helper()
	rows, err := l.db.Query(t.Context(), partsSQL)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]part{}
	var key string
	var p part
	if _, err := pgx.ForEachRow(rows, []any{&key, &p.sha, &p.sent, &p.ok, &p.belated}, func() error { parts[key] = p; return nil }); err != nil {
		t.Fatal(err)
	}
	return parts
}

// proven holds the whole record to its rules and to the limits, as an operator does.
func (i installation) proven(t *testing.T) {
	t.Helper()
	for _, what := range []string{"history", "limits"} {
		out, err := i.command("verify", what).CombinedOutput()
		if err != nil {
			t.Errorf("verify %s: %v\n%.2000s", what, err, out)
		}
		t.Logf("verify %s:\n%s", what, out)
	}
}

// audit holds what the service saw against the record, and the record against itself.
func (y *yard) audit(t *testing.T, l *ledger) {
	t.Helper()
	parts, requests := l.parts(t), map[string]int{}
	if len(parts) != files {
		t.Errorf("%d parts are ok, want %d", len(parts), files)
	}
	bodies := map[string]int{} // by digest: how many calls the record allows for
	for key, p := range parts {
		bodies[p.sha] += p.sent
		if p.ok != 1 {
			t.Errorf("part %s was answered %d times on record, want once", key, p.ok)
		}
		if p.belated > 0 {
			t.Errorf("part %s was called %d times after its answer was on record", key, p.belated)
		}
	}
	for _, s := range y.model.seen() {
		requests[s.Key]++
		p, known := parts[s.Key]
		switch {
		case !known:
			t.Errorf("the service saw key %q, which is no part's", s.Key)
		case requests[s.Key] > p.sent:
			t.Errorf("the service saw %d requests of part %s, the record has %d", requests[s.Key], s.Key, p.sent)
		case s.Whole && s.SHA != p.sha:
			t.Errorf("part %s was sent other bytes than its item's", s.Key)
		}
		if bodies[s.SHA]--; s.Whole && bodies[s.SHA] < 0 {
			t.Errorf("body %.12s was seen more often than the record allows", s.SHA)
		}
	}
	t.Logf("the service saw %d requests of %d parts, at most %d at once", len(y.model.seen()), len(requests), y.model.peak.Load())
	if n := y.model.peak.Load(); n > 8 {
		t.Errorf("the service saw %d requests at once, 8 are allowed", n)
	}
	y.auditEvents(t, l)
}

// auditEvents wants each task to end once, and no process to move a task that was taken from it.
func (y *yard) auditEvents(t *testing.T, l *ledger) {
	t.Helper()
	if n := l.count(t, `select count(*) from (select task_id from task_event group by 1 having count(*) filter (where to_state >= 5) <> 1) x`); n > 0 {
		t.Errorf("%d tasks did not end exactly once", n)
	}
	if n := l.count(t, `select count(*) from task_event e join task_event r using (task_id, worker) where r.change = 9 and e.seq > r.seq`); n > 0 {
		t.Errorf("%d transitions were made by a process that had lost the task", n)
	}
	if n := l.count(t, `select count(*) from task_hot`); n > 0 {
		t.Errorf("%d tasks have ended and still have a hot row", n)
	}
	if n := l.count(t, `select count(*) from (select task_id from call_intent i join call_outcome o using (task_id, id)
		where i.boundary = 2 and i.op = 3 and o.result = 0 group by 1) x`); n != files {
		t.Errorf("%d tasks have a delivered manifest on record, want %d", n, files)
	}
	left, err := fs.Glob(os.DirFS(y.out), "*/*/.gantry-*")
	if err != nil || len(left) > 0 {
		t.Errorf("%d drafts were left at the sink (%v)", len(left), err)
	}
}
