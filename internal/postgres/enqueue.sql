-- Makes arrivals and their tasks in one commit; an arrival may come several times, with a task each. An arrival or a
-- task that exists already stays as it is, but that bytes which were not copied are looked for where they were found
-- last, and that one which was turned away is accepted.
-- By admission: $1 arrival id, $2 source, $3 ref_mac, $4 version, $5 name, $6 size, $7 sha, $8 location, $9 sequencer,
-- $10 public id, $11 pipeline, $12 lane, $13 run, $14 priority, $15 within (us), $16 place, $17 event, $18 via.
with r as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::text[], $9::text[],
                       $10::text[], $11::int[], $12::int[], $13::text[], $14::smallint[], $15::bigint[], $16::text[], $17::text[], $18::int[])
    as r(id, source, ref_mac, version, name, size, sha, location, sequencer, public_id, pipeline, lane, run, priority, within_us, place, event, via)),
a as (
  insert into arrival as a (id, source, ref_mac, version, name, size, sha, location, sequencer, place, event, via)
  select distinct on (source, ref_mac, version) id, source, ref_mac, version, name, size, sha, location, sequencer, nullif(place, ''),
    nullif(event, ''), nullif(via, 0)
  from r order by source, ref_mac, version, id
  on conflict (source, ref_mac, version) do update set sequencer = excluded.sequencer,
    via = coalesce(excluded.via, a.via), status = 0, reason = null,
    event = greatest(a.event, excluded.event),
    place = case when a.status <> 0 then excluded.place
      when a.place is not null then coalesce(excluded.place, a.place) end,   -- the same bytes, put again
    size = case when a.status <> 0 then excluded.size else a.size end,
    sha = case when a.status <> 0 then excluded.sha else a.sha end,
    location = case when a.status <> 0 then excluded.location else a.location end
  returning id, source, ref_mac, version),
t as (
  insert into task(public_id, arrival, pipeline, run)
  select r.public_id, a.id, r.pipeline, r.run from r join a using (source, ref_mac, version)
  on conflict (public_id) do nothing
  returning id, public_id, arrival),
h as (
  insert into task_hot(id, lane, priority, state_until)
  select t.id, r.lane, r.priority, now() + r.within_us * interval '1 us' from t join r using (public_id))
select public_id, arrival from t
