-- Takes objects of a source that are to be looked at, $2 at most, and says of which all tasks have ended, another way than
-- at the last time something was done. A collection that is open is a task to come, and so
-- may be one of an arrival whose sequencer is not on record: it did not come to all its pipelines yet. A marker's collections are all
-- revisions of the groups that it was about. The time is that of the statement: the
-- index ends a scan by no other. Those are this caller's for $3 (us). The others are looked at again the later the longer
-- they wait already. $1 source.
with d as materialized (
  select id, source, ref_mac, version, at, ended, pipelines, groups from aftercare
  where source = $1 and due <= now() order by due limit $2 for update skip locked),
x as materialized (
  select d.id, d.at, d.ended, a.id as arrival, a.sequencer is not null as whole, t.tasks, t.open + o.open as open,
    case when t.failed > 0 then 6 when t.cancelled > 0 then 7 else 5 end as state
  from d
  left join lateral (select id, sequencer from arrival a where a.source = d.source and a.ref_mac = d.ref_mac and a.version = d.version offset 0) a on true
  cross join lateral (
    select array(
      select collection from collection_member where arrival = a.id
      union
      select c.id from unnest(d.pipelines, d.groups) g(pipeline, key_mac)
      cross join lateral (select id from collection where pipeline = g.pipeline and key_mac = g.key_mac offset 0) c) as ids) l
  cross join lateral (
    select count(*) as tasks, count(*) filter (where final_state is null) as open,
      count(*) filter (where parent is null and final_state = 6) as failed,
      count(*) filter (where parent is null and final_state = 7) as cancelled
    from task where task.id = any(array(
      select id from task where arrival = a.id
      union all
      select id from task where collection = any(l.ids)))) t
  cross join lateral (
    select count(*) as open from collection c where not c.closed and c.id = any(l.ids)) o),
r as materialized (
  select x.*, whole and tasks > 0 and open = 0 and state <> 7 and state is distinct from ended as ready from x),
u as (
  update aftercare c set due = clock_timestamp() + case when r.ready then $3::bigint * interval '1 us'
    else least(greatest((clock_timestamp() - r.at) / 4, interval '1 s'), case when r.open > 0 then interval '15 min' else interval '1 d' end) end
  from r where c.id = r.id
  returning c.id, c.mark, c.tries)
select u.id, coalesce(r.arrival, 0), coalesce(u.mark, ''), r.state, u.tries, r.ready, r.at from u join r using (id) order by u.id
