package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Standing says how a task stands, for whoever wants to move or pause it.
type Standing struct {
	State   gantry.State
	Phase   gantry.Phase // of one that has not ended
	Running bool         // a process works on it, or on a part of it
	Child   bool         // it belongs to another task
	Private bool         // it belongs to one process alone
	Paused  *Pausing     // nil: it is not
}

// Standing reads how a task stands.
func (s *Store) Standing(ctx context.Context, task gantry.TaskID) (x Standing, err error) {
	var p Pausing
	err = s.ask.QueryRow(ctx, `
		with recursive tree as (
		  select id from task where id = $1
		  union all
		  select t.id from task t join tree on t.parent = tree.id where t.final_state is null)
		select coalesce(h.state, t.final_state), coalesce(h.phase, 0), t.parent is not null, t.run <> '',
		  exists (select from tree join task_hot x on x.id = tree.id where x.phase = 1),
		  coalesce(p.by, ''), coalesce(p.reason, ''), coalesce(p.at, 'epoch')
		from task t left join task_hot h on h.id = t.id left join task_pause p on p.task_id = t.id where t.id = $1`, int64(task)).
		Scan(&x.State, &x.Phase, &x.Child, &x.Private, &x.Running, &p.By, &p.Reason, &p.At)
	if err != nil {
		return x, fmt.Errorf("read task: %w", err)
	}
	if p.By != "" && x.Phase == gantry.Paused {
		x.Paused = &p
	}
	return x, nil
}

// Served says that a pipeline version is what new tasks run on, and moved ones.
func (s *Store) Served(ctx context.Context, version int32) error {
	_, err := s.pool.Exec(ctx, `update pipeline_version set served_at = clock_timestamp() where id = $1`, version)
	if err != nil {
		return fmt.Errorf("record pipeline version %d: %w", version, err)
	}
	return nil
}

// Service is a pipeline as it was served last.
type Service struct {
	Version  int32 // its row
	Resolved []byte
	Limiter  int32 // of its tasks in progress
}

// LastServed finds a pipeline by its name; ok is false if none of that name was ever served here.
func (s *Store) LastServed(ctx context.Context, name string) (x Service, ok bool, err error) {
	var text string
	err = s.ask.QueryRow(ctx, `select v.id, v.resolved, l.id from pipeline_version v join limiter l on l.key = 'pipeline:' || v.name
		where v.name = $1 and v.served_at is not null order by v.served_at desc limit 1`, name).Scan(&x.Version, &text, &x.Limiter)
	if errors.Is(err, pgx.ErrNoRows) {
		return x, false, nil
	}
	if err != nil {
		return x, false, fmt.Errorf("find pipeline %s: %w", name, err)
	}
	x.Resolved = []byte(text)
	return x, true, nil
}

// passageArgs is a Passage as a command holds it.
type passageArgs struct {
	Pipeline int32 `json:"pipeline"`
	Lane     int32 `json:"lane"`
	Within   int64 `json:"within_us"`
}

// askOneSQL asks something of one task, once. $1 task, $2 verb, $3 who, $4 how.
const askOneSQL = `
insert into command(task_id, verb, by, args) select id, $2, $3, $4::jsonb from task
where id = $1 and final_state is null
  and not exists (select from command c where c.task_id = $1 and c.verb = $2 and c.done_at is null)`

// reenterSQL moves a task that failed. $1 task, $2 pipeline, $3 lane, $4 within (us), $5 priority, $6 why.
const reenterSQL = `
with t as (
  update task set final_state = null, finished_at = null, error_code = null, error_kind = null, error = null, pipeline = $2, leg = leg + 1,
    delivery = delivery + (exists (select from call_intent c where c.task_id = task.id and c.leg = task.leg and c.op = 3))::int
  where id = $1 and final_state = 6
  returning id, leg),
e as (
  select t.id, t.leg, l.seq + 1 as seq, l.stage,
    (select count(*) from task_event x where x.task_id = t.id and x.change = 9)::smallint as crashes
  from t cross join lateral (select seq, stage from task_event where task_id = t.id order by seq desc limit 1) l),
v as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, code, detail)
  select id, seq, leg, 6, 0, stage, 0, 0, 6, 'moved', $6 from e)
insert into task_hot(id, seq, leg, crashes, priority, lane, state_until)
select id, seq, leg, crashes, $5, $3, now() + $4 * interval '1 us' from e`

