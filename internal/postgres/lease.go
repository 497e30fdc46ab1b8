package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Register gives this process a new worker id whose lease lasts ttl.
func (s *Store) Register(ctx context.Context, host string, pid int, ttl time.Duration) (gantry.WorkerID, error) {
	var id int64
	err := s.pool.QueryRow(ctx, `insert into worker(host, pid, expires_at)
		values ($1, $2, now() + $3 * interval '1 us') returning id`, host, pid, micros(ttl)).Scan(&id)
	if err != nil {
		return 0, fmt.Errorf("register worker: %w", err)
	}
	return gantry.WorkerID(id), nil
}

// Heartbeat renews a lease. False means that it ran out: the process is dead to all others and
// must register anew.
func (s *Store) Heartbeat(ctx context.Context, w gantry.WorkerID, ttl time.Duration) (bool, error) {
	tag, err := s.pool.Exec(ctx, `update worker set expires_at = now() + $2 * interval '1 us'
		where id = $1 and expires_at > now()`, int64(w), micros(ttl))
	if err != nil {
		return false, fmt.Errorf("renew lease: %w", err)
	}
	return tag.RowsAffected() == 1, nil
}

// Staffed tells whether any process is at work.
func (s *Store) Staffed(ctx context.Context) (yes bool, err error) {
	if err = s.pool.QueryRow(ctx, `select exists (select from worker where expires_at > now())`).Scan(&yes); err != nil {
		return false, fmt.Errorf("look for processes: %w", err)
	}
	return yes, nil
}

// resignSQL takes a worker off the books, or lets the reaper do it that rescues its tasks: until then they are in
// progress. $1 worker.
const resignSQL = `
with busy as materialized (select exists (select from task_hot where phase = 1 and owner = $1) as yes),
g as (
  delete from limit_grant g using busy, limiter l
  where g.worker = $1 and l.id = g.limiter and not (busy.yes and l.key like 'pipeline:%')),
d as (delete from worker using busy where id = $1 and not busy.yes)
update worker set expires_at = least(expires_at, now()) from busy where id = $1 and busy.yes`

// Resign ends a lease cleanly. None of the caller's calls run any more; a task that it holds although it knows
// nothing of it, since the answer of a claim got lost, is rescued as that of a dead process is.
func (s *Store) Resign(ctx context.Context, w gantry.WorkerID) error {
	_, err := s.pool.Exec(ctx, resignSQL, int64(w))
	if err != nil {
		return fmt.Errorf("resign: %w", err)
	}
	return nil
}

// orphanSQL cancels the tasks of lanes whose only process is gone. They are found lane by lane, by the indexes of what is ready
// and of what is parked: with a join the whole queue is read, twice, by every process and twice a second.
const orphanSQL = `
with gone as materialized (
  select l.id from lane l where l.private_worker is not null
    and not exists (select 1 from worker w where w.id = l.private_worker)),
d as (
  delete from task_hot h
  where h.phase <> 1 and h.id = any (array(
    select x.id from gone cross join lateral (
      select id from task_hot where lane = gone.id and phase = 0
      union all
      select id from task_hot where lane = gone.id and phase > 1) x))
  returning h.id, h.seq + 1 as seq, h.leg, h.state, h.stage, h.attempt),
c as (
  update task set final_state = 7, finished_at = clock_timestamp(), error_code = 'runner_gone',
    error = 'the process that ran it is gone; the input is kept' from d where task.id = d.id)
insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, code)
select id, seq, leg, state, 7, stage, attempt, 0, 4, 'runner_gone' from d`

// Reap rescues the tasks of dead processes, ends those that too many died of, and says in which lanes there
// is work now.
func (s *Store) Reap(ctx context.Context) (lanes []int32, err error) {
	rows, err := s.pool.Query(ctx, reapSQL, 4, gantry.CrashesToFail)
	if err == nil {
		lanes, err = pgx.CollectRows(rows, pgx.RowTo[int32])
	}
	if err == nil {
		_, err = s.pool.Exec(ctx, orphanSQL)
	}
	if err != nil {
		return nil, fmt.Errorf("reap: %w", err)
	}
	return lanes, nil
}

const promoteSQL = `
with c as materialized (
  select id from task_hot where phase = 2 and run_at <= now() order by run_at limit $1 for update skip locked),
u as (
  update task_hot set phase = 0, run_at = null where id = any (array(select id from c)) returning lane)
select distinct lane from u`

// Promote makes delayed tasks ready whose time has come, at most limit of them, and says in which
// lanes. next is how long it is until the next one is due; below 0 if there is none.
func (s *Store) Promote(ctx context.Context, limit int) (lanes []int32, next time.Duration, err error) {
	rows, err := s.pool.Query(ctx, promoteSQL, limit)
	if err == nil {
		lanes, err = pgx.CollectRows(rows, pgx.RowTo[int32])
	}
	if err != nil {
		return nil, 0, fmt.Errorf("promote: %w", err)
	}
	var secs *float64
	if err := s.pool.QueryRow(ctx, `select extract(epoch from min(run_at) - clock_timestamp())::float8
		from task_hot where phase = 2`).Scan(&secs); err != nil {
		return nil, 0, fmt.Errorf("promote: %w", err)
	}
	if secs == nil {
		return lanes, -1, nil
	}
	return lanes, max(0, time.Duration(*secs*float64(time.Second))), nil
}

// Lanes lists the lanes that w may claim from: the shared ones, or its own private ones alone.
func (s *Store) Lanes(ctx context.Context, w gantry.WorkerID, private bool) ([]gantry.Lane, error) {
	rows, err := s.pool.Query(ctx, `select id, pipeline, source, limiter from lane
		where case when $2 then private_worker = $1 else private_worker is null end order by id`, int64(w), private)
	if err != nil {
		return nil, fmt.Errorf("list lanes: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[gantry.Lane])
}

// Notify wakes the processes that listen: there is work in these lanes. It runs outside of any
// other transaction, since a pending notification serialises commits.
func (s *Store) Notify(ctx context.Context, lanes string) error {
	_, err := s.pool.Exec(ctx, `select pg_notify('gantry_wake', $1)`, lanes)
	return err
}

// Listen calls wake once it listens and then for each notification, until ctx ends or the
// connection breaks.
func (s *Store) Listen(ctx context.Context, wake func(lanes string)) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	conn := c.Hijack()
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `listen gantry_wake`); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	wake("")
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		wake(n.Payload)
	}
}

// ReadyLanes says which of these lanes have a task to claim. It only reads.
func (s *Store) ReadyLanes(ctx context.Context, lanes []int32) ([]int32, error) {
	rows, err := s.pool.Query(ctx, `select l from unnest($1::int[]) l
		where exists (select 1 from task_hot where phase = 0 and lane = l)`, lanes)
	if err != nil {
		return nil, fmt.Errorf("look for ready tasks: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[int32])
}
