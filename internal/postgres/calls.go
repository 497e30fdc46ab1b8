package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// familySQL gives tasks and the tasks that they were divided into.
const familySQL = `with recursive d(id) as (select id from task where %s
  union all select c.id from d join task c on c.parent = d.id) select id from d`

// callOutcomeSQL is how a call ended; one without an outcome runs as long as its process lives.
const callOutcomeSQL = `case when o.id is not null then (array['ok','failed','not_sent','fenced'])[o.result + 1]
  when exists (select from worker w where w.id = i.worker and w.expires_at > now()) then 'running' else 'lost' end`

// Names of stages and processors come from the pipeline version that the call was made under.
var listCallsSQL = `
select i.id::text, coalesce(t.public_id, ''), i.part,
  case i.boundary when 1 then coalesce(r.doc -> 'stages' -> i.stage::int ->> 'name', '') else '' end,
  case i.boundary when 1 then coalesce(r.doc -> 'stages' -> i.stage::int -> 'call' ->> i.processor::int, '') else '' end,
  case i.boundary when 0 then coalesce(a.source, '') else '' end,
  case i.boundary when 2 then coalesce((select k from json_object_keys(r.doc -> 'sinks') with ordinality as s(k, n) where n = i.processor + 1), 'out') else '' end,
  (array['source','processor','sink'])[i.boundary + 1], (array['get','process','put','manifest','submit','collect','callback','tag','move','delete','confirm'])[i.op + 1], i.try::int, l.key,
  to_timestamp(('x' || substr(replace(i.id::text, '-', ''), 1, 12))::bit(48)::bigint / 1000.0) + coalesce(o.sent_us, 0) * interval '1 us',
  coalesce(o.took_us, 0) / 1000.0, coalesce(o.status, 0),
  ` + callOutcomeSQL + ` as outcome,
  case when o.result in (1, 2) then ` + fmt.Sprintf(kindNameSQL, `o.kind`) + ` else '' end, coalesce(o.error_code, ''),
  coalesce(encode(o.req_sha, 'hex'), ''), coalesce(o.req_size, 0), coalesce(encode(o.resp_sha, 'hex'), ''), coalesce(o.resp_size, 0),
  i.worker, coalesce(encode(pv.version, 'hex'), '')
from call_intent i
join limiter l on l.id = i.limiter
left join call_outcome o on o.task_id = i.task_id and o.id = i.id
left join task t on t.id = i.task_id
left join arrival a on a.id = i.arrival
left join pipeline_version pv on pv.id = i.pipeline
left join lateral (select pv.resolved::json as doc) r on true
where i.id >= u7floor($1) and ($2 = 0 or i.task_id = any (array(` + fmt.Sprintf(familySQL, `id = $2`) + `))) and ($3 = '' or pv.name = $3)
  and ($4 = '' or (array['source','processor','sink'])[i.boundary + 1] = $4)
  and ($5 = '' or (i.boundary = 1 and r.doc -> 'stages' -> i.stage::int -> 'call' ->> i.processor::int = $5))
  and ($6 = '' or ` + callOutcomeSQL + ` = $6)
  and ($8::text[] is null or i.task_id = any (array(` + fmt.Sprintf(familySQL, `public_id = any ($8)`) + `)))
  and ($9 = '' or i.id = nullif($9, '')::uuid)
order by i.id desc limit nullif($7, 0)`

// Calls lists recorded calls, the newest first. Those of a task are also those of its children.
func (s *Store) Calls(ctx context.Context, f Filter) ([]CallRow, error) {
	args, err := s.callArgs(ctx, f)
	if err != nil {
		return nil, err
	}
	rows, err := s.ask.Query(ctx, listCallsSQL, args...)
	if err != nil {
		return nil, fmt.Errorf("list calls: %w", err)
	}
	return pgx.CollectRows(rows, scanCall)
}

// callArgs are the parameters of listCallsSQL.
func (s *Store) callArgs(ctx context.Context, f Filter) ([]any, error) {
	var key int64
	since := f.Since
	if f.Task != "" {
		t, err := s.Task(ctx, f.Task)
		if err != nil {
			return nil, err
		}
		key = t.Key
		since = t.CreatedAt.Add(-time.Minute)
	}
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	return []any{since, key, f.Pipeline, f.Boundary, f.Processor, f.Outcome, f.Limit, f.Tasks, f.Call}, nil
}

func scanCall(row pgx.CollectableRow) (CallRow, error) {
	c, err := pgx.RowToStructByPos[CallRow](row)
	c.StartedAt = c.StartedAt.UTC()
	return c, err
}

// fetchCalls is how many calls are in memory at once while they are read one after another.
const fetchCalls = 2000

// EachCall hands out recorded calls one after another, the newest first, as they all were at one moment,
// in memory that does not grow with their number. It ends with the first error of f.
func (s *Store) EachCall(ctx context.Context, filter Filter, f func(CallRow) error) error {
	args, err := s.callArgs(ctx, filter)
	if err != nil {
		return err
	}
	return pgx.BeginTxFunc(ctx, s.ask, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// Whoever reads may be slow, and the first fetch sorts everything.
		_, err := tx.Exec(ctx, `set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0; set local cursor_tuple_fraction = 1`)
		if err == nil {
			_, err = tx.Exec(ctx, `declare calls no scroll cursor for `+listCallsSQL, args...)
		}
		for n := fetchCalls; err == nil && n == fetchCalls; {
			n, err = fetch(ctx, tx, f)
		}
		return err
	})
}

func fetch(ctx context.Context, tx pgx.Tx, f func(CallRow) error) (int, error) {
	rows, err := tx.Query(ctx, fmt.Sprintf(`fetch %d from calls`, fetchCalls))
	if err != nil {
		return 0, fmt.Errorf("list calls: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanCall)
	if err != nil {
		return 0, fmt.Errorf("list calls: %w", err)
	}
	for _, c := range list {
		if err := f(c); err != nil {
			return 0, err
		}
	}
	return len(list), nil
}
