-- Makes the children of tasks that begin to wait in the same transaction, each fenced by its parent's lease. A
-- child that is there already stays as it is and is not counted.
-- $1 worker; by parent: $2 id, $3 seq, $4 role, $5 state that its children begin in, $6 within (us);
-- by child: $7 place of its parent, from 1, $8 public id, $9 ordinal, $10 first member, $11 members, $12 their ranges.
with f as materialized (
  select w.n, w.role, w.state, w.within_us, h.id, h.lane, h.priority, h.leg, h.state_until,
         p.arrival, p.collection, p.run, p.pipeline
  from unnest($2::bigint[], $3::int[], $4::smallint[], $5::smallint[], $6::bigint[]) with ordinality as w(id, seq, role, state, within_us, n)
  cross join lateral (select * from task_hot h where h.id = w.id and h.seq = w.seq and h.owner = $1 for no key update of h) h
  cross join lateral (select * from task p where p.id = w.id offset 0) p),
t as (
  insert into task(public_id, arrival, collection, run, parent, role, ordinal, first, count, members, pipeline, leg)
  select r.public_id, f.arrival, f.collection, f.run, f.id, f.role, r.ordinal, r.first, r.count, r.members::int4multirange, f.pipeline, f.leg
  from unnest($7::int[], $8::text[], $9::int[], $10::int[], $11::int[], $12::text[]) as r(parent, public_id, ordinal, first, count, members)
  join f on f.n = r.parent
  on conflict (public_id) do nothing
  returning id, parent),
u as (
  update task_hot h set open_children = h.open_children + n.n
  from (select parent, count(*)::int as n from t group by parent) n where h.id = n.parent)
insert into task_hot(id, lane, priority, state, leg, state_until)
select t.id, f.lane, greatest(f.priority - 1, 0), f.state, f.leg,
       case when f.within_us > 0 then now() + f.within_us * interval '1 us' else f.state_until end
from t join f on f.id = t.parent
