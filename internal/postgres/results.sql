-- Commits what effects found: items, marks on items, planned parts, results of parts, cursors. All of it is
-- fenced by the tasks' leases: the first step locks the hot rows that still stand as ($2, $3, $1) says, so
-- that a rescue can neither slip between the check and the rows nor be overtaken.
-- $1 worker, $2 task ids, $3 seqs, $4 cursors (0: leave it).
with f as materialized (
  select h.id, w.cursor as new_cursor
  from unnest($2::bigint[], $3::int[], $4::bigint[]) as w(id, seq, cursor)
  join task_hot h on h.id = w.id and h.seq = w.seq and h.owner = $1
  for no key update of h),
k as (
  update task_hot h set cursor = f.new_cursor from f where f.new_cursor > 0 and h.id = f.id),
i as (
  insert into item(task_id, id, parent, origin, ordinal, part, leg, stage, processor, generation, rejected, size,
                   media, transform, locator, location, reason, name, sha, body)
  select r.* from unnest($5::bigint[], $6::int[], $7::int[], $8::int[], $9::int[], $10::int[], $11::smallint[], $12::smallint[],
                         $13::smallint[], $14::smallint[], $15::bool[], $16::bigint[], $17::text[], $18::text[], $19::text[],
                         $20::text[], $21::text[], $22::text[], $23::bytea[], $24::bytea[]) as r
         (task_id, id, parent, origin, ordinal, part, leg, stage, processor, generation, rejected, size,
          media, transform, locator, location, reason, name, sha, body)
  join f on f.id = r.task_id
  on conflict do nothing),
m as (
  update item set sha = coalesce(item.sha, r.sha), size = r.size, reason = r.reason, rejected = r.rejected
  from unnest($25::bigint[], $26::int[], $27::bytea[], $28::bigint[], $29::text[], $30::bool[]) as r(task_id, id, sha, size, reason, rejected)
  join f on f.id = r.task_id
  where item.task_id = r.task_id and item.id = r.id),
p as (
  insert into part as p(task_id, leg, stage, processor, ordinal, generation, status, attempt, first, count, due, reason)
  select r.task_id, r.leg, r.stage, r.processor, r.ordinal, r.generation, r.status, r.attempt, r.first, r.count,
         case when r.due_us >= 0 then now() + r.due_us * interval '1 us' end, nullif(r.reason, '')
  from unnest($31::bigint[], $32::smallint[], $33::smallint[], $34::smallint[], $35::int[], $36::smallint[], $37::smallint[],
              $38::smallint[], $39::int[], $40::int[], $41::bigint[], $42::text[]) as r
       (task_id, leg, stage, processor, ordinal, generation, status, attempt, first, count, due_us, reason)
  join f on f.id = r.task_id
  on conflict (task_id, leg, stage, processor, ordinal, generation) do update
    set status = excluded.status, attempt = excluded.attempt, due = excluded.due, reason = excluded.reason
    where p.status < 2 and excluded.status + excluded.attempt > 0)   -- planning again changes nothing
select id from f
