package postgres_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// backlog is long enough that reading it whole is wrong for every statement of the scheduler.
const backlog = 100_000

// plans is a connection to a database with a long queue, part of it owned by worker 1.
type plans struct {
	*pgx.Conn
	lane int32
	t    *testing.T
}

func newPlans(t *testing.T, analyzed bool) *plans {
	t.Helper()
	ctx := t.Context()
	c := must(pgx.Connect(ctx, postgrestest.DSN(t)))(t)
	t.Cleanup(func() { c.Close(context.Background()) })
	p := &plans{Conn: c, t: t}
	p.exec(`set search_path = gantry`)
	for name, value := range postgres.Planning {
		p.exec(`set ` + name + ` = ` + value)
	}
	p.exec(`alter table task_hot set (autovacuum_enabled = off)`) // its statistics must not come by themselves
	p.exec(`insert into worker(id, host, pid, expires_at) overriding system value values (1, 'host', 1, now() + interval '1 hour')`)
	p.exec(`insert into pipeline_version(name, version, resolved) values ('p', sha256('p'), '{}')`)
	if err := c.QueryRow(ctx, `insert into lane(pipeline, source, limiter) values ('p', 'in', 1) returning id`).Scan(&p.lane); err != nil {
		t.Fatal(err)
	}
	p.exec(`insert into task(id, public_id, pipeline) select n, n::text, (select id from pipeline_version) from generate_series(1, 2000) n`)
	p.exec(fmt.Sprintf(`insert into task_hot(id, lane, phase, owner, run_at, state_until)
		select n, %d, (n <= 1000)::int, case when n <= 1000 then 1 end, now(), now() + interval '1 hour' from generate_series(1, %d) n`, p.lane, backlog))
	if analyzed {
		p.exec(`vacuum analyze task_hot`)
		p.exec(`vacuum analyze task`)
	}
	return p
}

func (p *plans) exec(sql string) {
	p.t.Helper()
	if _, err := p.Exec(p.t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		p.t.Fatal(err)
	}
}

// explain gives the plan of a statement for arguments written in SQL, as a prepared statement runs
// with them. Nothing is kept of what the statement does.
func (p *plans) explain(sql string, args ...string) string {
	p.t.Helper()
	ctx := p.t.Context()
	tx := must(p.Begin(ctx))(p.t)
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `prepare q as `+sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		p.t.Fatal(err)
	}
	called := ""
	if len(args) > 0 {
		called = "(" + strings.Join(args, ", ") + ")"
	}
	rows, err := tx.Query(ctx, `explain (analyze, costs off, timing off, summary off) execute q`+called, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		p.t.Fatal(err)
	}
	lines := must(pgx.CollectRows(rows, pgx.RowTo[string]))(p.t)
	if _, err := tx.Exec(ctx, `deallocate q`, pgx.QueryExecModeSimpleProtocol); err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func readSQL(t *testing.T, file string) string {
	t.Helper()
	return string(must(os.ReadFile(file))(t))
}

// array writes n equal values, or the numbers from 1 to n where the value is empty.
func array(kind, value string, n int) string {
	all := make([]string, n)
	for i := range all {
		if all[i] = value; value == "" {
			all[i] = strconv.Itoa(i + 1)
		}
	}
	return "array[" + strings.Join(all, ",") + "]::" + kind + "[]"
}

// repeat writes one argument for each kind: n values each.
func repeat(n int, value string, kinds ...string) []string {
	args := make([]string, len(kinds))
	for i, k := range kinds {
		v := value
		if k == "text" || k == "bytea" {
			v = "''"
		}
		if k == "bool" {
			v = "false"
		}
		args[i] = array(k, v, n)
	}
	return args
}

// uuids writes n keys of calls.
func uuids(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("'%08x-0000-7000-8000-000000000000'", i)
	}
	return "array[" + strings.Join(all, ",") + "]::uuid[]"
}

var (
	scansQueue = regexp.MustCompile(`Seq Scan on (task_hot|item|part|call_)`)
	scansKeys  = regexp.MustCompile(`Scan using (task_hot|item|part|task)_pkey on `)
	findsKeys  = regexp.MustCompile(`Scan using (task_hot|item|part|task)_pkey on [^\n]*\n *Index Cond: \(+(task_)?id = `)
)

func hold(t *testing.T, plan string) {
	t.Helper()
	if readsWhole(plan) {
		t.Errorf("the plan reads a whole table:\n%s", plan)
	}
}

// readsWhole tells whether a plan reads a table in its own order, or in that of its key without looking for a task.
func readsWhole(plan string) bool {
	return scansQueue.MatchString(plan) || len(scansKeys.FindAllString(plan, -1)) > len(findsKeys.FindAllString(plan, -1))
}

