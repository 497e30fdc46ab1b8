package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// askConfirmSQL keeps a request before it is made. What was made before stays as it is: its id says that it is the same. $1 id, $2 task, $3 seq,
// $4 leg, $5 delivery, $6 sink, $7 try, $8 limiter, $9 instances, $10 names. It gives how many leases there are: none where it is lost.
const askConfirmSQL = `
with h as (select id from task_hot where id = $2 and seq = $3),
i as (insert into confirmation(id, task_id, leg, delivery, sink, try, limiter, instances, names)
  select $1, h.id, $4, $5, $6, $7, $8, $9, $10 from h on conflict (id) do nothing)
select count(*) from h`

// Ask keeps that a server is about to be asked. A lost lease is ErrFenced, and nothing is kept.
func (s *Store) Ask(ctx context.Context, a gantry.Asking) error {
	var held int
	err := s.pool.QueryRow(ctx, askConfirmSQL, a.ID, int64(a.Task), a.Seq, a.Leg, a.Delivery, a.Sink, a.Try, a.Limiter, a.Count, a.Names[:]).Scan(&held)
	if err != nil {
		return fmt.Errorf("keep request for confirmation: %w", err)
	}
	if held == 0 {
		return gantry.ErrFenced
	}
	return nil
}

// Taken keeps that the server took a request: from now on its answer is waited for.
func (s *Store) Taken(ctx context.Context, l gantry.Lease, id string) error {
	_, err := s.pool.Exec(ctx, `update confirmation set taken = true, asked_at = clock_timestamp()
		where id = $1 and exists (select from task_hot where id = $2 and seq = $3)`, id, int64(l.Task), l.Seq)
	if err != nil {
		return fmt.Errorf("keep request for confirmation: %w", err)
	}
	return nil
}

// GiveUp has nobody wait any more for what a sink was asked about a delivery.
func (s *Store) GiveUp(ctx context.Context, l gantry.Lease, leg, delivery, sink int16) error {
	_, err := s.pool.Exec(ctx, `update confirmation set over = true
		where task_id = $1 and leg = $3 and delivery = $4 and sink = $5 and exists (select from task_hot where id = $1 and seq = $2)`,
		int64(l.Task), l.Seq, leg, delivery, sink)
	if err != nil {
		return fmt.Errorf("give up confirmation: %w", err)
	}
	return nil
}

const askedConfirmSQL = `
select c.id, c.sink, c.try, c.limiter, c.instances, c.names, c.taken, c.over, greatest(0, (extract(epoch from clock_timestamp() - c.asked_at) * 1000000)::bigint),
  a.id is not null, coalesce(a.kept, 0), a.names, a.failed, a.reasons
from confirmation c left join confirmation_answer a on a.id = c.id
where c.task_id = $1 and c.leg = $2 and c.delivery = $3 order by c.sink, c.try`

// Asked gives what the servers of a task's sinks were asked about one delivery, by sink and try, and how many answers came to the task
// so far. The number is read first: an answer that comes between the two is among those given, or makes the number
// another one when it is compared.
func (s *Store) Asked(ctx context.Context, task gantry.TaskID, leg, delivery int16) (count int32, out []gantry.Asked, err error) {
	b := &pgx.Batch{}
	b.Queue(`select answers from task_hot where id = $1`, int64(task)).QueryRow(func(row pgx.Row) error { return row.Scan(&count) })
	b.Queue(askedConfirmSQL, int64(task), leg, delivery).Query(func(rows pgx.Rows) (err error) {
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (gantry.Asked, error) { return scanAsked(row, task, leg, delivery) })
		return err
	})
	err = s.pool.SendBatch(ctx, b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil, gantry.ErrFenced // the task has ended
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read confirmations of task %d: %w", task, err)
	}
	return count, out, nil
}

func scanAsked(row pgx.CollectableRow, task gantry.TaskID, leg, delivery int16) (x gantry.Asked, err error) {
	var waited int64
	var answered bool
	var kept int32
	var failed [][]byte
	var reasons []int32
	var names, of []byte
	err = row.Scan(&x.ID, &x.Sink, &x.Try, &x.Limiter, &x.Count, &names, &x.Taken, &x.Over, &waited, &answered, &kept, &of, &failed, &reasons)
	copy(x.Names[:], names)
	x.Task, x.Leg, x.Delivery, x.Waited = task, leg, delivery, time.Duration(waited)*time.Microsecond
	if err != nil || !answered {
		return x, err
	}
	x.Answer = &gantry.Answer{ID: x.ID, Kept: kept}
	copy(x.Answer.Names[:], of)
	for i, name := range failed {
		u := gantry.Unconfirmed{Reason: reasons[i]}
		copy(u.Name[:], name)
		x.Answer.Failed = append(x.Answer.Failed, u)
	}
	return x, nil
}

// confirmSQL keeps the first answer to a request that was made of the server behind a limiter, and gives the task. $1 id, $2 limiter,
// $3 kept, $4 names, $5 failed, $6 reasons.
const confirmSQL = `
with c as (select id, task_id from confirmation where id = $1 and limiter = $2),
a as (insert into confirmation_answer(id, kept, names, failed, reasons) select c.id, $3, $4, $5, $6 from c on conflict (id) do nothing returning id)
select c.task_id, exists (select from a) from c`

// Confirmed keeps what the server behind a limiter answered, and wakes the task that waits for it. known is false where no such
// request was made of it. Of several answers to one request the first counts. However many come at once, they do not take the
// connections of the scheduler.
func (s *Store) Confirmed(ctx context.Context, limiter int32, a gantry.Answer) (known bool, err error) {
	failed, reasons := make([][]byte, len(a.Failed)), make([]int32, len(a.Failed))
	for i, u := range a.Failed {
		failed[i], reasons[i] = u.Name[:], u.Reason
	}
	err = pgx.BeginFunc(ctx, s.ask, func(tx pgx.Tx) error {
		var task int64
		var first bool
		err := tx.QueryRow(ctx, confirmSQL, a.ID, limiter, a.Kept, a.Names[:], failed, reasons).Scan(&task, &first)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		known = err == nil
		if first {
			_, err = tx.Exec(ctx, wakeSQL, task)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("keep confirmation: %w", err)
	}
	return known, nil
}

// Confirms is a request that a sink's server confirm what was delivered, without an answer so far.
type Confirms struct {
	Sink  int16 // its place in the pipeline
	Try   int16
	Count int32 // of what was delivered
	At    time.Time
}

const factConfirmsSQL = subjectSQL + `
select c.sink, c.try, c.instances, c.asked_at from s join task t on t.id = s.id
join confirmation c on c.task_id = s.id and c.leg = s.leg and c.delivery = t.delivery
where s.state = 4 and c.taken and not c.over and not exists (select from confirmation_answer a where a.id = c.id) order by c.sink, c.try`
