package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Target is a limiter of calls with what its row allows now.
type Target struct {
	ID  int32
	Key string
	gantry.LimiterSpec
}

// Targets lists the limiters of calls by their keys, or the one of a key, with the limits that hold: what an operator
// set included.
func (s *Store) Targets(ctx context.Context, key string) ([]Target, error) {
	rows, err := s.ask.Query(ctx, `select id, key, coalesce(now_units, -1), coalesce(now_rate, 0), now_burst, (extract(epoch from hold) * 1000000)::bigint
		from limiter where key not like 'pipeline:%' and ($1 = '' or key = $1) order by key`, key)
	if err != nil {
		return nil, fmt.Errorf("list limits: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Target, err error) {
		var hold int64
		err = row.Scan(&t.ID, &t.Key, &t.MaxUnits, &t.Rate, &t.Burst, &hold)
		t.Hold = time.Duration(hold) * time.Microsecond
		return t, err
	})
}

// Sent is a recorded call as it used its target.
type Sent struct {
	Limiter int32
	ID      string
	Start   time.Time     // the first byte; of a call without an outcome, the making of its intent
	Took    time.Duration // to the last byte
	Out     time.Duration // of a submission: for how long from its start its unit surely was out with its part; else 0
	Lost    bool          // no outcome: nobody knows whether and for how long it ran
}

// sentSQL gives the calls that left, or may have, and that needed a unit: to fetch or unpack an answer that came later
// needs none. The id holds the millisecond in which the intent was made, by the clock of its process. The part of a
// submission is out until its answer came; one that is fetched may have been out of time for a second. Of one that is
// submitted again, or of which nothing more is on record, nobody knows for how long. $1 since, $2 limiters.
const sentSQL = `
with moments as (
  select task_id, leg, stage, processor, part as ordinal, generation, id, op from call_intent where id >= u7floor($1) and boundary = 1 and op in (4, 5)
  union all
  select task_id, leg, stage, processor, ordinal, generation, id, 6 from callback where id >= u7floor($1) and verdict = 0),
submits as (
  select task_id, id, next from (
    select task_id, id, op, lead(id) over w as next, lead(op) over w as after from moments
    window w as (partition by task_id, leg, stage, processor, ordinal, generation order by id)) m
  where op = 4 and after > 4)
select i.limiter, i.id::text, (('x' || substr(replace(i.id::text, '-', ''), 1, 12))::bit(48)::bigint * 1000) + coalesce(o.sent_us, 0) as start_us, coalesce(o.took_us, 0), o.id is null,
  coalesce(case when o.result = 0 and o.error_code is null then greatest(0, (('x' || substr(replace(s.next::text, '-', ''), 1, 12))::bit(48)::bigint * 1000) - (('x' || substr(replace(i.id::text, '-', ''), 1, 12))::bit(48)::bigint * 1000) - o.sent_us
    - case when exists (select from call_intent c where c.task_id = s.task_id and c.id = s.next) then 1000000 else 0 end) end, 0)
from call_intent i left join call_outcome o on o.task_id = i.task_id and o.id = i.id
left join submits s on i.op = 4 and s.task_id = i.task_id and s.id = i.id
where i.id >= u7floor($1) and i.limiter = any ($2) and o.result is distinct from 2 and i.op not in (5, 6)
order by i.limiter, start_us, i.id`

// EachSent hands out the calls of limiters that left, or may have: by limiter, then in the order of their
// starts, as they all were at one moment, in memory that does not grow with their number. It ends with the
// first error of f.
func (s *Store) EachSent(ctx context.Context, since time.Time, limiters []int32, f func(Sent) error) error {
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	err := pgx.BeginTxFunc(ctx, s.ask, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// The first row comes after everything is sorted.
		if _, err := tx.Exec(ctx, `set local statement_timeout = 0`); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sentSQL, since, limiters)
		if err != nil {
			return err
		}
		var x Sent
		var start, took, out int64
		_, err = pgx.ForEachRow(rows, []any{&x.Limiter, &x.ID, &start, &took, &x.Lost, &out}, func() error {
			x.Start, x.Took = time.UnixMicro(start).UTC(), time.Duration(took)*time.Microsecond
			x.Out = time.Duration(out) * time.Microsecond
			return f(x)
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("read calls by their limits: %w", err)
	}
	return nil
}
