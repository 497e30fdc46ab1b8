package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// retryPartsSQL plans again what failed of the stages that failed: $1 tasks, $2 their stages. What a redrive took the
// place of stays as it is. A part that failed before the last redrive is planned under its generation, $3, since what
// later stages were sent without it is told by generations.
const retryPartsSQL = `
with live as (
  select distinct on (p.task_id, p.leg, p.stage, p.processor, p.ordinal) p.*
  from unnest($1::bigint[], $2::smallint[]) f(id, stage) cross join lateral (select id, leg from task where id = f.id offset 0) t
  cross join lateral (select * from part p where p.task_id = t.id and p.leg = t.leg and p.stage = f.stage offset 0) p
  order by p.task_id, p.leg, p.stage, p.processor, p.ordinal, p.generation desc),
n as (
  insert into part(task_id, leg, stage, processor, ordinal, generation, first, count)
  select task_id, leg, stage, processor, ordinal, $3, first, count from live where status = 4 and generation < $3)
update part p set status = 0, attempt = 0, asked = 0, due = null, reason = null
from live l
where (l.status = 0 or l.status = 4 and l.generation = $3) and p.task_id = l.task_id and p.leg = l.leg and p.stage = l.stage
  and p.processor = l.processor and p.ordinal = l.ordinal and p.generation = l.generation`

// Reopen puts a failed task back into the state that failed, and those that failed with it of the tasks that it was
// divided into: it waits for these. It may stay in its state for as long as t says, and a task whose media were
// divided for as long again as those may take. False means that it had not failed any more.
func (s *Store) Reopen(ctx context.Context, task gantry.TaskID, t gantry.Timeouts, priority int16, why string) (bool, error) {
	var lanes []string
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) (err error) {
		lanes, err = reopen(ctx, tx, task, t, priority, why)
		return err
	})
	if errors.Is(err, errRefused) {
		return false, nil // and nothing was changed
	}
	if err == nil {
		err = s.Notify(ctx, strings.Join(lanes, ","))
	}
	if err != nil {
		return false, fmt.Errorf("reopen task: %w", err)
	}
	return true, nil
}

func reopen(ctx context.Context, tx pgx.Tx, task gantry.TaskID, t gantry.Timeouts, priority int16, why string) ([]string, error) {
	f, refused, err := lockFamily(ctx, tx, task, task)
	if err == nil && (refused != "" || f.list[0].final != int16(gantry.Failed)) {
		err = errRefused
	}
	if err != nil {
		return nil, err
	}
	var ids []int64
	var stages []int16
	for _, m := range f.list {
		p := f.by[m.parent]
		m.again, m.first = m.final == int16(gantry.Failed) && (p == nil || p.again), m.stage
		if m.again && m.role == int16(gantry.Member) {
			p.other = true
		}
		if m.again && m.state == int16(gantry.Inferring) {
			ids, stages = append(ids, m.id), append(stages, m.stage)
		}
	}
	generation, err := f.generation(ctx, tx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, retryPartsSQL, ids, stages, generation); err != nil {
		return nil, err
	}
	put := f.putBack(priority, func(m *member) time.Duration {
		own := t.Of(gantry.State(m.state))
		if m.other {
			own += t.Queued + t.Extracting + t.Ingesting + t.Inferring + t.Responding
		}
		return own
	})
	lanes, n, _, err := put.apply(ctx, tx, why)
	if err == nil && n < len(put.id) {
		err = errRefused
	}
	return lanes, err
}
