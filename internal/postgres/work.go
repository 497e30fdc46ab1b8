package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Original reads the arrival that a task was made from.
func (s *Store) Original(ctx context.Context, task gantry.TaskID) (gantry.Arrival, error) {
	var a gantry.Arrival
	var sha []byte
	err := s.pool.QueryRow(ctx, `select a.id, a.source, a.version, coalesce(a.name, ''), a.size, a.sha, coalesce(a.location, ''), coalesce(a.place, '')
		from task t join arrival a on a.id = t.arrival where t.id = $1`, int64(task)).
		Scan(&a.ID, &a.Source, &a.Version, &a.Name, &a.Size, &sha, &a.Location, &a.Place)
	if err != nil {
		return a, fmt.Errorf("read arrival of task %d: %w", task, err)
	}
	copy(a.SHA[:], sha)
	return a, nil
}

// Items reads the items of a task's leg in the order of their ids.
func (s *Store) Items(ctx context.Context, task gantry.TaskID) ([]gantry.Item, error) {
	rows, err := s.pool.Query(ctx, `select `+itemColumns+` from item where task_id = $1
		and leg = (select leg from task where id = $1) order by id`, int64(task))
	if err != nil {
		return nil, fmt.Errorf("read items of task %d: %w", task, err)
	}
	return pgx.CollectRows(rows, scanItem)
}

// itemColumns are what scanItem reads.
const itemColumns = `id, parent, origin, ordinal, leg, stage, processor, part, generation,
	coalesce(name, ''), transform, locator, media, size, sha, body, location, reason, rejected`

func scanItem(row pgx.CollectableRow) (x gantry.Item, err error) {
	var sha []byte
	err = row.Scan(&x.ID, &x.Parent, &x.Origin, &x.Ordinal, &x.Leg, &x.Stage, &x.Processor, &x.Part, &x.Generation,
		&x.Name, &x.Transform, &x.Locator, &x.Media, &x.Size, &sha, &x.Body, &x.Location, &x.Reason, &x.Rejected)
	copy(x.SHA[:], sha)
	return x, err
}

// Parts reads all parts of a task's leg. DueIn is the time left until a part may be tried again.
func (s *Store) Parts(ctx context.Context, task gantry.TaskID, leg int16) ([]gantry.Part, error) {
	rows, err := s.pool.Query(ctx, `select leg, stage, processor, ordinal, generation, status, attempt, asked, first, count,
		case when due is null then -1 else greatest(0, (extract(epoch from due - now()) * 1000000)::bigint) end, coalesce(reason, ''), submits, coalesce(ticket, ''),
		coalesce(out_limiter, 0), coalesce((extract(epoch from out_until - now()) * 1000000)::bigint, 0),
		coalesce((extract(epoch from out_deadline - now()) * 1000000)::bigint, 0), token_sha
		from part where task_id = $1 and leg = $2 order by stage, processor, ordinal, generation`, int64(task), leg)
	if err != nil {
		return nil, fmt.Errorf("read parts of task %d: %w", task, err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (x gantry.Part, err error) {
		var token []byte
		err = row.Scan(&x.Leg, &x.Stage, &x.Processor, &x.Ordinal, &x.Generation, &x.Status, &x.Attempt, &x.Asked, &x.First, &x.Count, &x.DueIn, &x.Reason,
			&x.Submits, &x.Out.Ticket, &x.Out.Limiter, &x.Out.For, &x.Out.Left, &token)
		copy(x.Out.Token[:], token)
		return x, err
	})
}
