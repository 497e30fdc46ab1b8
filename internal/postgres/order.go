package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// SetOrder records what a pipeline's file says about which of its tasks go first: the rules as the file has them, and
// the windows of off-peak tasks, empty for any time.
func (s *Store) SetOrder(ctx context.Context, pipeline, rules string, offPeak gantry.Windows) error {
	_, err := s.pool.Exec(ctx, `insert into pipeline_order as o (pipeline, rules, offpeak) values ($1, $2, $3)
		on conflict (pipeline) do update set rules = excluded.rules, offpeak = excluded.offpeak, at = clock_timestamp()
		where (o.rules, o.offpeak) is distinct from (excluded.rules, excluded.offpeak)`, pipeline, rules, offPeak.String())
	if err != nil {
		return fmt.Errorf("record order of pipeline %s: %w", pipeline, err)
	}
	return nil
}

// Order gives the rules that SetOrder recorded; empty if there are none.
func (s *Store) Order(ctx context.Context, pipeline string) (rules string, err error) {
	err = s.pool.QueryRow(ctx, `select rules from pipeline_order where pipeline = $1`, pipeline).Scan(&rules)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("read order of pipeline %s: %w", pipeline, err)
	}
	return rules, nil
}

// OffPeak gives the windows of the pipelines that have any.
func (s *Store) OffPeak(ctx context.Context) (map[string]gantry.Windows, error) {
	rows, err := s.pool.Query(ctx, `select pipeline, offpeak from pipeline_order where offpeak <> ''`)
	if err != nil {
		return nil, fmt.Errorf("read off-peak windows: %w", err)
	}
	out := map[string]gantry.Windows{}
	var name, text string
	_, err = pgx.ForEachRow(rows, []any{&name, &text}, func() error {
		w, err := gantry.ParseWindows(text)
		out[name] = w
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read off-peak windows: %w", err)
	}
	return out, nil
}

// Urge puts down how many urgent callers wait in worker w for a unit of a limiter that w has asked for.
func (s *Store) Urge(ctx context.Context, w gantry.WorkerID, limiter int32, urgent int) error {
	_, err := s.pool.Exec(ctx, `update limit_grant set urgent = $3 where limiter = $1 and worker = $2 and urgent <> $3`, limiter, int64(w), urgent)
	if err != nil {
		return fmt.Errorf("urge for limit %d: %w", limiter, err)
	}
	return nil
}

// UrgentLanes says which of these lanes have an urgent task to claim. It only reads.
func (s *Store) UrgentLanes(ctx context.Context, lanes []int32) ([]int32, error) {
	rows, err := s.pool.Query(ctx, `select l from unnest($1::int[]) l
		where exists (select 1 from task_hot where phase = 0 and lane = l and priority <= $2)`, lanes, gantry.PriorityUrgent)
	if err != nil {
		return nil, fmt.Errorf("look for urgent tasks: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[int32])
}

// priorityOr is a priority for a column in which one below 0 is none.
func priorityOr(p *int16) int16 {
	if p == nil {
		return -1
	}
	return *p
}
