-- Adds members to collections that are open and as this process left them, unless anything is on record of one of their objects. Only the
-- sections that have rows are put together to a statement; each numbers its own parameters from $1. It locks the collections in
-- the order of their ids; where one is not as it was left nothing is written, and no row comes back. The time is that of after the lock.

-- section: groups. $1 id, $2 members and $3 whether its marker came as it was left, $4 members, $5 how many are expected, $6 version, $7 lane, $8 priority,
-- $9 within (us), $10 cap (us), $11 wait (us); below 0: until the cap, $12 reason
with g as materialized (
  select g.* from unnest($1::bigint[], $2::int[], $3::bool[], $4::int[], $5::int[], $6::int[], $7::int[], $8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[],
    $12::text[]) as g(id, was, had, arrivals, expected, version, lane, priority, within_us, cap_us, wait_us, reason)),
h as materialized (
  select c.id from collection c where c.id = any (array(select id from g)) and not c.closed
    and exists (select from g where g.id = c.id and g.was = c.arrivals and g.had = c.marked)
  order by c.id for update)

-- section: objects. As arriveSQL has them, $13 the collection, $14 the instance; 0: it is one of its own
x as materialized (
  select x.* from unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::text[], $9::text[], $10::text[], $11::text[],
    $12::int[], $13::bigint[], $14::bigint[])
    as x(id, source, ref_mac, version, name, size, sha, location, sequencer, place, event, via, collection, instance)),
ok as materialized (
  select clock_timestamp() as at where (select count(*) from h) = (select count(*) from g)
    and not exists (select from x cross join lateral (select id from arrival where source = x.source and ref_mac = x.ref_mac offset 0) a)),
arrived as (
  insert into arrival(id, source, ref_mac, version, name, size, sha, location, sequencer, place, status, event, via)
  select id, source, ref_mac, version, name, size, sha, location, nullif(sequencer, ''), nullif(place, ''), 0, nullif(event, ''), nullif(via, 0) from x cross join ok),
joined as (
  insert into collection_member(collection, arrival, instance) select collection, id, nullif(instance, 0) from x cross join ok)

-- section: receipts, as receiptSQL puts them on record
r as materialized (
  select r.* from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::smallint[], $7::smallint[], $8::smallint[], $9::bigint[], $10::bigint[], $11::bytea[])
    as r(id, arrival, worker, limiter, pipeline, boundary, op, source, took_us, size, sha)),
intents as (
  insert into call_intent(task_id, id, arrival, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
  select 0, id, arrival, worker, limiter, pipeline, 0, 0, 0, boundary, op, 0, 0, source, 0, 1, '' from r cross join ok on conflict do nothing),
outcomes as (
  insert into call_outcome(task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind, req_sha, resp_sha)
  select 0, id, 0, 0, took_us, 0, size, limiter, 0, 0, 0, '', sha from r cross join ok on conflict do nothing)

-- section: answer, as pushSQL has it of those no archive is asked about
update collection c set arrivals = r.arrivals, marked = r.had, expected = nullif(r.expected, 0), version = r.version, lane = r.lane,
  priority = case when c.last_at is null then r.priority else least(c.priority, r.priority) end, within_us = r.within_us, last_at = r.at, cap = coalesce(c.cap, r.until),
  due = case when r.wait_us < 0 then coalesce(c.cap, r.until) else least(coalesce(c.cap, r.until), r.at + r.wait_us * interval '1 us') end,
  reason = case when r.wait_us < 0 or coalesce(c.cap, r.until) <= r.at + r.wait_us * interval '1 us' then 'cap' else r.reason end, ask_at = null
from (select g.*, ok.at, ok.at + g.cap_us * interval '1 us' as until from g cross join ok offset 0) r where c.id = r.id
returning c.id, (extract(epoch from c.due - r.at) * 1000000)::bigint
