package postgres

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

//go:embed callback.sql
var callbackSQL string

// statuses are the numbers of the statuses of callbacks in the database.
var statuses = []gantry.CallbackStatus{gantry.CallbackRunning, gantry.CallbackDone, gantry.CallbackFailed}

// wakeSQL counts an answer, and ends the wait of a task that is parked, or was when it was paused. See transition.sql. $1 task.
const wakeSQL = `update task_hot h set answers = h.answers + 1, run_at = case when h.phase in (2, 4) then now() else h.run_at end where h.id = $1`

// aliveSQL lets a part be out for longer, up to its deadline. $1 task, $2 leg, $3 stage, $4 processor, $5 ordinal, $6 generation,
// $7 try, $8 how long (us); 0: until the deadline.
const aliveSQL = `update part p set out_until = case when $8::bigint > 0 then least(p.out_deadline, now() + $8 * interval '1 us') else p.out_deadline end
where p.task_id = $1 and p.leg = $2 and p.stage = $3 and p.processor = $4 and p.ordinal = $5 and p.generation = $6
  and p.status = 1 and p.submits = $7`

// TakeCallback keeps a callback, whose token is ours, and says what becomes of it. An answer that is accepted
// and what wakes its task are one commit. However many come at once, they do not take the connections of the
// scheduler.
func (s *Store) TakeCallback(ctx context.Context, x *gantry.Received) (v gantry.Verdict, err error) {
	status := slices.Index(statuses, x.Status)
	if status < 0 {
		return 0, gantry.Errorf(gantry.Illegal, "bad_status", "take callback: no such status")
	}
	header, err := headerText(x)
	if err != nil {
		return 0, err
	}
	key := []any{int64(x.Task), x.Leg, x.Stage, x.Processor, x.Ordinal, x.Generation, x.Try}
	args := append(append([]any{x.ID}, key...), int16(status), x.Forged, x.Size, digestBytes(x.SHA), header, textOrNull(x.Location), x.Body)
	err = pgx.BeginFunc(ctx, s.ask, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, callbackSQL, args...).Scan(&v)
		if err == nil && v == gantry.CallbackAccepted {
			_, err = tx.Exec(ctx, wakeSQL, int64(x.Task))
		}
		if err == nil && v == gantry.CallbackAlive {
			_, err = tx.Exec(ctx, aliveSQL, append(key, x.Heartbeat)...)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("take callback: %w", err)
	}
	return v, nil
}

// headerText is what is kept of a callback's header; nil where there is nothing.
func headerText(x *gantry.Received) (*string, error) {
	if len(x.Header) == 0 {
		return nil, nil
	}
	b, err := json.Marshal(x.Header)
	if err != nil {
		return nil, fmt.Errorf("keep header: %w", err)
	}
	text := string(b)
	return &text, nil
}

// Awaited says under which pipeline version a submission was made, and whether an answer to it would be
// accepted now. A task that nobody knows is NotFound with code no_task.
func (s *Store) Awaited(ctx context.Context, x gantry.Submission) (pipeline int32, awaited bool, err error) {
	err = s.ask.QueryRow(ctx, `select t.pipeline, exists (
			select from part p where p.task_id = t.id and p.leg = $2 and p.stage = $3 and p.processor = $4 and p.ordinal = $5 and p.generation = $6
			and (p.status = 0 and p.submits = $7::smallint - 1 or p.status = 1 and p.submits = $7::smallint and p.out_until > clock_timestamp()))
			and not exists (select from callback c where c.task_id = t.id and c.leg = $2 and c.stage = $3 and c.processor = $4 and c.ordinal = $5
			and c.generation = $6 and c.try = $7 and c.verdict = 0)
		from task t where t.id = $1`, int64(x.Task), x.Leg, x.Stage, x.Processor, x.Ordinal, x.Generation, x.Try).Scan(&pipeline, &awaited)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, noTask()
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for submission: %w", err)
	}
	return pipeline, awaited, nil
}

// maxHeard is how many answers of a task are given at once.
const maxHeard = 256

// answersSQL gives accepted answers of parts that have not taken them in. $1 task, $2 leg, $3 stage, $4 processor, $5 how many at most.
const answersSQL = `
select c.id, c.processor, c.ordinal, c.generation, c.try, c.status, c.size, c.sha, coalesce(c.header, ''), coalesce(c.location, ''), c.body
from part p
cross join lateral (
  select * from callback c where c.task_id = p.task_id and c.leg = p.leg and c.stage = p.stage and c.processor = p.processor and c.ordinal = p.ordinal
    and c.generation = p.generation and c.try = p.submits + case when p.status = 0 then 1 else 0 end and c.verdict = 0 offset 0) c
where p.task_id = $1 and p.leg = $2 and p.stage = $3 and p.processor = $4 and p.status < 2
order by p.ordinal limit $5`

// Answers gives how many answers came to a task as callbacks so far, and those to one of a stage's
// processors that wait to be taken in, at most 256, and when those are complete that an inbox holds. The number is read first: an answer that comes between the two is among those given, or
// makes the number another one when it is compared.
func (s *Store) Answers(ctx context.Context, task gantry.TaskID, leg, stage, processor int16) (h gantry.Heard, err error) {
	b := &pgx.Batch{}
	b.Queue(`select answers from task_hot where id = $1`, int64(task)).QueryRow(func(row pgx.Row) error { return row.Scan(&h.Count) })
	b.Queue(answersSQL, int64(task), leg, stage, processor, maxHeard).Query(func(rows pgx.Rows) (err error) {
		h.Answers, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (x gantry.Received, err error) {
			x.Task, x.Leg, x.Stage = task, leg, stage
			return x, scanAnswer(row, &x)
		})
		return err
	})
	b.Queue(dueAnswersSQL, int64(task), leg, stage, processor).Query(func(rows pgx.Rows) (err error) {
		h.Due, err = pgx.CollectRows(rows, pgx.RowToStructByPos[gantry.DueAnswer])
		return err
	})
	err = s.pool.SendBatch(ctx, b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return h, gantry.ErrFenced // the task has ended
	}
	if err != nil {
		return h, fmt.Errorf("read answers of task %d: %w", task, err)
	}
	return h, nil
}

func scanAnswer(row pgx.CollectableRow, x *gantry.Received) error {
	var sha []byte
	var header string
	var status int16
	err := row.Scan(&x.ID, &x.Processor, &x.Ordinal, &x.Generation, &x.Try, &status, &x.Size, &sha, &header, &x.Location, &x.Body)
	if err != nil {
		return err
	}
	x.Status = statuses[status]
	copy(x.SHA[:], sha)
	if header != "" {
		err = json.Unmarshal([]byte(header), &x.Header)
	}
	return err
}
