package postgres

// gatherLockSQL lets the accepts of a source run one after another, in all processes: only they make revisions and
// members. $1 sources, sorted.
const gatherLockSQL = `select pg_advisory_xact_lock(hashtext('gantry.gather'), hashtext(s)) from unnest($1::text[]) s`

// headsSQL gives the last revision of each group and locks it, so that it is either closed already, or is not before
// the members of this transaction are in it. By group: $1 pipeline, $2 key_mac.
const headsSQL = `
select c.pipeline, c.key_mac, c.id, c.revision, c.closed, c.arrivals, c.marked from collection c
where c.id = any (array(
  select (select x.id from collection x where x.pipeline = g.pipeline and x.key_mac = g.key_mac order by x.revision desc limit 1)
  from unnest($1::text[], $2::bytea[]) g(pipeline, key_mac)))
order by c.id for update`

// seenSQL gives what is on record of objects: each version of them, whether it is the one that comes now, whether nothing
// is to be done about it any more, and whether it is a member of a collection. The row of a version may be there before
// its pipeline has anything of it: another pipeline took it, no rule took it ($8), or it was gone; one that came by this
// very call is what its id says. What came late, or before another state of its object, is known as the state that its
// sequencer says: it may have been put again, and one without may not have come to all pipelines. By object: $1 source, $2 ref_mac, $3 version that comes now, $4 key_mac of its group, whose
// last revision is locked, $5 id that it would have, $6 pipeline, $7 whether it is a marker, $9 sequencer.
const seenSQL = `
select r.i, a.id, a.version = r.version,
  case when a.version <> r.version or a.status = any ($8::smallint[]) then false
    when r.marker then coalesce(h.marked, false)
    when a.status <> 0 then a.id <> r.id and coalesce(a.sequencer = r.sequencer, false)
    when exists (select from collection_member o join arrival x on x.id = o.arrival
        where o.collection = h.id and x.source = r.source and x.ref_mac = r.ref_mac and x.id <> a.id) then false
    else exists (select from collection_member m cross join lateral (select pipeline from collection where id = m.collection offset 0) c where m.arrival = a.id and c.pipeline = r.pipeline)
      or exists (select from task t cross join lateral (select name from pipeline_version where id = t.pipeline offset 0) v where t.arrival = a.id and v.name = r.pipeline) end,
  exists (select from collection_member m where m.collection = h.id and m.arrival = a.id)
from unnest($1::text[], $2::bytea[], $3::text[], $4::bytea[], $5::bigint[], $6::text[], $7::bool[], $9::text[]) with ordinality r(source, ref_mac, version, key_mac, id, pipeline, marker, sequencer, i)
cross join lateral (select id, version, status, sequencer from arrival where source = r.source and ref_mac = r.ref_mac offset 0) a
left join lateral (select x.id, x.marked from collection x where x.pipeline = r.pipeline and x.key_mac = r.key_mac order by x.revision desc limit 1) h on true`

// openSQL makes revisions, which are not due before pushSQL says when. By collection: $1 pipeline, $2 key_mac,
// $3 revision, $4 source, $5 name, $6 study; empty: no archive is asked, $7 whether it takes what is late alone.
const openSQL = `
insert into collection(pipeline, key_mac, revision, source, name, study, apart, base)
select c.pipeline, c.key_mac, c.revision, c.source, c.name, nullif(c.study, ''), c.apart,
  case when c.study = '' or c.revision = 0 then 0 else ` + heldBeforeSQL + ` end
from unnest($1::text[], $2::bytea[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bool[]) c(pipeline, key_mac, revision, source, name, study, apart)
returning pipeline, key_mac, id`

