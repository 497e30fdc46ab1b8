-- Commits a batch of transitions, each fenced by (id, seq, owner). An id that does not come back was fenced.
-- Only batches in which a child ends have the section of parents.
-- $1 worker; then, by transition: $2 id, $3 seq, $4 from, $5 to, $6 stage, $7 change, $8 after (us),
-- $9 within (us), $10 kind, $11 code, $12 detail, $13 priority from now on, below 0 for as it is: a change of it is
-- never HOT, since the ready index holds it, so it is set once or twice in a task's life; $14 heard; $15 the last of
-- the items that were committed just before, in this transaction, below 0 where there are none.
-- change: 0 advance, 1 retry, 2 park, 3 release, 4 end, 5 wait: ready at once where no child is open.
--
-- A task that is parked to wait for answers must not miss one that comes at this moment. Whoever takes an answer commits
-- its row together with answers + 1 on the hot row, and a run_at if it finds the task parked; the count that its process saw
-- comes here as heard - 1. The comparison is on the hot row itself: if the other commit is first, this update waits for
-- the row and is evaluated again on its new version (EvalPlanQual), and the counts differ; if this one is first, the other
-- waits and then finds phase 2. A count read from anywhere else, or in a statement before, would be that of an old snapshot.
--
-- Items and their transition are fenced each when its statement runs: a lease that has run out holds no items, and still
-- holds a transition until the task is rescued. So a transition that items go with is made only if the last of them is
-- there. They are inserted all or none, and what is there of an extraction before is the same.

-- section: moves
with i as (
  select * from unnest($2::bigint[], $3::int[], $4::smallint[], $5::smallint[], $6::smallint[], $7::smallint[],
                       $8::bigint[], $9::bigint[], $10::smallint[], $11::text[], $12::text[], $13::smallint[], $14::int[], $15::int[])
    as i(id, seq, f, t, stage, change, after_us, within_us, kind, code, detail, priority, heard, item)),
u as (
  update task_hot h set
    state       = i.t,
    stage       = i.stage,
    seq         = h.seq + 1,
    phase       = case i.change when 0 then 1 when 1 then 2 when 2 then 2 when 5 then case when h.open_children > 0 then 3 else 0 end else 0 end,
    owner       = case i.change when 0 then h.owner end,
    attempt     = case i.change when 0 then 0 when 1 then h.attempt + 1 else h.attempt end,
    priority    = case when i.priority >= 0 then i.priority else h.priority end,
    cursor      = case i.change when 0 then 0 else h.cursor end,
    run_at      = case when i.change = 2 and i.heard > 0 and h.answers <> i.heard - 1 then now()
                       when i.change in (1, 2) then now() + i.after_us * interval '1 us' else h.run_at end,
    state_until = case when i.change in (0, 3, 5) and i.within_us > 0 then now() + i.within_us * interval '1 us' else h.state_until end
  from i
  where i.change <> 4 and h.id = i.id and h.seq = i.seq and h.owner = $1
    and (i.item < 0 or exists (select from item x where x.task_id = i.id and x.leg = h.leg and x.id = i.item offset 0))
  returning h.id, h.seq, h.leg, h.attempt, i.f, i.t, i.stage, i.change, i.kind, i.code, i.detail),
d as (
  delete from task_hot h using i
  where i.change = 4 and h.id = i.id and h.seq = i.seq and h.owner = $1
  returning h.id, h.seq + 1 as seq, h.leg, h.attempt, i.f, i.t, i.stage, i.change, i.kind, i.code, i.detail),
c as (
  update task set final_state = d.t, finished_at = clock_timestamp(),
    error_code = case when d.t <> 5 then nullif(d.code, '') end, error_kind = case when d.t = 6 then d.kind end, error = case when d.t <> 5 then nullif(d.detail, '') end
  from d where task.id = d.id
  returning task.parent),
x as (select * from u union all select * from d),
e as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, kind, code, detail)
  select id, seq, leg, f, t, stage, attempt, $1, change, case when code <> '' then kind end, nullif(code, ''), nullif(detail, '') from x)

-- section: parents of the children that ended just now, not of those whose end was fenced. They are locked in the
-- order of their ids, so that two batches never wait for one another, and keep their seq: they are nobody's.
g as materialized (
  select l.id, n.n from (select parent, count(*)::int as n from c where parent is not null group by parent order by parent) n
  cross join lateral (select h.id from task_hot h where h.id = n.parent for no key update of h) l),
p as (
  update task_hot h set open_children = h.open_children - g.n,
    phase = case when h.phase = 3 and h.open_children <= g.n then 0 else h.phase end
  from g where h.id = g.id)

-- section: answer
select id from x
