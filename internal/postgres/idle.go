package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// oneOperatorSQL lets the statements that do what operators asked of idle tasks run one after another, whatever
// process they come from: each locks many tasks, and two at once could wait for one another. They and the
// committer lock tasks before commands, and parents in the order of their ids.
const oneOperatorSQL = `select pg_advisory_xact_lock(hashtext('gantry.operators'))`

// askedSQL tells whether anything is asked of any task, or any is paused.
const askedSQL = `select exists (select from command where done_at is null) or exists (select from task_pause)`

// idleSteps are the statements in their order. Each leaves what it cannot do yet to the next round.
var idleSteps = []struct {
	sql  string
	args []any
}{
	{spreadSQL, nil},
	{scatterSQL, nil},
	{keepSQL, nil},
	{idleSQL, nil},
	{moveIdleSQL, nil},
	{followSQL, []any{"its parent"}},
	{spreadPauseSQL, nil},
	{pauseIdleSQL, nil},
	{closeSQL, nil},
}

// doIdle does what was asked of tasks that nobody holds, and tells whether anything was asked at all.
func (s *Store) doIdle(ctx context.Context) (asked bool, err error) {
	if err = s.pool.QueryRow(ctx, askedSQL).Scan(&asked); err != nil {
		return false, fmt.Errorf("read commands: %w", err)
	}
	if !asked {
		return false, nil
	}
	var lanes []string
	for _, step := range idleSteps {
		var b pgx.Batch
		b.Queue(oneOperatorSQL)
		q := b.Queue(step.sql, step.args...)
		if step.sql == moveIdleSQL {
			q.Query(func(rows pgx.Rows) (err error) {
				lanes, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
					n, err := pgx.RowTo[int32](row)
					return strconv.Itoa(int(n)), err
				})
				return err
			})
		}
		if err = s.pool.SendBatch(ctx, &b).Close(); err != nil {
			return true, fmt.Errorf("do what operators asked: %w", err)
		}
	}
	if len(lanes) > 0 {
		err = s.Notify(ctx, strings.Join(slices.Compact(lanes), ","))
	}
	return true, err
}