// By arrival: $1 id, $2 source, $3 ref_mac, $4 version, $5 name, $6 size, $7 sha, $8 location, $9 sequencer, $10 place, $11 event, $12 via,
// $13 status, $14 reason.
const arriveSQL = `
insert into arrival(id, source, ref_mac, version, name, size, sha, location, sequencer, place, status, reason, event, via)
select id, source, ref_mac, version, name, size, sha, location, nullif(sequencer, ''), nullif(place, ''), status, nullif(reason, ''), nullif(event, ''), nullif(via, 0)
from unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::bytea[], $8::text[], $9::text[], $10::text[], $11::text[],
    $12::int[], $13::smallint[], $14::text[]) as r(id, source, ref_mac, version, name, size, sha, location, sequencer, place, event, via, status, reason)`

// arriveAgainSQL does what enqueue.sql does about bytes that came before. By arrival: $1 id, $2 sequencer, $3 place,
// $4 event, $5 via.
const arriveAgainSQL = `
update arrival a set sequencer = nullif(r.sequencer, ''), place = case when a.place is not null then coalesce(nullif(r.place, ''), a.place) end,
  event = greatest(a.event, nullif(r.event, '')), via = coalesce(nullif(r.via, 0), a.via)
from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::int[]) r(id, sequencer, place, event, via) where a.id = r.id`

// reviveSQL accepts arrivals that are on record and were not, or whose bytes nobody wanted. By arrival: $1 id, $2 size, $3 sha, $4 location,
// $5 sequencer, $6 place, $7 name, $8 status, $9 reason.
const reviveSQL = `
update arrival a set sequencer = nullif(r.sequencer, ''),
  status = r.status, reason = nullif(r.reason, ''), size = r.size, sha = r.sha, location = r.location, place = nullif(r.place, ''), name = r.name
from unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::smallint[], $9::text[])
  as r(id, size, sha, location, sequencer, place, name, status, reason)
where a.id = r.id and (a.status <> 0 or a.reason is not null)`

// copyMembersSQL gives a revision the members of the one before. By revision: $1 it, $2 the one before.
const copyMembersSQL = `
insert into collection_member(collection, arrival, instance)
select n.fresh, m.arrival, m.instance from unnest($1::bigint[], $2::bigint[]) n(fresh, last)
cross join lateral (select arrival, instance from collection_member where collection = n.last offset 0) m`

// By member: $1 collection, $2 arrival, $3 instance; 0: it is one of its own.
const (
	leaveSQL = `delete from collection_member m using unnest($1::bigint[], $2::bigint[]) r(collection, arrival) where m.collection = r.collection and m.arrival = r.arrival`
	joinSQL  = `insert into collection_member(collection, arrival, instance) select r.collection, r.arrival, nullif(r.instance, 0) from unnest($1::bigint[], $2::bigint[], $3::bigint[]) r(collection, arrival, instance)`
)

// supersedeSQL marks the arrivals that a later state of their object took the place of before any task was made from
// them. $1 arrivals, $2 Superseded.
const supersedeSQL = `
update arrival a set status = $2 where a.id = any ($1::bigint[]) and not exists (select from collection_member m where m.arrival = a.id)
  and not exists (select from task t where t.arrival = a.id)`

