package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// takenBySinkSQL gives the digests of the items of calls by which a sink took outputs. Calls are looked up by their task, in the months since it
// was made. $1 task, $2 leg, $3 delivery, $4 sink (the index).
const takenBySinkSQL = `
select distinct i.items_sha
from (select u7floor(created_at - interval '1 hour') as since from task where id = $1) t
cross join lateral (select id, items_sha from call_intent
  where task_id = $1 and id >= t.since and boundary = 2 and op = 2 and leg = $2 and generation = $3 and processor = $4 offset 0) i
cross join lateral (select result from call_outcome where task_id = $1 and id = i.id offset 0) o
where o.result = 0`

// TakenBySink gives what a sink took of one delivery of a task, by the digests of the items of its calls.
func (s *Store) TakenBySink(ctx context.Context, task gantry.TaskID, leg, delivery, sink int16) ([]gantry.Digest, error) {
	rows, err := s.pool.Query(ctx, takenBySinkSQL, int64(task), leg, delivery, sink)
	var out []gantry.Digest
	if err == nil {
		out, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (d gantry.Digest, err error) {
			var b []byte
			err = row.Scan(&b)
			copy(d[:], b)
			return d, err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("look for what a sink took: %w", err)
	}
	return out, nil
}
