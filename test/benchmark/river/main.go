// Command river takes tasks of five states through River (github.com/riverqueue/river), the peer of
// gantry's scheduler in its benchmark. Each transition is one row of a history table, durable before the
// next step begins. Two shapes: 2 makes one job for each state, the usual way; 3 makes one job for each
// task, the leanest. "river fill" makes the tables and the jobs; "river work" is one worker process: it
// prints ready, begins at the first byte on its standard input and ends when that is closed.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

const (
	stages  = 5
	history = `insert into history(task_id, seq, from_state, to_state, attempt, worker) values ($1, $2, $3, $4, 0, $5)`
)

func main() {
	dsn := flag.String("dsn", "", "the database")
	shape := flag.Int("shape", 3, "2: one job per state; 3: one job per task")
	tasks := flag.Int("tasks", 1000, "how many to make")
	flag.Parse()
	ctx := context.Background()
	run := fill
	if flag.Arg(0) == "work" {
		run = work
	}
	if err := run(ctx, *dsn, *shape, *tasks); err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

// State is the job of shape 2: one task in one state.
type State struct {
	Task  int64 `json:"task"`
	State int   `json:"state"`
}

// Kind is part of river.JobArgs.
func (State) Kind() string { return "state" }

// Task is the job of shape 3.
type Task struct {
	Task int64 `json:"task"`
}

// Kind is part of river.JobArgs.
func (Task) Kind() string { return "task" }

func open(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = 16
	return pgxpool.NewWithConfig(ctx, cfg)
}

// fill makes River's tables, the history and one job for each task.
func fill(ctx context.Context, dsn string, shape, tasks int) error {
	pool, err := open(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	m, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, `create table history(task_id bigint not null, seq int not null, from_state smallint not null, to_state smallint not null,
		attempt smallint not null, worker bigint not null, at timestamptz not null default clock_timestamp(), detail jsonb, primary key (task_id, seq))`); err != nil {
		return err
	}
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
	if err != nil {
		return err
	}
	for n := 0; n < tasks; {
		var list []river.InsertManyParams
		for ; n < tasks && len(list) < 1000; n++ {
			var args river.JobArgs = Task{int64(n)}
			if shape == 2 {
				args = State{Task: int64(n)}
			}
			list = append(list, river.InsertManyParams{Args: args})
		}
		if _, err := client.InsertManyFast(ctx, list); err != nil {
			return err
		}
	}
	return nil
}

// stateWorker writes a transition and makes the next state's job in one transaction; River completes the
// job itself, in batches.
type stateWorker struct {
	river.WorkerDefaults[State]
	pool *pgxpool.Pool
}

// Work is part of river.Worker.
func (w *stateWorker) Work(ctx context.Context, job *river.Job[State]) error {
	return pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
		a := job.Args
		if _, err := tx.Exec(ctx, history, a.Task, a.State+1, a.State, a.State+1, int64(os.Getpid())); err != nil || a.State+1 == stages {
			return err
		}
		_, err := river.ClientFromContext[pgx.Tx](ctx).InsertTx(ctx, tx, State{a.Task, a.State + 1}, nil)
		return err
	})
}

// taskWorker writes each of a task's transitions in a transaction of its own.
type taskWorker struct {
	river.WorkerDefaults[Task]
	pool *pgxpool.Pool
}

// Work is part of river.Worker.
func (w *taskWorker) Work(ctx context.Context, job *river.Job[Task]) error {
	for s := range stages {
		if _, err := w.pool.Exec(ctx, history, job.Args.Task, s+1, s, s+1, int64(os.Getpid())); err != nil {
			return err
		}
	}
	return nil
}

// work is one worker process. The cooldowns are those that serve River best: a notification for each
// insert of shape 2 makes its commits wait for one another.
func work(ctx context.Context, dsn string, shape, _ int) error {
	pool, err := open(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	workers, cooldown := river.NewWorkers(), 20*time.Millisecond
	if shape == 2 {
		cooldown = 100 * time.Millisecond
	}
	river.AddWorker(workers, &stateWorker{pool: pool})
	river.AddWorker(workers, &taskWorker{pool: pool})
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{FetchCooldown: cooldown, FetchPollInterval: 2 * cooldown,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 500}}, Workers: workers,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := pool.Ping(ctx); err != nil {
		return err
	}
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadByte(); err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	io.Copy(io.Discard, in)
	return client.Stop(ctx)
}