// pushSQL says when collections are due, and why they will be closed then. By collection: $1 id, $2 members, $3 whether
// its marker came, $4 how many are expected, $5 version, $6 lane, $7 priority, $8 within (us), $9 cap (us),
// $10 wait (us); below 0: until the cap, $11 reason, $12 whether an archive is asked, $13 steady (us), $14 whether it waits for
// what the archive has, $15 whether it has a quiet period.
const pushSQL = `
with n as materialized (select clock_timestamp() as at),
r as materialized (
  select r.*, n.at, coalesce(c.cap, n.at + r.cap_us * interval '1 us') as until, c.base, c.counted, c.counted_at, c.asked_at,
    case when not r.asks or r.wait_us = 0 or c.counted is null then 0
      when r.arrivals + case when c.apart then c.base else 0 end < c.counted then 0 -- fewer for sure, however many are one instance
      else ` + heldHereSQL + ` end as held
  from unnest($1::bigint[], $2::int[], $3::bool[], $4::int[], $5::int[], $6::int[], $7::smallint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[],
    $12::bool[], $13::bigint[], $14::bool[], $15::bool[])
    as r(id, arrivals, marked, expected, version, lane, priority, within_us, cap_us, wait_us, reason, asks, steady_us, waits, quiet)
  cross join n
  cross join lateral (select * from collection where id = r.id offset 0) c),
v as materialized (select r.*, case when r.asks and r.wait_us <> 0 then ` + verdictSQL + ` else 0 end as verdict from r)
update collection c set arrivals = r.arrivals, marked = r.marked, expected = nullif(r.expected, 0), version = r.version, lane = r.lane,
  priority = case when c.last_at is null then r.priority else least(c.priority, r.priority) end, within_us = r.within_us, last_at = r.at, cap = r.until,
  due = case when r.verdict = 1 then r.at when r.wait_us < 0 or r.verdict = 2 then r.until else least(r.until, r.at + r.wait_us * interval '1 us') end,
  reason = case when r.verdict = 1 then 'expected' when r.wait_us < 0 or r.verdict = 2 or r.until <= r.at + r.wait_us * interval '1 us' then 'cap' else r.reason end,
  ask_at = case when r.asks and c.study is not null then least(coalesce(c.ask_at, r.at),
    case when r.held = r.counted and r.asked_at - r.counted_at < r.steady_us * interval '1 us' then greatest(r.at, r.counted_at + r.steady_us * interval '1 us') end) end
from v r where c.id = r.id
returning c.id, (extract(epoch from c.due - r.at) * 1000000)::bigint, coalesce((extract(epoch from c.ask_at - r.at) * 1000000)::bigint, -1)`

// markSQL keeps in mind that a marker came when its collection was closed already. $1 collections.
const markSQL = `update collection set marked = true where id = any ($1::bigint[])`

// unseenSQL: nobody watched the source of a collection, or could look at it, when its quiet was over, and nobody has begun to again: watchAgainSQL puts it off then. A source
// of which nobody ever reported is none of these. $1 how old a report may be (us).
const unseenSQL = `(reason in ('quiet', 'marker') and exists (select from source_state s where s.source = c.source and coalesce(s.watched_at, s.at) < c.due - $1::bigint * interval '1 us'))`

// dueSQL takes collections that are due; one that nobody saw quiet, at its cap. One whose members are being added is passed over, and looked at again.
// $2 how many at most.
const dueSQL = `
select id, pipeline, source, key_mac, revision, arrivals, version, lane, priority, within_us, case when ` + unseenSQL + ` then 'cap' else reason end from collection c
where not closed and due <= now() and (cap <= now() or not ` + unseenSQL + `) order by due limit $2 for update skip locked`

// closeCollectionsSQL closes collections and makes their tasks. By collection: $1 id, $2 public id; empty: no task, $3 version, $4 lane,
// $5 priority, $6 within (us), $7 reason.
const closeCollectionsSQL = `
with r as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::int[], $4::int[], $5::smallint[], $6::bigint[], $7::text[]) as r(id, public_id, version, lane, priority, within_us, reason)),
t as (
  insert into task(public_id, collection, pipeline) select public_id, id, version from r where public_id <> ''
  on conflict (public_id) do nothing returning id, collection),
h as (
  insert into task_hot(id, lane, priority, state_until)
  select t.id, r.lane, r.priority, now() + r.within_us * interval '1 us' from t join r on r.id = t.collection)
update collection c set closed = true, closed_at = clock_timestamp(), reason = (select reason from r where r.id = c.id)
where id = any (array(select id from r))`

// nextDueSQL is how long it is until the next collection is due, in seconds; a moment where all that are open wait for somebody to watch.
const nextDueSQL = `
select coalesce(extract(epoch from (
    select due from collection c where not closed and (due > now() or cap <= now() or not ` + unseenSQL + `) order by due limit 1) - clock_timestamp()),
  (select 1 from collection where not closed limit 1))::float8`
