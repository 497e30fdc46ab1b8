-- Commits what effects found and how calls ended: items, marks on items, planned parts, results of parts,
-- cursors, outcomes. All but outcomes is fenced by the tasks' leases: the first step locks the hot rows that
-- still stand as ($2, $3, $1) says, so that a rescue can neither slip between the check and the rows nor be
-- overtaken. An outcome is a fact and always lands; if its task has gone to another process meanwhile it is
-- marked fenced (3). Lookups by key are written so that no plan can read a table whole, however little the
-- statistics know. What comes back says for each lease whether it held: the task's id, or 0.
-- $1 worker, $2 task ids, $3 seqs, $4 cursors (0: leave it); rows name their lease by its place, 0 for none.
with f as materialized (
  select array_agg(coalesce(t.id, 0) order by w.n) as ids
  from unnest($2::bigint[], $3::int[]) with ordinality as w(id, seq, n)
  left join lateral (select h.id from task_hot h where h.id = w.id and h.seq = w.seq and h.owner = $1
                     for no key update of h) t on true),
k as (
  update task_hot h set cursor = w.cursor
  from f, unnest($4::bigint[]) with ordinality as w(cursor, n)
  where w.cursor > 0 and h.id = f.ids[w.n]),
i as (
  insert into item(task_id, id, parent, origin, ordinal, part, leg, stage, processor, generation, rejected, size,
                   media, transform, locator, location, reason, name, sha, body)
  select f.ids[r.lease], r.id, r.parent, r.origin, r.ordinal, r.part, r.leg, r.stage, r.processor, r.generation, r.rejected, r.size,
         r.media, r.transform, r.locator, r.location, r.reason, r.name, r.sha, r.body
  from f, unnest($5::int[], $6::int[], $7::int[], $8::int[], $9::int[], $10::int[], $11::smallint[], $12::smallint[],
                 $13::smallint[], $14::smallint[], $15::bool[], $16::bigint[], $17::text[], $18::text[], $19::text[],
                 $20::text[], $21::text[], $22::text[], $23::bytea[], $24::bytea[]) as r
       (lease, id, parent, origin, ordinal, part, leg, stage, processor, generation, rejected, size,
        media, transform, locator, location, reason, name, sha, body)
  where f.ids[r.lease] > 0
    and not exists (select from item x where x.task_id = f.ids[r.lease] and x.id = r.id offset 0)),   -- a second extraction
m as (
  update item set sha = coalesce(item.sha, r.sha), size = r.size, reason = r.reason, rejected = r.rejected
  from f, unnest($25::int[], $26::int[], $27::bytea[], $28::bigint[], $29::text[], $30::bool[]) as r(lease, id, sha, size, reason, rejected)
  where item.task_id = f.ids[r.lease] and item.id = r.id),
n as (
  insert into part(task_id, leg, stage, processor, ordinal, generation, first, count)
  select f.ids[r.lease], r.leg, r.stage, r.processor, r.ordinal, r.generation, r.first, r.count
  from f, unnest($31::int[], $32::smallint[], $33::smallint[], $34::smallint[], $35::int[], $36::smallint[], $37::int[], $38::int[]) as r
       (lease, leg, stage, processor, ordinal, generation, first, count)
  where f.ids[r.lease] > 0
    and not exists (select from part x where x.task_id = f.ids[r.lease] and x.leg = r.leg and x.stage = r.stage   -- planned again
      and x.processor = r.processor and x.ordinal = r.ordinal and x.generation = r.generation offset 0)),
p as (
  update part p set status = r.status, attempt = r.attempt, reason = nullif(r.reason, ''),
    due = case when r.due_us >= 0 then now() + r.due_us * interval '1 us' end
  from f, unnest($39::int[], $40::smallint[], $41::smallint[], $42::smallint[], $43::int[], $44::smallint[], $45::smallint[],
                 $46::smallint[], $47::bigint[], $48::text[]) as r
       (lease, leg, stage, processor, ordinal, generation, status, attempt, due_us, reason)
  where p.task_id = f.ids[r.lease] and p.leg = r.leg and p.stage = r.stage and p.processor = r.processor
    and p.ordinal = r.ordinal and p.generation = r.generation and p.status < 2),
o as (
  insert into call_outcome(task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind,
                           req_sha, resp_sha, error_code)
  select r.task_id, r.id, r.sent_us, r.ttfb_us, r.took_us, r.req_size, r.resp_size, r.limiter, r.status,
         case when r.lease > 0 and f.ids[r.lease] = 0 then 3 else r.result end, r.kind, r.req_sha, r.resp_sha, nullif(r.error_code, '')
  from f, unnest($49::int[], $50::bigint[], $51::uuid[], $52::bigint[], $53::bigint[], $54::bigint[], $55::bigint[], $56::bigint[],
                 $57::int[], $58::int[], $59::smallint[], $60::smallint[], $61::bytea[], $62::bytea[], $63::text[]) as r
       (lease, task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind, req_sha, resp_sha, error_code)
  on conflict do nothing)                                                                              -- written again after a lost commit
select coalesce(ids, '{}') from f
