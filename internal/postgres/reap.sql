-- Takes dead workers off the books. Their tasks keep their states and are ready again, but for those that one
-- death too many came of: they have failed. A task that its process had only set aside was not at work when it
-- died, and is released. Units of tasks in progress go back at once; units of calls are held for as long as the
-- calls may still run.
-- $1 how many workers at most, $2 how many deaths end a task.
with dead as (
  delete from worker where id = any (array(
    select id from worker where expires_at < now() order by id limit $1 for update skip locked)) returning id),
g as (
  delete from limit_grant g using dead, limiter l
  where g.worker = dead.id and l.id = g.limiter and (l.key like 'pipeline:%' or g.units = 0)),
hold as (
  update limit_grant g set want = 0, held_until = now() + l.hold
  from dead, limiter l where g.worker = dead.id and l.id = g.limiter and l.key not like 'pipeline:%' and g.units > 0),
old as (delete from limit_grant where held_until < now()),
r as (
  update task_hot h set phase = 0, owner = null, seq = h.seq + 1, crashes = h.crashes + (not h.aside)::int
  from dead where h.phase = 1 and h.owner = dead.id and (h.aside or h.crashes + 1 < $2)
  returning h.id, h.seq, h.leg, h.state, h.stage, h.attempt, h.lane, h.aside, dead.id as worker),
d as (
  delete from task_hot h using dead
  where h.phase = 1 and h.owner = dead.id and not h.aside and h.crashes + 1 >= $2
  returning h.id, h.seq + 1 as seq, h.leg, h.state, h.stage, h.attempt, dead.id as worker),
c as (
  update task set final_state = 6, finished_at = clock_timestamp(), error_code = 'crashed', error_kind = 6,
    error = 'processes died again and again while they worked on the task; the input is kept'
  from d where task.id = d.id
  returning task.parent),
e as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, kind, code, detail)
  select id, seq, leg, state, state, stage, attempt, worker, case when aside then 3 else 9 end, null::smallint, case when aside then 'set_aside' else 'rescued' end, null::text from r
  union all
  select id, seq, leg, state, state, stage, attempt, worker, 9, null, 'rescued', null from d
  union all
  select id, seq + 1, leg, state, 6, stage, attempt, 0, 4, 6, 'crashed', 'processes died again and again while they worked on the task' from d),
n as materialized (   -- parents of what failed, as in transition.sql
  select l.id, n.n from (select parent, count(*)::int as n from c where parent is not null group by parent order by parent) n
  cross join lateral (select h.id from task_hot h where h.id = n.parent for no key update of h) l),
p as (
  update task_hot h set open_children = h.open_children - n.n,
    phase = case when h.phase = 3 and h.open_children <= n.n then 0 else h.phase end
  from n where h.id = n.id
  returning h.lane)
select lane from r union select lane from p
