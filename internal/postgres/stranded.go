package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Stranded is a part that is out and that nobody waits for: its task has ended, or is in a later leg, or a redrive took
// its place.
type Stranded struct {
	Task     gantry.TaskID
	Pipeline int32
	gantry.Part
}

// unawaitedSQL tells of a part p of a task t that nobody waits for it.
const unawaitedSQL = `(t.final_state is not null or t.leg > p.leg or exists (select from part n where n.task_id = p.task_id and n.leg = p.leg
	and n.stage = p.stage and n.processor = p.processor and n.ordinal = p.ordinal and n.generation > p.generation))`

// strandedSQL finds parts that are out and that nobody waits for, each with the pipeline that it was submitted under: a
// task that was moved has another one. $1 how many at most.
const strandedSQL = `select p.task_id, coalesce(i.pipeline, t.pipeline), p.leg, p.stage, p.processor, p.ordinal, p.generation, p.submits, coalesce(p.ticket, ''),
	p.out_limiter, coalesce((extract(epoch from p.out_until - now()) * 1000000)::bigint, 0)
from part p cross join lateral (select pipeline from task t where t.id = p.task_id and ` + unawaitedSQL + ` offset 0) t
left join lateral (select pipeline from call_intent i where i.task_id = p.task_id and i.op = 4 and i.leg = p.leg and i.stage = p.stage
	and i.processor = p.processor and i.part = p.ordinal and i.generation = p.generation order by i.id desc limit 1) i on true
where p.out_limiter is not null limit $1`

// Stranded lists parts that are out and that nobody waits for, at most limit of them.
func (s *Store) Stranded(ctx context.Context, limit int) ([]Stranded, error) {
	rows, err := s.pool.Query(ctx, strandedSQL, limit)
	if err != nil {
		return nil, fmt.Errorf("list stranded parts: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (x Stranded, err error) {
		x.Status = gantry.PartOut
		err = row.Scan(&x.Task, &x.Pipeline, &x.Leg, &x.Stage, &x.Processor, &x.Ordinal, &x.Generation, &x.Submits, &x.Out.Ticket, &x.Out.Limiter, &x.Out.For)
		return x, err
	})
}

// landSQL ends the wait for a part that nobody waits for; whoever reopens its task would. The task stays as it is until
// that is done.
const landSQL = `
with t as materialized (select id, final_state, leg from task where id = $1 for no key update)
update part p set status = 0, due = null, reason = 'abandoned', out_limiter = null, out_until = null, out_deadline = null, ticket = null, token_sha = null
from t
where p.task_id = t.id and p.leg = $2 and p.stage = $3 and p.processor = $4 and p.ordinal = $5 and p.generation = $6
  and p.status = 1 and p.submits = $7 and ` + unawaitedSQL

// Land takes a stranded part off the books: it holds no unit any more. One whose task was reopened meanwhile
// stays out.
func (s *Store) Land(ctx context.Context, x Stranded) error {
	_, err := s.pool.Exec(ctx, landSQL, int64(x.Task), x.Leg, x.Stage, x.Processor, x.Ordinal, x.Generation, x.Submits)
	if err != nil {
		return fmt.Errorf("land stranded part: %w", err)
	}
	return nil
}

// OutCount is how many parts are out at a target.
type OutCount struct {
	Target string
	Parts  int64
}

// PartsOut counts the parts that are out, by target.
func (s *Store) PartsOut(ctx context.Context) ([]OutCount, error) {
	rows, err := s.ask.Query(ctx, `select l.key, n.n from (select out_limiter, count(*) as n from part where out_limiter is not null group by out_limiter) n
		join limiter l on l.id = n.out_limiter order by 1`)
	if err != nil {
		return nil, fmt.Errorf("count parts that are out: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[OutCount])
}