// TestPlans holds the statements of the scheduler to plans that do not grow with the queue, with
// statistics and on tables that have none yet.
func TestPlans(t *testing.T) {
	t.Parallel()
	for _, analyzed := range []bool{true, false} {
		t.Run(fmt.Sprintf("analyzed %t", analyzed), func(t *testing.T) {
			t.Parallel()
			p := newPlans(t, analyzed)
			p.holdClaim()
			p.holdHeld()
			p.holdOrphans()
			for _, n := range []int{1, 2, 64, 645} { // each form of a statement
				p.holdTransitions(n)
				p.holdResults(n)
			}
			p.holdChildren(645)
			p.holdRepairs(645)
			if analyzed {
				p.joinScans()
			}
		})
	}
}

// TestPlansMadeWhileSmall makes the plans while the tables, whose statistics say that they are empty, have a few rows: such
// a plan is kept while they grow, until somebody analyzes them.
func TestPlansMadeWhileSmall(t *testing.T) {
	t.Parallel()
	p := newPlans(t, false)
	for _, table := range []string{"task_hot", "task", "part", "item"} {
		p.exec(`alter table ` + table + ` set (autovacuum_enabled = off)`)
		p.exec(`truncate ` + table + ` cascade`) // what deletes and a vacuum leave may keep its pages, or not
		p.exec(`vacuum analyze ` + table)
	}
	p.exec(`insert into task(id, public_id, pipeline) overriding system value select n, n::text, (select id from pipeline_version) from generate_series(1, 20) n`)
	p.exec(fmt.Sprintf(`insert into task_hot(id, lane, phase, owner) select n, %d, 1, 1 from generate_series(1, 20) n`, p.lane))
	p.exec(`insert into part(task_id, ordinal, leg, stage, processor, first, count) select n, 0, 0, 0, 0, 0, 1 from generate_series(1, 20) n`)
	p.exec(`insert into item(task_id, id, parent, origin, ordinal) select n, 0, -1, 0, 0 from generate_series(1, 20) n`)
	p.holdTransitions(20)
	p.holdResults(20)
	p.bareJoinScans()
}

// bareJoinScans is the control: parts looked for by what two tables say together are looked for by half of their key,
// which reads them all, and hold would see it.
func (p *plans) bareJoinScans() {
	p.t.Helper()
	const bare = `with f as materialized (select array_agg(x) as ids from unnest($1::bigint[]) x)
		update part p set status = 1 from f, unnest($1::bigint[], $2::int[], $2::int[]) as r(lease, ordinal, leg)
		where p.task_id = f.ids[r.lease] and p.leg = r.leg and p.ordinal = r.ordinal and p.stage = 0 and p.processor = 0 and p.generation = 0`
	if plan := p.explain(bare, array("bigint", "", 20), array("int", "0", 20)); !readsWhole(plan) {
		p.t.Errorf("the bare join does not read the whole table; the control proves nothing:\n%s", plan)
	}
}

func (p *plans) claimArgs() []string {
	return []string{array("int", strconv.Itoa(int(p.lane)), 1), array("int", "100", 1), "1", array("smallint", "9", 1), array("int", "13", 1), array("int", strconv.Itoa(int(p.lane)), 1), array("smallint", "5", 1), array("bigint", "1", 1)}
}

func (p *plans) holdClaim() {
	p.t.Helper()
	plan := p.explain(readSQL(p.t, "claim.sql"), p.claimArgs()...)
	hold(p.t, plan)
	if !strings.Contains(plan, "task_hot_ready") {
		p.t.Errorf("a claim does not read the index of what is ready:\n%s", plan)
	}
}

// holdHeld looks at what a process asks about all that it holds.
func (p *plans) holdHeld() {
	p.t.Helper()
	for _, sql := range []string{postgres.HeldForTest, postgres.ResignForTest} {
		plan := p.explain(sql, "1::bigint")
		hold(p.t, plan)
		if !strings.Contains(plan, "task_hot_owned") || scansTasks.MatchString(plan) {
			p.t.Errorf("what a worker holds is not found by its owner:\n%s", plan)
		}
	}
}

// holdOrphans looks for tasks of lanes whose process is gone, of which there are some.
func (p *plans) holdOrphans() {
	p.t.Helper()
	p.exec(`insert into lane(pipeline, source, limiter, private_worker) select 'p', 'run', 1, 1000 + n from generate_series(1, 20) n`)
	defer p.exec(`delete from lane where private_worker is not null`)
	plan := p.explain(postgres.OrphanForTest)
	hold(p.t, plan)
	if !strings.Contains(plan, "task_hot_ready") || !strings.Contains(plan, "task_hot_parked") || strings.Contains(plan, "actual rows=100000") {
		p.t.Errorf("the tasks of lanes that nobody works on are not found by lane:\n%s", plan)
	}
}

// joinScans is the control: a claim written with a join, which reads well, does read the whole
// queue, and hold would see it.
func (p *plans) joinScans() {
	p.t.Helper()
	const join = `with c as materialized (
			select id from task_hot where phase = 0 and lane = $1 order by priority, id limit $2 for update skip locked)
		update task_hot h set phase = 1, owner = 1 from c where h.id = c.id`
	p.exec(`set enable_seqscan = on`)
	p.exec(`set enable_hashjoin = on`)
	p.exec(`set enable_bitmapscan = on`)
	defer p.exec(`set enable_seqscan = off`)
	defer p.exec(`set enable_bitmapscan = off`)
	if plan := p.explain(join, strconv.Itoa(int(p.lane))+"::int", "100::bigint"); !scansQueue.MatchString(plan) {
		p.t.Errorf("the join form does not scan; the control proves nothing:\n%s", plan)
	}
}

