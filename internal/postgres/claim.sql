-- Claims up to k ready tasks of each lane for a worker whose lease still runs, of new shards one alone: each is
-- long work, and is to be shared with the processes that look a moment later. Only shards are new at inferring (3).
-- So is one that two processes died of, which besides is claimed aside: it is not begun before it is alone in
-- its process.
-- $1 lanes, $2 k of each, $3 worker.
--
-- "= any (array(...))" and not "from c": with a join the planner cannot see k, expects a tenth of the
-- table and scans it whole on every claim. "materialized" keeps the single evaluation that SKIP LOCKED
-- with LIMIT needs.
with c as materialized (
  select r.id, r.shard
  from unnest($1::int[], $2::int[]) as w(lane, k)
  cross join lateral (
    select id, state = 3 and seq = 0 or crashes >= 2 as shard from task_hot
    where phase = 0 and lane = w.lane
    order by priority, id
    limit w.k
    for update skip locked) r),
u as (
  update task_hot h set phase = 1, owner = $3, seq = h.seq + 1, aside = h.crashes >= 2
  where h.id = any (array(select id from c where not shard union all (select id from c where shard limit 1)))
    and exists (select 1 from worker where id = $3 and expires_at > now())
  returning h.*)
select u.id, u.seq, u.state, u.stage, u.leg, u.attempt, u.crashes, u.priority, u.lane, u.cursor,
       coalesce(extract(epoch from u.state_until - now()), 0)::float8 as remaining,
       t.public_id, t.pipeline, t.delivery, t.created_at, coalesce(t.parent, 0), t.role, t.ordinal
from u join task t on t.id = u.id
order by u.priority, u.id
