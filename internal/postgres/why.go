package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// MostAhead is how many tasks before one in its lane are counted.
const MostAhead = 10_000

// FirstChildren is how many of the children that a task waits for are listed.
const FirstChildren = 4

// Facts are what the scheduler's rows say of one task, as they all were at one moment.
type Facts struct {
	Now    time.Time // by the database's clock
	State  gantry.State
	Phase  gantry.Phase // of a task that has not ended
	Leg    int16
	Stage  int16
	Tries  int16 // of the state or stage that failed
	Deaths int16 // of processes that worked on it
	Aside  bool  // its process holds it, and has not begun it
	Rank   int16 // its priority

	Due     *time.Time // Delayed: when there is something to do again
	Until   *time.Time // when the time of its state is up
	Ended   *time.Time
	Error   TaskError // why it failed or was cancelled
	Run     bool      // it belongs to gantry run
	Parent  string    // public id of the task that it is a part of
	Last    LastEvent
	Lane    FactLane
	Owner   int64 // the process that holds it; 0: none
	Pause   *Pausing
	Ahead   FactAhead
	OffPeak string // the windows of its pipeline, as gantry.ParseWindows reads them

	Processes []Process   // all of them, by their ids
	Asked     []Asked     // of operators, and not done yet
	Parts     []Parts     // of its stage, by processor
	Calls     []OpenCalls // the longest first
	Children  FactChildren
	Limits    []FactLimit
	Confirms  []Confirms // that sinks owe

	Collection *CollectionRow // that it was made from; nil: it was not, or nobody asked
}

// LastEvent is the last recorded transition of a task; Change is -1 if there is none.
type LastEvent struct {
	At           time.Time
	From         gantry.State
	Stage        int16
	Change       int16
	Code, Detail string
}

// FactLane is where a task waits to be claimed.
type FactLane struct {
	Pipeline, Source string
	Limiter          int32 // of the pipeline's tasks in progress
	Private          int64 // the only process that claims from it; 0: all do
}

// FactAhead counts the ready tasks of the lane that are claimed before this one, up to MostAhead.
type FactAhead struct{ All, Urgent int }

// Process is one that registered and was not taken off the books yet.
type Process struct {
	ID        int64
	Host      string
	PID       int
	StartedAt time.Time
	ExpiresAt time.Time
	Tasks     int  // that it holds
	Places    int  // how many it takes at once; 0: nobody knows
	Alone     bool // one of them is to run, or runs, alone: it claims nothing
	Private   bool // it claims from its own lane only, as gantry run does
}

// Asked is what an operator wants of a task.
type Asked struct {
	Verb, By string
	At       time.Time
}

// Parts counts the parts of a stage that one processor is called for; of parts that were redriven the newest.
type Parts struct {
	Processor                         int16
	Planned, Out, OK, Skipped, Failed int
	Later                             int        // of the planned: not due yet
	Due                               *time.Time // of the first of these
	Code                              string     // why it is tried again
	Tries, Asked                      int16      // its failed tries, and those of them that ended with a request to come back later
	OutLimiter                        int32
	OutDue, OutUntil                  *time.Time // the next poll, and the first deadline, of those that are out
}

// OpenCalls are calls of a task to one target that its holder has on record, and that have not ended: they wait for a
// unit or a start, or for their answer.
type OpenCalls struct {
	Limiter int32
	Target  string // its limit's key
	N       int
	Since   time.Time // the first of them
}

// FactChildren are the children that a task was divided into in its leg.
type FactChildren struct {
	All, Open int
	First     []FactChild // of those that are open
}

// FactChild is a child that has not ended.
type FactChild struct {
	ID    string
	State gantry.State
	Phase gantry.Phase
	Owner int64
	Due   *time.Time
}

// FactLimit is a limit that may hold a task up, with those who hold units.
type FactLimit struct {
	LimitRow
	Next    *time.Time // no start is free before; nil: one is
	Holders []FactHolder
}

// FactHolder is a process's part of a limit.
type FactHolder struct {
	Process   int64
	Host      string // empty if it is gone
	Units     int    // in use; of a dead process: that may be
	HeldUntil *time.Time
}

// subjectSQL begins every query with the task. $1 its key.
const subjectSQL = `with s as materialized (
  select t.id, t.leg, t.parent, h.state, h.phase, h.stage, h.seq, h.priority, h.lane, h.owner, l.pipeline, l.limiter
  from task t left join task_hot h on h.id = t.id left join lane l on l.id = h.lane where t.id = $1)
`

