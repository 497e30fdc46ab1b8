package postgrestest

import (
	"context"
	"fmt"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// Collect makes arrivals and one task whose originals they are, as the end of a collection does: the collection is
// closed, and the task is queued. of says which task; its own arrival is not looked at. made is false if there is one of that
// public id.
func Collect(ctx context.Context, s *postgres.Store, of gantry.Admission, list []gantry.Arrival) (made bool, err error) {
	tx, err := s.Pool().Begin(ctx)
	if err != nil {
		return false, fmt.Errorf("collect: %w", err)
	}
	defer tx.Rollback(ctx)
	var collection int64
	err = tx.QueryRow(ctx, `insert into collection(pipeline, key_mac, source, closed, closed_at, reason) values ($1, sha256(convert_to($2, 'utf8')), $3, true, now(), 'quiet')
		on conflict (pipeline, key_mac, revision) do update set closed = true returning id`, list[0].Source, of.PublicID, list[0].Source).Scan(&collection)
	if err != nil {
		return false, fmt.Errorf("make collection: %w", err)
	}
	for _, a := range list {
		var sha []byte
		if !a.SHA.IsZero() {
			sha = a.SHA[:]
		}
		_, err = tx.Exec(ctx, `with a as (
			insert into arrival as a (id, source, ref_mac, version, name, size, sha, location, sequencer, place)
			values ($2, $3, $4, $5, $6, $7, $8, $9, $10, nullif($11, ''))
			on conflict (source, ref_mac, version) do update set sequencer = excluded.sequencer,
				place = case when a.place is not null then coalesce(excluded.place, a.place) end
			returning id)
			insert into collection_member select $1, id from a on conflict do nothing`,
			collection, a.ID, a.Source, a.RefMAC[:], a.Version, a.Name, a.Size, sha, a.Location, a.Sequencer, a.Place)
		if err != nil {
			return false, fmt.Errorf("make member: %w", err)
		}
	}
	tag, err := tx.Exec(ctx, `with t as (
		insert into task(public_id, collection, pipeline, run) values ($1, $2, $3, $4) on conflict (public_id) do nothing returning id)
		insert into task_hot(id, lane, priority, state_until) select id, $5, $6, now() + $7 * interval '1 us' from t`,
		of.PublicID, collection, of.Pipeline, of.Run, of.Lane, of.Priority, of.Within.Microseconds())
	if err != nil {
		return false, fmt.Errorf("make task: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return false, fmt.Errorf("collect: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}
