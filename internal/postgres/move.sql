-- Moves tasks of a worker into their next leg, each fenced by (id, seq, owner). An id that does not come back was
-- fenced.
-- $1 worker; then, by task: $2 id, $3 seq, $4 from, $5 stage, $6 pipeline, $7 lane, $8 within (us), $9 kind, $10 code,
-- $11 detail.
with i as (
  select * from unnest($2::bigint[], $3::int[], $4::smallint[], $5::smallint[], $6::int[], $7::int[], $8::bigint[], $9::smallint[],
                       $10::text[], $11::text[]) as i(id, seq, f, stage, pipeline, lane, within_us, kind, code, detail)),
u as (
  update task_hot h set state = 0, stage = 0, leg = h.leg + 1, seq = h.seq + 1, phase = 0, owner = null, attempt = 0, cursor = 0,
    run_at = null, lane = i.lane, state_until = now() + i.within_us * interval '1 us'
  from i where h.id = i.id and h.seq = i.seq and h.owner = $1
  returning h.id, h.seq, h.leg, i.f, i.stage, i.pipeline, i.kind, i.code, i.detail),
t as (
  update task set pipeline = u.pipeline, leg = u.leg, delivery = task.delivery + (exists (
      select from call_intent c where c.task_id = task.id and c.leg = u.leg - 1 and c.op = 3))::int   -- a manifest is there, or may be
  from u where task.id = u.id),
c as (
  update command c set done_at = clock_timestamp(), result = 'moved'
  from u where c.task_id = u.id and c.done_at is null and c.verb = 'move'),
e as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, kind, code, detail)
  select id, seq, leg, f, 0, stage, 0, $1, 6, case when code <> '' then kind end, nullif(code, ''), nullif(detail, '') from u)
select id from u