// holdTransitions moves n tasks in one batch.
func (p *plans) holdTransitions(n int) {
	p.t.Helper()
	args := append([]string{"1", array("bigint", "", n), array("int", "0", n)},
		repeat(n, "0", "smallint", "smallint", "smallint", "smallint", "bigint", "bigint", "smallint", "text", "text", "smallint", "int", "int")...)
	sql, args := postgres.MovesForTest(n, args...)
	plan := p.explain(sql, args...)
	hold(p.t, plan)
	if !strings.Contains(plan, "Index Scan using task_hot_pkey") {
		p.t.Errorf("a transition does not find its tasks by key:\n%s", plan)
	}
	if !strings.Contains(plan, "using item_pkey on item") || strings.Contains(plan, "hashed SubPlan") {
		p.t.Errorf("a transition does not find the item that goes with it by key:\n%s", plan)
	}
}

// holdChildren makes a child of each of n tasks, and ends n children of one parent.
func (p *plans) holdChildren(n int) {
	p.t.Helper()
	p.exec(`alter table task alter column id restart with 1000000`)
	args := append([]string{"1", array("bigint", "", n), array("int", "0", n)}, repeat(n, "0", "smallint", "smallint", "bigint")...)
	args = append(args, array("int", "", n), strings.Replace(array("bigint", "", n), "bigint", "text", 1))
	args = append(args, repeat(n, "0", "int", "int", "int")...)
	args = append(args, array("text", "'{[1,3)}'", n))
	plan := p.explain(strings.Replace(readSQL(p.t, "children.sql"), "r.public_id,", "'c' || r.public_id,", 1), args...)
	hold(p.t, plan)
	if !strings.Contains(plan, "Index Scan using task_hot_pkey") {
		p.t.Errorf("children do not find their parents by key:\n%s", plan)
	}
	if scansTasks.MatchString(plan) {
		p.t.Errorf("the plan reads all tasks:\n%s", plan)
	}
	p.exec(`update task set parent = 1500 where id <= 1000`)
	args = append([]string{"1", array("bigint", "", n), array("int", "0", n)}, repeat(n, "0", "smallint", "smallint", "smallint")...)
	args = append(append(args, array("smallint", "4", n)), repeat(n, "0", "bigint", "bigint", "smallint", "text", "text", "smallint", "int", "int")...)
	args[4] = array("smallint", "5", n)
	sql, args := postgres.MovesForTest(n, args...)
	plan = p.explain(sql, args...)
	hold(p.t, plan)
	if scansTasks.MatchString(plan) {
		p.t.Errorf("the plan reads all tasks:\n%s", plan)
	}
}

var scansTasks = regexp.MustCompile(`Seq Scan on task `)

// holdResults commits an item, a mark, a planned part, the result of a part, a cursor, an intent and an outcome of
// each of n tasks.
func (p *plans) holdResults(n int) {
	p.t.Helper()
	lease := array("int", "", n)
	part := []string{"smallint", "smallint", "smallint", "int", "smallint"}
	rows := func(first []string, kinds ...string) []string { return append(first, repeat(n, "0", kinds...)...) }
	sql, args := postgres.ResultsForTest(n,
		[]string{"1"},
		[]string{array("bigint", "", n), array("int", "0", n)},
		[]string{array("bigint", "1", n)},
		rows([]string{lease}, "int", "int", "int", "int", "int", "smallint", "smallint", "smallint", "smallint", "bool", "bigint",
			"text", "text", "text", "text", "text", "text", "bytea", "bytea"),
		rows([]string{lease}, "bigint", "int", "bytea", "bigint", "text", "bool"),
		rows([]string{lease}, append(slices.Clone(part), "int", "int", "smallint")...),
		rows([]string{lease}, append(slices.Clone(part), "smallint", "smallint", "bigint", "text", "smallint", "smallint")...),
		rows([]string{lease}, append(slices.Clone(part), "smallint", "bigint", "text", "int", "bigint", "bigint", "bytea")...),
		rows([]string{lease, uuids(n)}, "bigint", "int", "int", "int", "int", "int", "smallint", "smallint", "smallint", "smallint",
			"smallint", "smallint", "smallint", "bytea"),
		rows([]string{lease, array("bigint", "", n), uuids(n)},
			"bigint", "bigint", "bigint", "bigint", "bigint", "int", "int", "smallint", "smallint", "bytea", "bytea", "text"))
	plan := p.explain(sql, args...)
	hold(p.t, plan)
	for _, index := range []string{"task_hot_pkey", "item_pkey", "part_pkey"} {
		if !strings.Contains(plan, "Index Scan using "+index) && !strings.Contains(plan, "Index Only Scan using "+index) {
			p.t.Errorf("results do not use %s:\n%s", index, plan)
		}
	}
}
