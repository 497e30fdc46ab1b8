package postgres

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

//go:embed reap.sql
var reapSQL string

// Alone says that the effect of a task that was claimed aside begins: from now on the death of the process
// counts against it. False means that the lease on it is lost.
func (s *Store) Alone(ctx context.Context, w gantry.WorkerID, l gantry.Lease) (bool, error) {
	tag, err := s.pool.Exec(ctx, `update task_hot set aside = false
		where id = $1 and seq = $2 and owner = $3 and exists (select from worker where id = $3 and expires_at > now())`,
		int64(l.Task), l.Seq, int64(w))
	if err != nil {
		return false, fmt.Errorf("begin task alone: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}
