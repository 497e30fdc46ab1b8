-- Commits intents of calls. An intent needs its task's lease, or before a task exists the process's own;
-- one that does not come back was fenced and its call must not be made.
-- $1 worker, $2 task ids and $3 seqs of the leases; rows name their lease by its place, 0 for none.
with f as materialized (
  select array_agg(coalesce(t.id, 0) order by w.n) as ids
  from unnest($2::bigint[], $3::int[]) with ordinality as w(id, seq, n)
  left join lateral (select h.id from task_hot h where h.id = w.id and h.seq = w.seq and h.owner = $1) t on true)
insert into call_intent(task_id, id, arrival, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg,
                        stage, processor, generation, try, items_sha)
select case when r.lease > 0 then f.ids[r.lease] else 0 end, r.id, nullif(r.arrival, 0), $1, r.limiter, r.pipeline, r.part,
       r.seq, r.item_count, r.boundary, r.op, r.leg, r.stage, r.processor, r.generation, r.try, r.items_sha
from f, unnest($4::int[], $5::uuid[], $6::bigint[], $7::int[], $8::int[], $9::int[], $10::int[], $11::int[], $12::smallint[],
               $13::smallint[], $14::smallint[], $15::smallint[], $16::smallint[], $17::smallint[], $18::smallint[], $19::bytea[]) as r
     (lease, id, arrival, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
where exists (select 1 from worker where id = $1 and expires_at > now())
  and (r.lease = 0 or f.ids[r.lease] > 0)
returning id
