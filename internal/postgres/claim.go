package postgres

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

//go:embed claim.sql
var claimSQL string

type claimRow struct {
	ID        int64
	Seq       int32
	State     int16
	Stage     int16
	Leg       int16
	Attempt   int16
	Crashes   int16
	Priority  int16
	Lane      int32
	Cursor    int64
	Remaining float64
	PublicID  string
	Pipeline  int32
	Delivery  int16
	CreatedAt time.Time
	Parent    int64
	Role      int16
	Ordinal   int32
	Begun     bool
}

// Claim takes at most want[i].N ready tasks of each lane for w, as each Want says which. A worker whose lease has run out
// gets nothing. Queued tasks of a lane that is begun are extracting when they come: the transition is on record, and the
// time for it runs.
func (s *Store) Claim(ctx context.Context, w gantry.WorkerID, want []gantry.Want) ([]gantry.Task, error) {
	now := time.Now()
	tasks, err := s.claim(ctx, w, want, s.fronts.of(want, now))
	if err != nil {
		return nil, err
	}
	if rest := s.fronts.took(want, tasks, now); len(rest) > 0 {
		more, err := s.claim(ctx, w, rest, make([]front, len(rest)))
		if err != nil {
			return nil, err
		}
		tasks = append(tasks, more...)
		slices.SortFunc(tasks, func(a, b gantry.Task) int {
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Lease.Task, b.Lease.Task))
		})
	}
	return tasks, nil
}

func (s *Store) claim(ctx context.Context, w gantry.WorkerID, want []gantry.Want, from []front) ([]gantry.Task, error) {
	lanes, ns, upto, aged := make([]int32, len(want)), make([]int32, len(want)), make([]int16, len(want)), make([]int32, len(want))
	priorities, firsts := make([]int16, len(want)), make([]int64, len(want))
	begin := []int32{}
	for i, x := range want {
		lanes[i], ns[i], upto[i], aged[i] = x.Lane, int32(x.N), x.Upto, int32(min(x.Aged, x.N))
		priorities[i], firsts[i] = from[i].priority, int64(from[i].task)
		if x.Upto == 0 {
			upto[i] = gantry.LeastUrgent
		}
		if x.Begin {
			begin = append(begin, x.Lane)
		}
	}
	rows, err := s.pool.Query(ctx, claimSQL, lanes, ns, int64(w), upto, aged, begin, priorities, firsts)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	tasks, err := pgx.CollectRows(rows, scanClaimed)
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	return tasks, nil
}

func scanClaimed(row pgx.CollectableRow) (gantry.Task, error) {
	r, err := pgx.RowToStructByPos[claimRow](row)
	return r.task(), err
}

// holdingSQL has the columns of claim.sql. $1 worker.
const holdingSQL = `
select h.id, h.seq, h.state, h.stage, h.leg, h.attempt, h.crashes, h.priority, h.lane, h.cursor,
       coalesce(extract(epoch from h.state_until - now()), 0)::float8 as remaining,
       t.public_id, t.pipeline, t.delivery, t.created_at, coalesce(t.parent, 0), t.role, t.ordinal, false
from task_hot h cross join lateral (select * from task t where t.id = h.id offset 0) t
where h.phase = 1 and h.owner = $1
order by h.priority, h.id`

// Held lists the tasks that w holds, as a claim would have given them: after a Claim whose end is not known, they
// are more than w knows of.
func (s *Store) Held(ctx context.Context, w gantry.WorkerID) ([]gantry.Task, error) {
	rows, err := s.pool.Query(ctx, holdingSQL, int64(w))
	if err != nil {
		return nil, fmt.Errorf("list tasks held: %w", err)
	}
	return pgx.CollectRows(rows, scanClaimed)
}

func (r claimRow) task() gantry.Task {
	return gantry.Task{
		Lease:     gantry.Lease{Task: gantry.TaskID(r.ID), Seq: r.Seq},
		PublicID:  r.PublicID,
		Pipeline:  r.Pipeline,
		Leg:       r.Leg,
		Delivery:  r.Delivery,
		State:     gantry.State(r.State),
		Stage:     r.Stage,
		Attempt:   r.Attempt,
		Crashes:   r.Crashes,
		Priority:  r.Priority,
		Lane:      r.Lane,
		Cursor:    r.Cursor,
		Remaining: time.Duration(r.Remaining * float64(time.Second)),
		CreatedAt: r.CreatedAt,
		Parent:    gantry.TaskID(r.Parent),
		Role:      gantry.Role(r.Role),
		Ordinal:   r.Ordinal,
		Begun:     r.Begun,
	}
}
