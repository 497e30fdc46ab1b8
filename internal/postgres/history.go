package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TaskStand is how a task stands by its own rows, to be held to what its events say.
type TaskStand struct {
	ID    string // public
	Role  gantry.Role
	Leg   int16
	Final *gantry.State // nil while it has not ended
	Hot   *HotStand     // nil if it has no hot row
}

// HotStand is the row of a task that has not ended.
type HotStand struct {
	Seq                 int32
	State               gantry.State
	Phase               gantry.Phase
	Stage, Leg, Attempt int16
	Owner               int64 // 0: nobody
	Children            int32 // of one that waits for them: how many have not ended
}

// Step is one recorded transition.
type Step struct {
	Seq                 int32
	Leg, Stage, Attempt int16
	From, To            gantry.State
	Change              gantry.Change
	Worker              int64
}

// Oddity is a row of parts, items or calls that the others contradict.
type Oddity struct {
	Task string // public id; empty if there is no such task
	Key  int64  // of the task in the database
	Rule string
	Part gantry.PartKey
	N    int64 // of rows
}

// HistoryVisitor is told what HistoryPage reads: each task once, in the order of their keys, each followed
// by its steps by rising seq; then what is odd about the tasks of the page.
type HistoryVisitor interface {
	Task(TaskStand)
	Step(Step)
	Oddity(Oddity)
}

