-- Does what enqueue.sql does of arrivals and tasks that are all new, and nothing if one is not, or is made by somebody else meanwhile,
-- who is waited for: then it fails (SQLSTATE 23505). A row that may be there already has a second entry in the log, and rows that are looked
-- up by their keys are joined with a batch; these are neither. Arrivals come first and in the order of enqueue.sql, lest two wait for one another. Parameters are those of enqueue.sql.
with r as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::text[], $9::text[],
                       $10::text[], $11::int[], $12::int[], $13::text[], $14::smallint[], $15::bigint[], $16::text[], $17::text[], $18::int[])
    as r(id, source, ref_mac, version, name, size, sha, location, sequencer, public_id, pipeline, lane, run, priority, within_us, place, event, via)),
n as materialized (
  select *, nextval('task_id_seq') as task from r where
    (select count(distinct id) = count(distinct (source, ref_mac, version)) from r)
    and not exists (select from r cross join lateral (
      select from arrival where source = r.source and ref_mac = r.ref_mac and version = r.version offset 0) a)
    and not exists (select from r cross join lateral (select from task where public_id = r.public_id offset 0) t)),
a as (
  insert into arrival(id, source, ref_mac, version, name, size, sha, location, sequencer, place, event, via)
  select distinct on (source, ref_mac, version) id, source, ref_mac, version, name, size, sha, location, sequencer, nullif(place, ''),
    nullif(event, ''), nullif(via, 0)
  from n order by source, ref_mac, version
  returning id),
t as (
  insert into task(id, public_id, arrival, pipeline, run) select task, public_id, id, pipeline, run from n where (select count(*) from a) > 0),
h as (
  insert into task_hot(id, lane, priority, state_until)
  select task, lane, priority, now() + within_us * interval '1 us' from n)
select public_id, id from n