var factsSQL = subjectSQL + `
select clock_timestamp(), coalesce(s.state, t.final_state), coalesce(s.phase, 0), t.leg, coalesce(s.stage, 0), coalesce(h.attempt, 0), coalesce(h.crashes, 0),
  coalesce(h.aside, false), coalesce(s.priority, 0), h.run_at, h.state_until, t.finished_at, coalesce(t.error_code, ''),
  coalesce(` + fmt.Sprintf(kindNameSQL, `t.error_kind`) + `, ''), coalesce(t.error, ''), t.run <> '', coalesce((select public_id from task p where p.id = s.parent), ''),
  coalesce(e.at, 'epoch'), coalesce(e.from_state, 0), coalesce(e.stage, 0), coalesce(e.change, -1), coalesce(e.code, ''), coalesce(e.detail, ''),
  coalesce(l.pipeline, ''), coalesce(l.source, ''), coalesce(l.limiter, 0), coalesce(l.private_worker, 0), coalesce(s.owner, 0),
  coalesce((select offpeak from pipeline_order o where o.pipeline = l.pipeline), ''), p.at, coalesce(p.by, ''), coalesce(p.reason, '')
from s join task t on t.id = s.id left join task_hot h on h.id = s.id left join lane l on l.id = s.lane
left join task_pause p on p.task_id = s.id and s.phase = 4
left join lateral (select * from task_event where task_id = $1 order by seq desc limit 1) e on true`

const processesSQL = `
select w.id, w.host, w.pid, w.started_at, w.expires_at, coalesce(o.n, 0), coalesce(w.places, 0), coalesce(o.alone, false), exists (select from lane l where l.private_worker = w.id)
from worker w left join lateral (
  select count(*)::int as n, bool_or(crashes >= 2) as alone from task_hot where phase = 1 and owner = w.id) o on true
order by w.id`

var aheadSQL = subjectSQL + fmt.Sprintf(`
select count(*)::int, count(*) filter (where q.priority < s.priority)::int from s cross join lateral (
  select priority from task_hot where phase = 0 and lane = s.lane and (priority, id) < (s.priority, s.id)
  order by priority, id limit %d) q where s.phase = 0`, MostAhead)

const factPartsSQL = subjectSQL + `,
live as (
  select distinct on (p.processor, p.ordinal) p.* from s join part p on p.task_id = s.id and p.leg = s.leg and p.stage = s.stage
  where s.state = 3 order by p.processor, p.ordinal, p.generation desc),
later as (
  select distinct on (processor) processor, due, reason, attempt, asked from live
  where status = 0 and due > clock_timestamp() order by processor, due)
select live.processor, count(*) filter (where status = 0)::int, count(*) filter (where status = 1)::int, count(*) filter (where status = 2)::int,
  count(*) filter (where status = 3)::int, count(*) filter (where status = 4)::int,
  count(*) filter (where status = 0 and live.due > clock_timestamp())::int, min(later.due), coalesce(min(later.reason), ''),
  coalesce(min(later.attempt), 0), coalesce(min(later.asked), 0), coalesce(min(live.out_limiter) filter (where status = 1), 0),
  min(live.due) filter (where status = 1), min(live.out_until) filter (where status = 1)
from live left join later on later.processor = live.processor
group by live.processor order by live.processor`

const openCallsSQL = subjectSQL + `
select i.limiter, coalesce(min(l.key), ''), count(*)::int, min(i.at)
from s join call_intent i on i.task_id = s.id and i.seq = s.seq left join limiter l on l.id = i.limiter
where s.phase = 1 and not exists (select from call_outcome o where o.task_id = i.task_id and o.id = i.id)
group by i.limiter order by 4`

var factChildrenSQL = subjectSQL + fmt.Sprintf(`,
c as (select c.id, c.public_id, c.role, c.ordinal, c.final_state from s join task c on c.parent = s.id and c.leg = s.leg)
select (select count(*)::int from c), (select count(*)::int from c where final_state is null), x.public_id, x.state, x.phase, coalesce(x.owner, 0), x.run_at
from (select 1) one left join lateral (
  select c.public_id, h.state, h.phase, h.owner, h.run_at from c join task_hot h on h.id = c.id order by c.role, c.ordinal limit %d) x on true`, FirstChildren)

// chosenSQL selects the limits of keys $2, of the lane, and of what is out.
const chosenSQL = `l.key = any ($2) or l.id in (select limiter from s union
  select p.out_limiter from s join part p on p.task_id = s.id and p.leg = s.leg and p.stage = s.stage where p.status = 1)`

const factLimitsSQL = subjectSQL + `select ` + limitColumns + `, case when l.now_rate is not null and l.tat > clock_timestamp() then l.tat end` +
	limitFrom + `where ` + chosenSQL + ` order by l.key`

const factHoldersSQL = subjectSQL + `
select g.limiter, g.worker, coalesce(w.host, ''), case when g.held_until is null then least(g.units, g.want) else g.units end, g.held_until
from limiter l join limit_grant g on g.limiter = l.id left join worker w on w.id = g.worker
where (` + chosenSQL + `) and (g.held_until is null or g.held_until > clock_timestamp()) and least(g.units, case when g.held_until is null then g.want else g.units end) > 0
order by 4 desc, g.worker`

