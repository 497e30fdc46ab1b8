package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Pausing says who paused a task, when, and why.
type Pausing struct {
	By     string    `json:"by"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// spreadPauseSQL asks for a pause of the children of tasks that are paused, or to be.
const spreadPauseSQL = `
with recursive tree as (
  select t.id, c.by, c.args from (
    select task_id, by, args from command where done_at is null and verb = 'pause'
    union all
    select task_id, by, jsonb_build_object('reason', reason) from task_pause) c
  join task t on t.parent = c.task_id where t.final_state is null
  union
  select t.id, tree.by, tree.args from tree join task t on t.parent = tree.id where t.final_state is null)
insert into command(task_id, verb, by, args)
select distinct on (id) id, 'pause', by, args from tree
where not exists (select from command c where c.task_id = tree.id and c.verb = 'pause' and c.done_at is null)
  and not exists (select from task_pause p where p.task_id = tree.id)
order by id`

// pauseIdleSQL pauses the tasks that nobody holds; one that is paused stays as it is.
const pauseIdleSQL = `
with i as materialized (
  select h.*, c.by, coalesce(c.args->>'reason', '') as reason
  from (select distinct on (task_id) task_id, by, args from command where done_at is null and verb = 'pause' order by task_id, id) c
  cross join lateral (select h.id, h.state, h.stage, h.leg, h.attempt from task_hot h
    where h.id = c.task_id and h.phase <> 1 for update of h) h),
p as (insert into task_pause(task_id, by, reason) select id, by, reason from i on conflict (task_id) do nothing returning task_id),
u as (
  update task_hot h set phase = 4, aside = false, seq = h.seq + 1 from i join p on p.task_id = i.id where h.id = i.id
  returning h.id, h.seq, i.state, i.stage, i.leg, i.attempt, i.by, i.reason),
c as (
  update command c set done_at = clock_timestamp(), result = 'paused'
  from i where c.task_id = i.id and c.done_at is null and c.verb = 'pause')
insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, code, detail)
select id, seq, leg, state, state, stage, attempt, 0, 7, 'paused', 'by ' || by || coalesce(': ' || nullif(reason, ''), '') from u`

// resumeTree lets tasks go on, each with the time that it had left in its state when it was paused. $1 who.
const resumeTree = `
l as materialized (
  select h.id from (select id from tree order by id) x cross join lateral (
    select h.id from task_hot h where h.id = x.id and h.phase = 4 and not h.aside for update of h) h),
c as (
  update command c set done_at = clock_timestamp(), result = 'resumed'
  from tree where c.task_id = tree.id and c.done_at is null and c.verb = 'pause'
    and (select count(*) from l) >= 0   -- tasks are locked before commands, by everybody
  returning c.task_id),
p as (delete from task_pause p using l where p.task_id = l.id returning p.task_id, p.at),
u as (
  update task_hot h set seq = h.seq + 1, state_until = h.state_until + (now() - p.at),
    phase = case when h.open_children > 0 then 3 when h.run_at > now() then 2 else 0 end
  from p where h.id = p.task_id
  returning h.id, h.seq, h.leg, h.state, h.stage, h.attempt, h.lane),
e as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, code, detail)
  select id, seq, leg, state, state, stage, attempt, 0, 12, 'resumed', 'by ' || $1 from u)
select (select count(*) from c) + (select count(*) from p), coalesce((select array_agg(distinct lane) from u), '{}')`

// resumeSQL lets a task go on, and what it was divided into. $2 task.
const resumeSQL = `
with recursive tree as (
  select id from task where id = $2 and final_state is null
  union all
  select t.id from task t join tree on t.parent = tree.id where t.final_state is null),` + resumeTree

// followSQL lets children go on whose parents do: a pause may reach a child after the end of its parent's.
const followSQL = `
with tree as (
  select t.id from task_pause p join task t on t.id = p.task_id
  where t.parent is not null and not exists (select from task_pause q where q.task_id = t.parent)
    and not exists (select from command c where c.task_id = t.parent and c.done_at is null and c.verb = 'pause')),` + resumeTree

// Pause asks that nothing be done for a task and for what it was divided into. What nobody holds is paused when
// Pause returns; a process that holds one breaks it off at its next heartbeat.
func (s *Store) Pause(ctx context.Context, task gantry.TaskID, by, reason string) error {
	args, err := json.Marshal(map[string]string{"reason": reason})
	if err == nil {
		_, err = s.ask.Exec(ctx, askOneSQL, int64(task), gantry.VerbPause, by, string(args))
	}
	if err != nil {
		return fmt.Errorf("pause task: %w", err)
	}
	_, err = s.doIdle(ctx)
	return err
}

// Resume lets a task go on, with what it was divided into. False means that it neither is paused nor was to be.
func (s *Store) Resume(ctx context.Context, task gantry.TaskID, by string) (bool, error) {
	var n int
	var lanes []int32
	err := pgx.BeginFunc(ctx, s.ask, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, oneOperatorSQL); err != nil {
			return err
		}
		return tx.QueryRow(ctx, resumeSQL, by, int64(task)).Scan(&n, &lanes)
	})
	if err == nil && len(lanes) > 0 {
		err = s.Notify(ctx, strings.Trim(strings.Join(strings.Fields(fmt.Sprint(lanes)), ","), "[]"))
	}
	if err != nil {
		return false, fmt.Errorf("resume task: %w", err)
	}
	return n > 0, nil
}
