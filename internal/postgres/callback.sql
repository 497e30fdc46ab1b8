-- Keeps a callback and says what becomes of it: 0 accepted, 1 duplicate, 2 late, 3 forged, 4 a sign of
-- life. It is for a submission that is out and in time, or whose ticket is not committed yet: then the part is planned and was
-- submitted once less. Two valid answers of one moment meet at the unique index, and the second is a duplicate.
-- $1 id, $2 task, $3 leg, $4 stage, $5 processor, $6 ordinal, $7 generation, $8 try, $9 status, $10 forged, $11 size, $12 sha,
-- $13 header, $14 location, $15 body.
with o as materialized (
  select exists (
    select from part p where p.task_id = $2 and p.leg = $3 and p.stage = $4 and p.processor = $5 and p.ordinal = $6 and p.generation = $7
      and (p.status = 0 and p.submits = $8::smallint - 1 or p.status = 1 and p.submits = $8::smallint and p.out_until > clock_timestamp())
      and exists (select from task_hot h where h.id = $2 and h.leg = $3)) as awaited,
    exists (
    select from callback c where c.task_id = $2 and c.leg = $3 and c.stage = $4 and c.processor = $5 and c.ordinal = $6 and c.generation = $7
      and c.try = $8 and c.verdict = 0) as answered),
v as materialized (
  select case when $10::bool then 3 when not o.answered and not o.awaited then 2 when o.answered then 1 when $9::smallint = 0 then 4 else 0 end::smallint as verdict
  from o),
a as (
  insert into callback(id, task_id, leg, stage, processor, ordinal, generation, try, status, verdict, size, sha, header, location, body)
  select $1, $2, $3, $4, $5, $6, $7, $8, $9, verdict, $11, $12, case when verdict = 0 then $13 end, case when verdict = 0 then $14 end,
    case when verdict = 0 then $15::bytea end
  from v
  where verdict <> 3 or (select count(*) from callback where task_id = $2 and verdict <> 0) < 1000   -- whoever forges must not fill the disk
  on conflict (task_id, leg, stage, processor, ordinal, generation, try) where verdict = 0 do nothing
  returning verdict),
d as (
  insert into callback(id, task_id, leg, stage, processor, ordinal, generation, try, status, verdict, size, sha)
  select $1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $11, $12 from v where verdict = 0 and not exists (select from a))
select coalesce((select verdict from a), case when v.verdict = 0 then 1 else v.verdict end) from v