// Move asks that a task that has not ended begin its next leg: one that nobody holds has begun it when Move
// returns, once its children are ended; a process that holds it learns of it at its next heartbeat.
func (s *Store) Move(ctx context.Context, task gantry.TaskID, to gantry.Passage, by string) error {
	args, err := json.Marshal(passageArgs{to.Pipeline, to.Lane, micros(to.Within)})
	if err == nil {
		_, err = s.ask.Exec(ctx, askOneSQL, int64(task), gantry.VerbMove, by, string(args))
	}
	if err != nil {
		return fmt.Errorf("move task: %w", err)
	}
	_, err = s.doIdle(ctx)
	return err
}

// Reenter begins the next leg of a task that failed. False means that it had not failed any more.
func (s *Store) Reenter(ctx context.Context, task gantry.TaskID, to gantry.Passage, priority int16, by string) (bool, error) {
	tag, err := s.ask.Exec(ctx, reenterSQL, int64(task), to.Pipeline, to.Lane, micros(to.Within), priority, "by "+by)
	if err == nil && tag.RowsAffected() == 1 {
		err = s.Notify(ctx, fmt.Sprint(to.Lane))
	}
	if err != nil {
		return false, fmt.Errorf("move task: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// scatterSQL asks for the end of the children of tasks that are to be moved.
const scatterSQL = `
with recursive tree as (
  select t.id, c.by from command c join task t on t.parent = c.task_id
  where c.done_at is null and c.verb = 'move' and t.final_state is null
  union
  select t.id, tree.by from tree join task t on t.parent = tree.id where t.final_state is null)
insert into command(task_id, verb, by)
select id, 'cancel', min(by) from tree
where not exists (select from command c where c.task_id = tree.id and c.verb = 'cancel' and c.done_at is null)
group by id`

// keepSQL keeps a task that is to be moved from going on when the last of its children ends: it is paused, aside
// telling that by nobody's wish.
const keepSQL = `
with l as materialized (
  select h.id from (select distinct task_id from command where done_at is null and verb = 'move' order by task_id) c
  cross join lateral (select h.id from task_hot h where h.id = c.task_id and h.phase = 3 for update of h) h)
update task_hot h set phase = 4, aside = true from l where h.id = l.id`

// moveIdleSQL moves the tasks that nobody holds and that have no open children. One that is paused is paused in
// its next leg. Whether it is says the row that was locked, since another table would be read as it was before.
const moveIdleSQL = `
with i as materialized (
  select h.id, h.state, h.stage, h.phase = 4 and not h.aside as paused, c.by, (c.args->>'pipeline')::int as pipeline, (c.args->>'lane')::int as lane, (c.args->>'within_us')::bigint as within_us
  from (select distinct on (task_id) task_id, by, args from command where done_at is null and verb = 'move' order by task_id, id) c
  cross join lateral (select h.id, h.state, h.stage, h.phase, h.aside from task_hot h
    where h.id = c.task_id and h.phase <> 1 and h.open_children = 0 for update of h) h),
u as (
  update task_hot h set state = 0, stage = 0, leg = h.leg + 1, seq = h.seq + 1, attempt = 0, cursor = 0, run_at = null,
    phase = case when i.paused then 4 else 0 end, aside = false, lane = i.lane, state_until = now() + i.within_us * interval '1 us'
  from i where h.id = i.id
  returning h.id, h.seq, h.leg, h.lane, i.state, i.stage, i.pipeline, i.by),
t as (
  update task set pipeline = u.pipeline, leg = u.leg, delivery = task.delivery + (exists (
      select from call_intent c where c.task_id = task.id and c.leg = u.leg - 1 and c.op = 3))::int
  from u where task.id = u.id),
p as (update task_pause p set at = now() from u where p.task_id = u.id),
c as (
  update command c set done_at = clock_timestamp(), result = 'moved'
  from u where c.task_id = u.id and c.done_at is null and c.verb = 'move'),
e as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, code, detail)
  select id, seq, leg, state, 0, stage, 0, 0, 6, 'moved', 'by ' || by from u)
select lane from u`
