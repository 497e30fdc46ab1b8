-- Commits intents of calls, what effects found and how calls ended. Only the sections that have rows are put together to a
-- statement; each numbers its own parameters from $1, the rows' columns, and rows name their lease by its
-- place, 0 for none. All but outcomes is fenced by the tasks' leases. The first section locks the worker's own
-- row, once for the whole batch, so that a rescue, which begins with the deletion of that row, can neither slip
-- between the check and the rows nor be overtaken: nobody else changes seq or owner of a task that it holds. A
-- lease that has run out holds nothing more, lest a process that commits without pause never be rescued. Lookups by key are
-- written so that no plan can read a table whole, however little the statistics know: what is updated is joined with one
-- relation that has all of the key ("offset 0" keeps it one), not with the leases and the rows, of which each has a part.
-- What comes back says for each lease whether it held, the task's id or 0, and whether the process's own does.

-- section: held. $1 worker
with me as materialized (select id from worker where id = $1 and expires_at > now() for key share)

-- section: alone. $1 worker. Intents alone need no lock: what they begin is looked at again before it is sent, and the lock is written
-- to the log.
with me as materialized (select id from worker where id = $1 and expires_at > now())

-- section: leases. $1 task ids, $2 seqs
f as materialized (
  select array(select coalesce((select h.id from task_hot h where h.id = w.id and h.seq = w.seq and h.owner = (select id from me)), 0)
    from unnest($1::bigint[], $2::int[]) with ordinality as w(id, seq, n) order by w.n) as ids)

-- section: cursors, by lease; 0 leaves it
k as (
  update task_hot h set cursor = w.cursor
  from (select f.ids[w.n] as id, w.cursor from f, unnest($1::bigint[]) with ordinality as w(cursor, n) where w.cursor > 0 offset 0) w
  where h.id = w.id)

-- section: items. One that is there comes from an extraction that is repeated after a crash.
i as (
  insert into item(task_id, id, parent, origin, ordinal, part, leg, stage, processor, generation, rejected, size,
                   media, transform, locator, location, reason, name, sha, body)
  select f.ids[r.lease], r.id, r.parent, r.origin, r.ordinal, r.part, r.leg, r.stage, r.processor, r.generation, r.rejected, r.size,
         r.media, r.transform, r.locator, r.location, r.reason, r.name, r.sha, r.body
  from f, unnest($1::int[], $2::int[], $3::int[], $4::int[], $5::int[], $6::int[], $7::smallint[], $8::smallint[],
                 $9::smallint[], $10::smallint[], $11::bool[], $12::bigint[], $13::text[], $14::text[], $15::text[],
                 $16::text[], $17::text[], $18::text[], $19::bytea[], $20::bytea[]) as r
       (lease, id, parent, origin, ordinal, part, leg, stage, processor, generation, rejected, size,
        media, transform, locator, location, reason, name, sha, body)
  where f.ids[r.lease] > 0
    and not exists (select from item x where x.task_id = f.ids[r.lease] and x.leg = r.leg and x.id = r.id offset 0))

-- section: marks on items of the task's leg. Those of a child are on the items of the task that it is a part of: owner, or 0 for its own.
m as (
  update item set sha = coalesce(item.sha, r.sha), size = r.size, reason = r.reason, rejected = r.rejected
  from (
    select coalesce(nullif(r.owner, 0), f.ids[r.lease]) as task_id, (select h.leg from task_hot h where h.id = f.ids[r.lease]) as leg, r.*
    from f, unnest($1::int[], $2::bigint[], $3::int[], $4::bytea[], $5::bigint[], $6::text[], $7::bool[]) as r(lease, owner, id, sha, size, reason, rejected)
    where f.ids[r.lease] > 0 offset 0) r
  where item.task_id = r.task_id and item.leg = r.leg and item.id = r.id)

-- section: plans of parts, with those that are skipped. To plan again changes nothing.
n as (
  insert into part(task_id, leg, stage, processor, ordinal, generation, first, count, status)
  select f.ids[r.lease], r.leg, r.stage, r.processor, r.ordinal, r.generation, r.first, r.count, r.status
  from f, unnest($1::int[], $2::smallint[], $3::smallint[], $4::smallint[], $5::int[], $6::smallint[], $7::int[], $8::int[], $9::smallint[]) as r
       (lease, leg, stage, processor, ordinal, generation, first, count, status)
  where f.ids[r.lease] > 0
    and not exists (select from part x where x.task_id = f.ids[r.lease] and x.leg = r.leg and x.stage = r.stage
      and x.processor = r.processor and x.ordinal = r.ordinal and x.generation = r.generation offset 0))

