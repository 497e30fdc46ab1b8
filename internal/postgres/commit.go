package postgres

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

//go:embed transition.sql
var transitionSQL string

// Commit makes a batch of writes of worker w durable in one transaction and one round trip, and
// tells for each whether it landed. One that did not land was fenced, except its outcome, which
// is kept as a fact. On an error nothing landed, or nobody knows: ask Landed.
func (s *Store) Commit(ctx context.Context, w gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	var (
		b       pgx.Batch
		landed  = make([]bool, len(writes))
		results = newResultColumns(writes)
		moves   = newTransitionColumns(writes)
		held    []int64 // by the place of the lease
		alive   bool    // the process's own holds
		moved   = map[int64]bool{}
	)
	if !results.empty() {
		sql, args := results.statement(s.results, w)
		b.Queue(sql, args...).QueryRow(func(row pgx.Row) error { return row.Scan(&held, &alive) })
	}
	if children := newChildColumns(writes); !children.empty() {
		b.Queue(childrenSQL, children.args(w)...)
	}
	if !moves.empty() {
		sql, args := moves.statement(s.moves, w)
		b.Queue(sql, args...).Query(collectKeys(moved))
	}
	if c := newLeaveColumns(writes, gantry.Move); !c.empty() {
		b.Queue(moveSQL, c.moveArgs(w)...).Query(collectKeys(moved))
	}
	if c := newLeaveColumns(writes, gantry.Pause); !c.empty() {
		b.Queue(pauseSQL, c.pauseArgs(w)...).Query(collectKeys(moved))
	}
	if err := s.write.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	for i, x := range writes {
		landed[i] = (!hasResults(x) || held[results.of(x.Lease)-1] > 0) &&
			(x.Intent == nil || alive && (x.Intent.Task == 0 || held[results.of(x.Intent.Lease)-1] > 0)) &&
			(x.Transition == nil || moved[int64(x.Transition.Task)])
	}
	return landed, nil
}

// Landed tells, after a Commit whose end is not known, which writes are in the database. Only
// those with an intent, an outcome or a transition are looked for: the others may simply be written
// again.
func (s *Store) Landed(ctx context.Context, w gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	landed := make([]bool, len(writes))
	for i, x := range writes {
		var q string
		var args []any
		switch {
		case x.Transition != nil:
			q = `select exists (select from task_event where task_id = $1 and seq = $2 and worker = $3)`
			args = []any{int64(x.Transition.Task), x.Transition.Seq + 1, int64(w)}
		case x.Intent != nil:
			q = `select exists (select from call_intent where task_id = $1 and id = $2 and worker = $3)`
			args = []any{int64(x.Intent.Task), [16]byte(x.Intent.ID), int64(w)}
			if n := len(x.Plan); n > 0 { // both are fenced, each when its statement ran; all of a plan is there, or nothing
				p := x.Plan[n-1].PartKey
				q += ` and exists (select from part where task_id = $1 and leg = $4 and stage = $5 and processor = $6 and ordinal = $7 and generation = $8)`
				args = append(args, p.Leg, p.Stage, p.Processor, p.Ordinal, p.Generation)
			}
		case x.Outcome != nil:
			q = `select exists (select from call_outcome where task_id = $1 and id = $2 and result <> $3)`
			args = []any{int64(x.Outcome.Task), [16]byte(x.Outcome.ID), int16(gantry.ResultFenced)}
		default:
			continue
		}
		if err := s.write.QueryRow(ctx, q, args...).Scan(&landed[i]); err != nil {
			return nil, fmt.Errorf("look up commit: %w", err)
		}
	}
	return landed, nil
}

func collectKeys(into map[int64]bool) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var id int64
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error { into[id] = true; return nil })
		return err
	}
}

func hasResults(x *gantry.Write) bool {
	return len(x.Items)+len(x.Marks)+len(x.Plan)+len(x.Parts) > 0 || x.Cursor > 0
}
