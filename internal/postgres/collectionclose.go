package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// unseen is how much of a collection's quiet may go by after the last report of its source, which comes every two seconds while somebody watches.
const unseen = 3 * time.Second

// CloseDue closes collections that are due, at most limit of them, and makes their tasks, all or none. publicID names
// the task of a group's revision. Of several processes each takes other collections; one that dies meanwhile has done nothing.
// What nobody saw quiet waits for somebody to watch its source again, or for its cap.
func (s *Store) CloseDue(ctx context.Context, limit int, publicID func(pipeline, source string, group gantry.Digest, revision int32) string) ([]gantry.Closing, error) {
	var out []gantry.Closing
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, dueSQL, micros(unseen), limit)
		if err != nil {
			return err
		}
		var ids, within []int64
		var public, reasons []string
		var versions, lanes []int32
		var priorities []int16
		var x gantry.Closing
		var mac []byte
		var version int32
		var priority int16
		var us int64
		if _, err = pgx.ForEachRow(rows, []any{&x.Collection, &x.Pipeline, &x.Source, &mac, &x.Revision, &x.Members, &version, &x.Lane, &priority, &us, &x.Reason}, func() error {
			if x.Task = ""; x.Members > 0 {
				x.Task = publicID(x.Pipeline, x.Source, gantry.Digest(mac), x.Revision)
			} else {
				x.Reason = gantry.ClosedEmpty
			}
			out = append(out, x)
			ids, public, reasons, within = append(ids, x.Collection), append(public, x.Task), append(reasons, string(x.Reason)), append(within, us)
			versions, lanes, priorities = append(versions, version), append(lanes, x.Lane), append(priorities, priority)
			return nil
		}); err != nil || len(ids) == 0 {
			return err
		}
		_, err = tx.Exec(ctx, closeCollectionsSQL, ids, public, versions, lanes, priorities, within, reasons)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("close collections: %w", err)
	}
	return out, nil
}

// NextDue is how long it is until the next collection is due; below 0 if none is open.
func (s *Store) NextDue(ctx context.Context) (time.Duration, error) {
	var secs *float64
	if err := s.pool.QueryRow(ctx, nextDueSQL, micros(unseen)).Scan(&secs); err != nil {
		return 0, fmt.Errorf("look for collections: %w", err)
	}
	if secs == nil {
		return -1, nil
	}
	return max(0, time.Duration(*secs*float64(time.Second))), nil
}
