package scheduler

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Store is the scheduler's side of the database; package postgres implements it and documents
// each method.
type Store interface {
	Register(ctx context.Context, host string, pid int, ttl time.Duration) (gantry.WorkerID, error)
	Heartbeat(ctx context.Context, w gantry.WorkerID, ttl time.Duration) (bool, error)
	Obey(ctx context.Context, w gantry.WorkerID) ([]gantry.Command, error)
	Resign(ctx context.Context, w gantry.WorkerID) error
	Lanes(ctx context.Context, w gantry.WorkerID, private bool) ([]gantry.Lane, error)
	ReadyLanes(ctx context.Context, lanes []int32) ([]int32, error)
	OffPeak(ctx context.Context) (map[string]gantry.Windows, error)
	UrgentLanes(ctx context.Context, lanes []int32) ([]int32, error)
	Claim(ctx context.Context, w gantry.WorkerID, want []gantry.Want) ([]gantry.Task, error)
	Alone(ctx context.Context, w gantry.WorkerID, l gantry.Lease) (bool, error)
	Held(ctx context.Context, w gantry.WorkerID) ([]gantry.Task, error)
	Commit(ctx context.Context, w gantry.WorkerID, writes []*gantry.Write) ([]bool, error)
	Landed(ctx context.Context, w gantry.WorkerID, writes []*gantry.Write) ([]bool, error)
	Reap(ctx context.Context) ([]int32, error)
	Promote(ctx context.Context, limit int) ([]int32, time.Duration, error)
	Limit(ctx context.Context, id int32) (gantry.LimiterSpec, error)
	Grant(ctx context.Context, w gantry.WorkerID, limiter int32, want, inUse int) (int, error)
	Urge(ctx context.Context, w gantry.WorkerID, limiter int32, urgent int) error
	Share(ctx context.Context, w gantry.WorkerID, limiter int32, want int) (int, error)
	Reserve(ctx context.Context, limiter int32, n int) (first, step time.Duration, err error)
	Rest(ctx context.Context, limiter int32, d time.Duration) error
	Breaker(ctx context.Context, w gantry.WorkerID, limiter int32, news gantry.BreakerNews) (bool, error)
	MakePartitions(ctx context.Context) error
	Notify(ctx context.Context, lanes string) error
	Listen(ctx context.Context, wake func(lanes string)) error
}