// Facts reads what a task waits for: in a few short queries on one snapshot, which lock nothing. keys are those of
// limits that may hold it up, besides its pipeline's. The error is NotFound with CodeNoTask if there is no such task.
func (s *Store) Facts(ctx context.Context, task gantry.TaskID, keys []string) (f Facts, err error) {
	b := &pgx.Batch{}
	f.queueTask(b, int64(task))
	f.queueLimits(b, int64(task), keys)
	err = pgx.BeginTxFunc(ctx, s.ask, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return tx.SendBatch(ctx, b).Close()
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return f, gantry.Errorf(gantry.NotFound, CodeNoTask, "there is no such task")
	}
	if err != nil {
		return f, fmt.Errorf("read what a task waits for: %w", err)
	}
	return f, nil
}

func (f *Facts) queueTask(b *pgx.Batch, id int64) {
	b.Queue(factsSQL, id).QueryRow(func(row pgx.Row) error {
		var p Pausing
		var at *time.Time
		err := row.Scan(&f.Now, &f.State, &f.Phase, &f.Leg, &f.Stage, &f.Tries, &f.Deaths, &f.Aside, &f.Rank, &f.Due, &f.Until, &f.Ended,
			&f.Error.Code, &f.Error.Kind, &f.Error.Message, &f.Run, &f.Parent, &f.Last.At, &f.Last.From, &f.Last.Stage, &f.Last.Change, &f.Last.Code, &f.Last.Detail,
			&f.Lane.Pipeline, &f.Lane.Source, &f.Lane.Limiter, &f.Lane.Private, &f.Owner, &f.OffPeak, &at, &p.By, &p.Reason)
		if at != nil {
			p.At = *at
			f.Pause = &p
		}
		return err
	})
	collect(b.Queue(processesSQL), &f.Processes, pgx.RowToStructByPos[Process])
	b.Queue(aheadSQL, id).QueryRow(func(row pgx.Row) error { return row.Scan(&f.Ahead.All, &f.Ahead.Urgent) })
	collect(b.Queue(`select verb, by, at from command where task_id = $1 and done_at is null order by id`, id), &f.Asked, pgx.RowToStructByPos[Asked])
	collect(b.Queue(factPartsSQL, id), &f.Parts, pgx.RowToStructByPos[Parts])
	collect(b.Queue(openCallsSQL, id), &f.Calls, pgx.RowToStructByPos[OpenCalls])
	collect(b.Queue(factConfirmsSQL, id), &f.Confirms, pgx.RowToStructByPos[Confirms])
	b.Queue(factChildrenSQL, id).Query(func(rows pgx.Rows) error {
		var x FactChild
		var public *string
		var state, phase *int16
		_, err := pgx.ForEachRow(rows, []any{&f.Children.All, &f.Children.Open, &public, &state, &phase, &x.Owner, &x.Due}, func() error {
			if public != nil {
				x.ID, x.State, x.Phase = *public, gantry.State(*state), gantry.Phase(*phase)
				f.Children.First = append(f.Children.First, x)
			}
			return nil
		})
		return err
	})
}

func (f *Facts) queueLimits(b *pgx.Batch, id int64, keys []string) {
	collect(b.Queue(factLimitsSQL, id, keys), &f.Limits, func(row pgx.CollectableRow) (x FactLimit, err error) {
		err = row.Scan(append(x.fields(), &x.Next)...)
		return x, err
	})
	b.Queue(factHoldersSQL, id, keys).Query(func(rows pgx.Rows) error {
		var limiter int32
		var h FactHolder
		_, err := pgx.ForEachRow(rows, []any{&limiter, &h.Process, &h.Host, &h.Units, &h.HeldUntil}, func() error {
			for i := range f.Limits {
				if f.Limits[i].ID == limiter {
					f.Limits[i].Holders = append(f.Limits[i].Holders, h)
				}
			}
			return nil
		})
		return err
	})
}

// collect reads all rows of a queued query.
func collect[T any](q *pgx.QueuedQuery, into *[]T, scan pgx.RowToFunc[T]) {
	q.Query(func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, scan)
		return err
	})
}

// SetPlaces puts down how many tasks a process takes at once.
func (s *Store) SetPlaces(ctx context.Context, w gantry.WorkerID, places int) error {
	if _, err := s.pool.Exec(ctx, `update worker set places = $2 where id = $1`, int64(w), places); err != nil {
		return fmt.Errorf("put down places: %w", err)
	}
	return nil
}

// VersionOf gives the row of pipeline_version that a task goes by.
func (s *Store) VersionOf(ctx context.Context, task gantry.TaskID) (id int32, err error) {
	if err = s.ask.QueryRow(ctx, `select pipeline from task where id = $1`, int64(task)).Scan(&id); err != nil {
		return 0, fmt.Errorf("read pipeline version of task: %w", err)
	}
	return id, nil
}