// HistoryPage hands out the history of the next n tasks whose keys are above after, as it all was at one
// moment, and gives the highest key; 0 if there are no more. Of the filter, Pipeline and Since count.
func (s *Store) HistoryPage(ctx context.Context, f Filter, after int64, n int, v HistoryVisitor) (last int64, err error) {
	err = pgx.BeginTxFunc(ctx, s.ask, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		keys, err := pageKeys(ctx, tx, f, after, n)
		if err != nil {
			return err
		}
		if err := eachStep(ctx, tx, keys, v); err != nil {
			return err
		}
		if len(keys) > 0 {
			last = keys[len(keys)-1]
		}
		if f.Pipeline == "" {
			return eachOddity(ctx, tx, oddRecordSQL, v, after, last, last == 0)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read history: %w", err)
	}
	return last, nil
}

// FirstTask gives a key below those of all tasks that were made since a moment, for HistoryPage to begin after.
func (s *Store) FirstTask(ctx context.Context, since time.Time) (int64, error) {
	var key int64
	err := s.ask.QueryRow(ctx, `select coalesce((select min(id) from task where created_at >= $1), (select max(id) + 1 from task), 1) - 1`, since).Scan(&key)
	if err != nil {
		return 0, fmt.Errorf("read history: %w", err)
	}
	return key, nil
}

func pageKeys(ctx context.Context, tx pgx.Tx, f Filter, after int64, n int) ([]int64, error) {
	rows, err := tx.Query(ctx, `select t.id from task t
		where t.id > $1 and t.created_at >= $2 and ($3 = '' or t.pipeline = any (array(select id from pipeline_version where name = $3)))
		order by t.id limit $4`, after, f.Since, f.Pipeline, n)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// stepsSQL gives one row for each event, and one for a task without events. Lookups by key are written so that no plan
// can read a table whole for a page. $1 tasks.
const stepsSQL = `
select t.id, t.public_id, t.role, t.leg, t.final_state, h.seq, h.state, h.phase, h.stage, h.leg, h.attempt, coalesce(h.owner, 0),
  case when h.phase = 3 then (select count(*)::int from task c where c.parent = t.id and c.final_state is null) else 0 end,
  e.seq, e.leg, e.stage, e.attempt, e.from_state, e.to_state, e.change, e.worker
from unnest($1::bigint[]) k(id)
cross join lateral (select * from task where id = k.id offset 0) t
left join lateral (select * from task_hot where id = k.id offset 0) h on true
left join lateral (select * from task_event where task_id = k.id offset 0) e on true
order by t.id, e.seq`

func eachStep(ctx context.Context, tx pgx.Tx, keys []int64, v HistoryVisitor) error {
	rows, err := tx.Query(ctx, stepsSQL, keys)
	if err != nil {
		return err
	}
	defer rows.Close()
	var before int64
	for rows.Next() {
		key, t, e, err := scanStep(rows)
		if err != nil {
			return err
		}
		if key != before {
			v.Task(t)
			before = key
		}
		if e != nil {
			v.Step(*e)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return eachOddity(ctx, tx, oddSQL, v, keys)
}

// scanStep reads a row of stepsSQL; the step is nil for a task without events.
func scanStep(rows pgx.Rows) (key int64, t TaskStand, e *Step, err error) {
	var (
		h                                  HotStand
		hotSeq, seq                        *int32
		hotState, hotPhase, from, to, kind *uint8
		hotStage, hotLeg, hotAttempt       *int16
		leg, stage, attempt                *int16
		worker                             *int64
		final                              *uint8
	)
	err = rows.Scan(&key, &t.ID, &t.Role, &t.Leg, &final, &hotSeq, &hotState, &hotPhase, &hotStage, &hotLeg, &hotAttempt, &h.Owner, &h.Children,
		&seq, &leg, &stage, &attempt, &from, &to, &kind, &worker)
	if err != nil {
		return 0, t, nil, err
	}
	if final != nil {
		s := gantry.State(*final)
		t.Final = &s
	}
	if hotSeq != nil {
		h.Seq, h.State, h.Phase, h.Stage, h.Leg, h.Attempt = *hotSeq, gantry.State(*hotState), gantry.Phase(*hotPhase), *hotStage, *hotLeg, *hotAttempt
		t.Hot = &h
	}
	if seq != nil {
		e = &Step{Seq: *seq, Leg: *leg, Stage: *stage, Attempt: *attempt, From: gantry.State(*from), To: gantry.State(*to), Change: gantry.Change(*kind), Worker: *worker}
	}
	return key, t, e, nil
}

// The rules that a statement checks, as they stand in an Oddity.
const (
	OddTwice    = "answered_twice"         // a part was answered more than once in a generation
	OddLost     = "answer_lost"            // an answer is on record, and its part has none
	OddNoAnswer = "ok_without_answer"      // a part is ok, and no call was answered
	OddOpen     = "part_left"              // the task is done, and a part is not
	OddItem     = "item_without_part"      // an output of a part that is not ok
	OddItems    = "item_twice"             // two outputs in one place of an answer
	OddOutcome  = "outcome_without_intent" // a call that ended and never began
	OddTask     = "no_task"                // events or calls of a task that there is not
)

// oddSQL looks for rows of tasks that contradict one another. $1 tasks. An answer is a call to a processor that
// went through (0), under a lease that held, and whose outputs were kept: what could not be kept has a code.
const oddSQL = `
with k as materialized (select id from unnest($1::bigint[]) k(id)),
answers as materialized (
  select i.task_id, i.leg, i.stage, i.processor, i.part as ordinal, i.generation, count(*) as n
  from k cross join lateral (select * from call_intent where task_id = k.id and boundary = 1 and op in (1, 5, 6) offset 0) i
  cross join lateral (select from call_outcome where task_id = i.task_id and id = i.id and result = 0 and error_code is null offset 0) o
  group by 1, 2, 3, 4, 5, 6),
parts as materialized (
  select p.* from k cross join lateral (select task_id, leg, stage, processor, ordinal, generation, status from part where task_id = k.id offset 0) p),
good as materialized (select task_id, leg, stage, processor, ordinal, generation from parts where status = 2),
outputs as materialized (
  select i.task_id, i.leg, i.stage, i.processor, i.part, i.generation, i.ordinal, count(*) as n
  from k cross join lateral (select task_id, leg, stage, processor, part, generation, ordinal from item
    where task_id = k.id and stage >= 0 and transform <> 'rejoin' offset 0) i   -- what was put together is of no part
  group by 1, 2, 3, 4, 5, 6, 7),
odd as (
  select '` + OddTwice + `' as rule, task_id, leg, stage, processor, ordinal, generation, n from answers where n > 1
  union all
  select '` + OddLost + `', task_id, leg, stage, processor, ordinal, generation, n from answers
  where (task_id, leg, stage, processor, ordinal, generation) not in (select * from good)
  union all
  select '` + OddNoAnswer + `', task_id, leg, stage, processor, ordinal, generation, 1 from good
  where (task_id, leg, stage, processor, ordinal, generation) not in (select task_id, leg, stage, processor, ordinal, generation from answers)
  union all
  select '` + OddOpen + `', task_id, leg, stage, processor, ordinal, generation, 1 from parts p
  where status in (0, 1) and (select t.final_state = 5 and t.leg = p.leg from task t where t.id = p.task_id)
    and not exists (select from part n where n.task_id = p.task_id and n.leg = p.leg and n.stage = p.stage and n.processor = p.processor
      and n.ordinal = p.ordinal and n.generation > p.generation offset 0)   -- a redrive took its place
  union all
  select '` + OddItem + `', task_id, leg, stage, processor, part, generation, n from outputs
  where (task_id, leg, stage, processor, part, generation) not in (select * from good)
  union all
  select '` + OddItems + `', task_id, leg, stage, processor, part, generation, n from outputs where n > 1
  union all
  select '` + OddOutcome + `', o.task_id, 0, 0, 0, 0, 0, count(*)
  from k cross join lateral (select task_id, id from call_outcome where task_id = k.id offset 0) o
  where not exists (select from call_intent i where i.task_id = o.task_id and i.id = o.id offset 0) group by o.task_id)
select (select public_id from task t where t.id = odd.task_id), task_id, rule, leg, stage, processor, ordinal, generation, n
from odd order by task_id, rule, stage, processor, ordinal, generation`

// oddRecordSQL looks for what is on record of tasks that there are not, with keys from $1 on to $2, or from $1 on if $3.
const oddRecordSQL = `
select '', r.task_id, '` + OddTask + `', 0::smallint, 0::smallint, 0::smallint, 0, 0::smallint, r.n
from (select task_id, count(*) as n from (select task_id from task_event union all select task_id from call_intent union all select task_id from call_outcome) r
  where task_id > $1 and (task_id <= $2 or $3) group by task_id) r
where not exists (select from task t where t.id = r.task_id offset 0)
order by r.task_id`

func eachOddity(ctx context.Context, tx pgx.Tx, q string, v HistoryVisitor, args ...any) error {
	rows, err := tx.Query(ctx, q, args...)
	if err != nil {
		return err
	}
	var x Oddity
	_, err = pgx.ForEachRow(rows, []any{&x.Task, &x.Key, &x.Rule, &x.Part.Leg, &x.Part.Stage, &x.Part.Processor, &x.Part.Ordinal, &x.Part.Generation, &x.N},
		func() error { v.Oddity(x); return nil })
	return err
}
