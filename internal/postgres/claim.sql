-- Claims up to k ready tasks of each lane for a worker whose lease still runs, of new shards one alone: each is
-- long work, and is to be shared with the processes that look a moment later. Only shards are new at inferring (3).
-- So is one that two processes died of, which besides is claimed aside: it is not begun before it is alone in
-- its process.
-- $1 lanes, $2 k of each, $3 worker, $4 the least urgent priority that is taken of each, $5 how many of each k go to
-- the oldest tasks, so that none starves; $6 the lanes whose queued tasks are begun by their claim. The oldest are found by
-- one look at the beginning of each priority: an index by age would be written by every claim. "between p and p order by
-- priority" and not "= p": else the planner may read the whole table in the order of its key, where it believes that most
-- tasks are of one priority.
--
-- $7 and $8 are the front of each lane's queue (fronts.go), a priority and an id: nothing of that priority is looked for before that id. What was claimed
-- before leaves its entries in the index until it is vacuumed, which a long transaction anywhere in the database puts off, and each claim
-- would go through all of them. The three ranges are that priority, and what is before and after it, of which all is looked at.
--
-- A task that waits in its queue for nothing but a process is begun here, by the transition that would come next in any
-- case: a commit and a write of its row less. That is no task whose time in the queue is over, of an off-peak priority,
-- which changes as it is begun, or that is claimed aside.
--
-- "= any (array(...))" and not "from c": with a join the planner cannot see k, expects a tenth of the
-- table and, where a claim has one range, scans it whole (plan_test.go). "materialized" keeps the single evaluation that SKIP LOCKED
-- with LIMIT needs.
with w as (
  select * from unnest($1::int[], $2::int[], $4::smallint[], $5::int[], $7::smallint[], $8::bigint[]) as w(lane, k, upto, aged, front, front_id)),
o as materialized (
  select id, lane, state = 3 and seq = 0 or crashes >= 2 as shard,
    state = 0 and crashes < 2 and priority < 8 and lane = any ($6::int[]) and state_until > now() is not false as begun
  from task_hot
  where phase = 0 and id = any (array(
    select r.id from w cross join lateral (
      select h.id from generate_series(0, w.upto) p cross join lateral (
        select id from task_hot where phase = 0 and lane = w.lane and priority between p and p
          and id >= case when p = w.front then w.front_id else 0 end order by priority, id limit w.aged) h
      order by h.id limit w.aged) r
    where w.aged > 0))
  for update skip locked),
c as materialized (
  select id, shard, begun from o
  union all
  select r.id, r.shard, r.begun from w
  cross join lateral (
    select q.* from (values (0, w.front - 1, 0::bigint), (w.front, w.front, w.front_id), (w.front + 1, 9, 0)) as s(low, high, first)
    cross join lateral (
      select id, state = 3 and seq = 0 or crashes >= 2 as shard,
        state = 0 and crashes < 2 and priority < 8 and lane = any ($6::int[]) and state_until > now() is not false as begun
      from task_hot
      where phase = 0 and lane = w.lane and priority between s.low and least(s.high, w.upto) and id >= s.first and id <> all (array(select id from o))
      order by priority, id
      limit w.k
      for update skip locked) q
    limit w.k - (select count(*) from o where o.lane = w.lane)) r),
u as (
  update task_hot h set phase = 1, owner = $3, seq = h.seq + 1, aside = h.crashes >= 2
  where h.id = any (array(select id from c where not shard and not begun union all (select id from c where shard limit 1)))
    and exists (select 1 from worker where id = $3 and expires_at > now())
  returning h.*),
b as (
  update task_hot h set phase = 1, owner = $3, seq = h.seq + 2, aside = false, state = 1, attempt = 0,
    state_until = case when (select exists (select from pipeline_version where extracting_us > 0))
      then coalesce((select now() + v.extracting_us * interval '1 us' from task t join pipeline_version v on v.id = t.pipeline and v.extracting_us > 0
                     where t.id = h.id), h.state_until)
      else h.state_until end
  where h.id = any (array(select id from c where begun))
    and exists (select 1 from worker where id = $3 and expires_at > now())
  returning h.*),
e as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change)
  select id, seq, leg, 0, 1, stage, 0, $3, 0 from b)
select u.id, u.seq, u.state, u.stage, u.leg, u.attempt, u.crashes, u.priority, u.lane, u.cursor,
       coalesce(extract(epoch from u.state_until - now()), 0)::float8 as remaining,
       t.public_id, t.pipeline, t.delivery, t.created_at, coalesce(t.parent, 0), t.role, t.ordinal, u.begun
from (select u.*, false as begun from u union all select b.*, true from b) u join task t on t.id = u.id
order by u.priority, u.id
