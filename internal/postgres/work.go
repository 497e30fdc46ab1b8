package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Originals reads the arrivals that a task was made from: one, or the members of its collection in the
// order of their names.
func (s *Store) Originals(ctx context.Context, task gantry.TaskID) ([]gantry.Arrival, error) {
	rows, err := s.pool.Query(ctx, `select a.id, a.source, a.ref_mac, a.version,
			(case when c.folder <> '' and starts_with(a.name, c.folder) then substr(a.name, length(c.folder) + 1) else coalesce(a.name, '') end) collate "C" as named, a.size, a.sha, coalesce(a.location, ''), coalesce(a.place, ''), coalesce(a.via, 0),
			coalesce((select collection from task where id = $1), 0)
		from arrival a, (select coalesce((select c.name from task t join collection c on c.id = t.collection where t.id = $1 and c.name like '%/'), '') as folder) c
		where a.id = any(array(
			select arrival from task where id = $1 and arrival is not null
			union all
			select m.arrival from task t join collection_member m on m.collection = t.collection where t.id = $1))
		order by named, a.ref_mac, a.id`, int64(task))
	if err != nil {
		return nil, fmt.Errorf("read arrivals of task %d: %w", task, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a gantry.Arrival, err error) {
		var mac, sha []byte
		err = row.Scan(&a.ID, &a.Source, &mac, &a.Version, &a.Name, &a.Size, &sha, &a.Location, &a.Place, &a.Via, &a.Collection)
		copy(a.RefMAC[:], mac)
		copy(a.SHA[:], sha)
		return a, err
	})
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return nil, fmt.Errorf("read arrivals of task %d: %w", task, err)
	}
	return list, nil
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
