package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// askSQL asks for the end of a task and of everything that was made of it. $1 task, $2 who.
const askSQL = `
with recursive tree as (
  select id from task where id = $1 and final_state is null
  union all
  select t.id from task t join tree on t.parent = tree.id where t.final_state is null)
insert into command(task_id, verb, by)
select id, 'cancel', $2 from tree
where not exists (select from command c where c.task_id = tree.id and c.verb = 'cancel' and c.done_at is null)`

// spreadSQL asks for the end of the children of tasks that are to be cancelled: one may have been divided by
// its process between the command and its end.
const spreadSQL = `
with recursive tree as (
  select t.id, c.by from command c join task t on t.parent = c.task_id
  where c.done_at is null and c.verb = 'cancel' and t.final_state is null
  union
  select t.id, tree.by from tree join task t on t.parent = tree.id where t.final_state is null)
insert into command(task_id, verb, by)
select id, 'cancel', min(by) from tree
where not exists (select from command c where c.task_id = tree.id and c.verb = 'cancel' and c.done_at is null)
group by id`

// idleSQL ends the tasks that are to be cancelled and that no process holds, but for one with a child that
// spreadSQL has not seen yet. Those of a private lane are left to its process, which waits for them; if it is
// gone, so are they.
const idleSQL = `
with d as (
  delete from task_hot h using command c
  where c.done_at is null and c.verb = 'cancel' and h.id = c.task_id and h.phase <> 1
    and not exists (select from lane l where l.id = h.lane and l.private_worker is not null)
    and not (h.phase = 3 and exists (select from task k where k.parent = h.id and k.final_state is null
      and not exists (select from command x where x.task_id = k.id and x.verb = 'cancel' and x.done_at is null)))
  returning h.id, h.seq + 1 as seq, h.leg, h.state, h.stage, h.attempt),
t as (
  update task set final_state = 7, finished_at = clock_timestamp(), error_code = 'cancelled', error = 'an operator cancelled the task'
  from d where task.id = d.id
  returning task.parent),
n as materialized (   -- parents that are not ended with them, as in transition.sql
  select l.id, n.n from (select parent, count(*)::int as n from t where parent is not null and parent not in (select id from d) group by parent order by parent) n
  cross join lateral (select h.id from task_hot h where h.id = n.parent for no key update of h) l),
p as (
  update task_hot h set open_children = h.open_children - n.n,
    phase = case when h.phase = 3 and h.open_children <= n.n then 0 else h.phase end
  from n where h.id = n.id),
q as (delete from task_pause using d where task_pause.task_id = d.id)
insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, code)
select id, seq, leg, state, 7, stage, attempt, 0, 4, 'cancelled' from d`

// closeSQL marks the commands whose tasks have ended, however they did.
var closeSQL = `
update command c set done_at = clock_timestamp(), result = ` + fmt.Sprintf(stateNameSQL, `t.final_state`) + `
from task t where c.done_at is null and t.id = c.task_id and t.final_state is not null`

const heldSQL = `
select distinct on (h.id) h.id, c.verb, c.by, coalesce((c.args->>'pipeline')::int, 0), coalesce((c.args->>'lane')::int, 0),
  coalesce((c.args->>'within_us')::bigint, 0)
from command c join task_hot h on h.id = c.task_id
where c.done_at is null and c.verb in ('cancel', 'move', 'pause') and h.phase = 1 and h.owner = $1
order by h.id, array_position(array['cancel', 'move', 'pause'], c.verb), c.id`

// Cancel asks for the end of a task and of its children. One that nobody holds has ended when it
// returns; a process that holds one learns of it at its next heartbeat. A task that has ended already
// stays as it is.
func (s *Store) Cancel(ctx context.Context, task gantry.TaskID, by string) error {
	if _, err := s.ask.Exec(ctx, askSQL, int64(task), by); err != nil {
		return fmt.Errorf("cancel task: %w", err)
	}
	_, err := s.doIdle(ctx)
	return err
}

// Obey ends, moves and pauses the tasks of which an operator asked it and that nobody holds, and lists what is
// asked of those that w holds: of each one thing, a cancel before a move before a pause.
func (s *Store) Obey(ctx context.Context, w gantry.WorkerID) ([]gantry.Command, error) {
	if open, err := s.doIdle(ctx); err != nil || !open {
		return nil, err
	}
	rows, err := s.pool.Query(ctx, heldSQL, int64(w))
	if err != nil {
		return nil, fmt.Errorf("read commands: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (o gantry.Command, err error) {
		var within int64
		err = row.Scan(&o.Task, &o.Verb, &o.By, &o.To.Pipeline, &o.To.Lane, &within)
		o.To.Within = time.Duration(within) * time.Microsecond
		return o, err
	})
}

// Failure says where a task stands that has failed, for whoever wants to reopen it.
type Failure struct {
	State    gantry.State // that failed
	Pipeline int32        // the row of its version
	Child    bool         // it belongs to another task
	Run      bool         // it belonged to one process alone
}

// Failure reads where a task failed; ok is false if it has not.
func (s *Store) Failure(ctx context.Context, task gantry.TaskID) (f Failure, ok bool, err error) {
	err = s.ask.QueryRow(ctx, `select e.from_state, t.pipeline, t.parent is not null, t.run <> ''
		from task t join lateral (select from_state from task_event where task_id = t.id order by seq desc limit 1) e on true
		where t.id = $1 and t.final_state = 6`, int64(task)).Scan(&f.State, &f.Pipeline, &f.Child, &f.Run)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, false, nil
	}
	if err != nil {
		return f, false, fmt.Errorf("read failure: %w", err)
	}
	return f, true, nil
}
