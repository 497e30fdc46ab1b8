-- Hands tasks of a worker back, to nobody before they are resumed, each fenced by (id, seq, owner). One that was
-- resumed meanwhile is merely released. An id that does not come back was fenced.
-- $1 worker; then, by task: $2 id, $3 seq, $4 from, $5 stage.
with i as (select * from unnest($2::bigint[], $3::int[], $4::smallint[], $5::smallint[]) as i(id, seq, f, stage)),
u as (
  update task_hot h set seq = h.seq + 1, owner = null, aside = false,
    phase = case when exists (select from command c where c.task_id = h.id and c.done_at is null and c.verb = 'pause') then 4 else 0 end
  from i where h.id = i.id and h.seq = i.seq and h.owner = $1
  returning h.id, h.seq, h.leg, h.attempt, h.phase, i.f, i.stage),
a as materialized (
  select u.id, c.by, coalesce(c.args->>'reason', '') as reason
  from u cross join lateral (
    select by, args from command c where c.task_id = u.id and c.done_at is null and c.verb = 'pause' order by c.id limit 1) c
  where u.phase = 4),
p as (insert into task_pause(task_id, by, reason) select id, by, reason from a on conflict (task_id) do nothing),
c as (
  update command c set done_at = clock_timestamp(), result = 'paused'
  from u where c.task_id = u.id and c.done_at is null and c.verb = 'pause'),
e as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, code, detail)
  select u.id, u.seq, u.leg, u.f, u.f, u.stage, u.attempt, $1, case u.phase when 4 then 7 else 3 end, case u.phase when 4 then 'paused' end,
         'by ' || a.by || coalesce(': ' || nullif(a.reason, ''), '')
  from u left join a on a.id = u.id)
select id from u
