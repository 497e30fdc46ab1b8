package postgres

import (
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// receiptSQL puts calls on record that peers made of us before any task was, each whole and once. By call: $1 id, $2 arrival, $3 worker, $4 limiter, $5 pipeline,
// $6 boundary, $7 op, $8 source (the index), $9 took (us), $10 bytes and $11 SHA-256 of what came.
const receiptSQL = `
with r as materialized (
  select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::smallint[], $7::smallint[], $8::smallint[], $9::bigint[], $10::bigint[], $11::bytea[])
    as r(id, arrival, worker, limiter, pipeline, boundary, op, source, took_us, size, sha)),
i as (
  insert into call_intent(task_id, id, arrival, worker, limiter, pipeline, part, seq, item_count, boundary, op, leg, stage, processor, generation, try, items_sha)
  select 0, id, arrival, worker, limiter, pipeline, 0, 0, 0, boundary, op, 0, 0, source, 0, 1, '' from r on conflict do nothing)
insert into call_outcome(task_id, id, sent_us, ttfb_us, took_us, req_size, resp_size, limiter, status, result, kind, req_sha, resp_sha)
select 0, id, 0, 0, took_us, 0, size, limiter, 0, 0, 0, '', sha from r on conflict do nothing`

// queueReceipts puts receipts on record; nil is none.
func queueReceipts(b *pgx.Batch, list []*gantry.Receipt) {
	if args, n := receiptColumns(list); n > 0 {
		b.Queue(receiptSQL, args...)
	}
}

// receiptColumns are the arguments of receiptSQL for n receipts; nil is none.
func receiptColumns(list []*gantry.Receipt) (args []any, n int) {
	var ids [][16]byte
	var arrivals, workers, took, sizes []int64
	var limiters, pipelines []int32
	var boundaries, ops, sources []int16
	var shas [][]byte
	for _, x := range list {
		if x == nil {
			continue
		}
		ids, arrivals, workers = append(ids, x.Intent.ID), append(arrivals, x.Intent.Arrival), append(workers, int64(x.Worker))
		limiters, pipelines = append(limiters, x.Intent.Limiter), append(pipelines, x.Intent.Pipeline)
		boundaries, ops, sources = append(boundaries, int16(x.Intent.Boundary)), append(ops, int16(x.Intent.Op)), append(sources, x.Intent.Part.Processor)
		took, sizes, shas = append(took, micros(x.Outcome.Took)), append(sizes, x.Outcome.RespSize), append(shas, x.Outcome.RespSHA[:])
	}
	return []any{ids, arrivals, workers, limiters, pipelines, boundaries, ops, sources, took, sizes, shas}, len(ids)
}
