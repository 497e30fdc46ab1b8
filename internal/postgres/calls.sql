-- Commits intents and outcomes of calls. An intent needs its task's lease, or before a task exists the
-- process's own; one that does not come back was fenced and its call must not be made. An outcome is a
-- fact and always lands; if its task has gone to another process meanwhile it is marked fenced (3).
-- $1 worker.
with i as (
  insert into call_intent(task_id, id, arrival, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg,
                          stage, processor, generation, try, items_sha)
  select r.task_id, r.id, nullif(r.arrival, 0), $1, r.limiter, r.pipeline, r.part, r.seq, r.item_count, r.boundary, r.op, r.leg,
         r.stage, r.processor, r.generation, r.try, r.items_sha
  from unnest($2::bigint[], $3::uuid[], $4::bigint[], $5::int[], $6::int[], $7::int[], $8::int[], $9::int[], $10::smallint[],
              $11::smallint[], $12::smallint[], $13::smallint[], $14::smallint[], $15::smallint[], $16::smallint[], $17::bytea[]) as r
       (task_id, id, arrival, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
  where exists (select 1 from worker where id = $1 and expires_at > now())
    and (r.task_id = 0 or exists (select 1 from task_hot h where h.id = r.task_id and h.seq = r.seq and h.owner = $1))
  on conflict do nothing
  returning id),
o as (
  insert into call_outcome(task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind,
                           req_sha, resp_sha, error_code)
  select r.task_id, r.id, r.sent_us, r.ttfb_us, r.took_us, r.req_size, r.resp_size, r.limiter, r.status,
         case when r.task_id > 0 and not exists (select 1 from task_hot h where h.id = r.task_id and h.seq = r.seq and h.owner = $1)
              then 3 else r.result end,
         r.kind, r.req_sha, r.resp_sha, nullif(r.error_code, '')
  from unnest($18::bigint[], $19::uuid[], $20::int[], $21::bigint[], $22::bigint[], $23::bigint[], $24::bigint[], $25::bigint[],
              $26::int[], $27::int[], $28::smallint[], $29::smallint[], $30::bytea[], $31::bytea[], $32::text[]) as r
       (task_id, id, seq, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind, req_sha, resp_sha, error_code)
  on conflict do nothing)
select id from i