-- section: parts that were planned, as they are now. One that has ended stays as it is. None of them is out any more.
p as (
  update part p set status = r.status, attempt = r.attempt, asked = r.asked, reason = nullif(r.reason, ''), submits = r.submits,
    due = case when r.due_us >= 0 then now() + r.due_us * interval '1 us' end,
    out_limiter = null, out_until = null, out_deadline = null, ticket = null, token_sha = null
  from (
    select f.ids[r.lease] as task_id, r.*
    from f, unnest($1::int[], $2::smallint[], $3::smallint[], $4::smallint[], $5::int[], $6::smallint[], $7::smallint[],
                   $8::smallint[], $9::bigint[], $10::text[], $11::smallint[], $12::smallint[]) as r
         (lease, leg, stage, processor, ordinal, generation, status, attempt, due_us, reason, asked, submits)
    where f.ids[r.lease] > 0 offset 0) r
  where p.task_id = r.task_id and p.leg = r.leg and p.stage = r.stage and p.processor = r.processor
    and p.ordinal = r.ordinal and p.generation = r.generation and p.status < 2)

-- section: outs. Parts that are out now, or still. From the first time on the deadline of one stands.
t as (
  update part p set status = 1, submits = r.submits, ticket = r.ticket, token_sha = r.token, out_limiter = r.limiter,
    due = case when r.due_us >= 0 then now() + r.due_us * interval '1 us' end,
    out_deadline = coalesce(p.out_deadline, now() + r.left_us * interval '1 us'),
    out_until = least(coalesce(p.out_deadline, now() + r.left_us * interval '1 us'), greatest(p.out_until, now() + r.for_us * interval '1 us'))
  from (
    select f.ids[r.lease] as task_id, r.*
    from f, unnest($1::int[], $2::smallint[], $3::smallint[], $4::smallint[], $5::int[], $6::smallint[], $7::smallint[],
                   $8::bigint[], $9::text[], $10::int[], $11::bigint[], $12::bigint[], $13::bytea[]) as r
         (lease, leg, stage, processor, ordinal, generation, submits, due_us, ticket, limiter, for_us, left_us, token)
    where f.ids[r.lease] > 0 offset 0) r
  where p.task_id = r.task_id and p.leg = r.leg and p.stage = r.stage and p.processor = r.processor
    and p.ordinal = r.ordinal and p.generation = r.generation and p.status < 2)

-- section: intents. One needs its task's lease, or before a task exists the process's own.
c as (
  insert into call_intent(task_id, id, arrival, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg,
                          stage, processor, generation, try, items_sha)
  select case when r.lease > 0 then f.ids[r.lease] else 0 end, r.id, nullif(r.arrival, 0), me.id, r.limiter, r.pipeline, r.part,
         r.seq, r.item_count, r.boundary, r.op, r.leg, r.stage, r.processor, r.generation, r.try, r.items_sha
  from f, me, unnest($1::int[], $2::uuid[], $3::bigint[], $4::int[], $5::int[], $6::int[], $7::int[], $8::int[], $9::smallint[],
                     $10::smallint[], $11::smallint[], $12::smallint[], $13::smallint[], $14::smallint[], $15::smallint[], $16::bytea[]) as r
       (lease, id, arrival, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
  where r.lease = 0 or f.ids[r.lease] > 0)

-- section: outcomes. Each is a fact and always lands; where the lease no longer holds it is marked fenced (3), but for
-- that of a call that never left (2): nothing came of it that could be.
o as (
  insert into call_outcome(task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind,
                           req_sha, resp_sha, error_code)
  select r.task_id, r.id, r.sent_us, r.ttfb_us, r.took_us, r.req_size, r.resp_size, r.limiter, r.status,
         case when r.lease > 0 and f.ids[r.lease] = 0 and r.result <> 2 then 3 else r.result end, r.kind, r.req_sha, r.resp_sha, nullif(r.error_code, '')
  from f, unnest($1::int[], $2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                 $9::int[], $10::int[], $11::smallint[], $12::smallint[], $13::bytea[], $14::bytea[], $15::text[]) as r
       (lease, task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind, req_sha, resp_sha, error_code))

-- section: answer
select ids, exists (select from me) from f
