package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// TaskRow is a task as people see it.
type TaskRow struct {
	ID         string     `json:"id"`
	Pipeline   string     `json:"pipeline"`
	Version    string     `json:"version"`
	State      string     `json:"state"`
	Phase      string     `json:"phase"`
	Stage      int        `json:"stage"`
	Attempt    int        `json:"attempt"`
	Source     string     `json:"source"`
	Items      int        `json:"items"`
	Parent     string     `json:"parent"`   // public id of the task that waits for it; empty: none
	Role       string     `json:"role"`     // to its parent: shard or member
	Children   int        `json:"children"` // how many tasks it was divided into
	Open       int        `json:"open_children"`
	CreatedAt  time.Time  `json:"created_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Error      *TaskError `json:"error"`
	Leg        int        `json:"leg"` // 0 is the first
	Paused     *Pausing   `json:"paused"`
	Originals  int        `json:"originals"` // 1, or the members of its collection
	Bytes      int64      `json:"bytes"`     // of all of them
	Key        int64      `json:"-"`
}

// TaskError says why a task ended as it did.
type TaskError struct {
	Code    string `json:"code"`
	Kind    string `json:"kind"`
	Message string `json:"message"`
}

// EventRow is one recorded transition.
type EventRow struct {
	Seq     int       `json:"seq"`
	At      time.Time `json:"at"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Stage   int       `json:"stage"`
	Change  string    `json:"change"`
	Attempt int       `json:"attempt"`
	Worker  int64     `json:"worker"`
	Code    string    `json:"code,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// CallRow is one recorded call: its intent, and its outcome if it has one.
type CallRow struct {
	ID             string    `json:"id"`
	Task           string    `json:"task"`
	Part           int       `json:"part"`
	Stage          string    `json:"stage"`
	Processor      string    `json:"processor,omitempty"`
	Source         string    `json:"source,omitempty"`
	Sink           string    `json:"sink,omitempty"`
	Boundary       string    `json:"boundary"`
	Operation      string    `json:"operation"`
	Attempt        int       `json:"attempt"`
	Target         string    `json:"target"`
	StartedAt      time.Time `json:"started_at"`
	DurationMS     float64   `json:"duration_ms"`
	Status         int       `json:"status"`
	Outcome        string    `json:"outcome"`
	ErrorKind      string    `json:"error_kind,omitempty"`
	ErrorCode      string    `json:"error_code,omitempty"`
	RequestSHA256  string    `json:"request_sha256"`
	RequestBytes   int64     `json:"request_bytes"`
	ResponseSHA256 string    `json:"response_sha256"`
	ResponseBytes  int64     `json:"response_bytes"`
	Worker         int64     `json:"worker"`
	Version        string    `json:"pipeline_version"`
}

// Filter selects tasks and calls. Empty fields do not select; Limit 0 is no limit.
type Filter struct {
	Task      string // public id, or an unambiguous beginning of one
	Pipeline  string
	State     string
	Processor string
	Boundary  string
	Outcome   string
	Since     time.Time
	Limit     int
	Tasks     []string // public ids
	Call      string   // a call's id
}

const stateNameSQL = `(array['queued','extracting','ingesting','inferring','responding','done','failed','cancelled'])[%s + 1]`
const kindNameSQL = `(array['transient','timeout','unavailable','bad_response','denied','not_found','permanent','illegal'])[%s + 1]`

var listTasksSQL = `
select t.public_id, pv.name, encode(pv.version, 'hex'), ` + fmt.Sprintf(stateNameSQL, `coalesce(h.state, t.final_state)`) + ` as state,
  coalesce((array['ready','owned','delayed','waiting','paused'])[h.phase + 1], ''), coalesce(h.stage, 0)::int, coalesce(h.attempt, 0)::int,
  coalesce(a.source, (select source from collection where id = t.collection), ''), (select count(*)::int from item i where i.task_id = t.id and i.leg = t.leg),
  coalesce((select p.public_id from task p where p.id = t.parent), ''), (array['','shard','member'])[t.role + 1],
  (select count(*)::int from task c where c.parent = t.id and c.leg = t.leg), coalesce(h.open_children, 0), t.created_at, t.finished_at,
  coalesce(t.error_code, ''), coalesce(` + fmt.Sprintf(kindNameSQL, `t.error_kind`) + `, ''), coalesce(t.error, ''), t.id, t.leg::int, coalesce(u.by, ''), coalesce(u.reason, ''), coalesce(u.at, 'epoch'),
  case when t.collection is null then 1 else (select count(*) from collection_member where collection = t.collection)::int end,
  case when t.collection is null then coalesce(a.size, 0) else (select coalesce(sum(x.size), 0)::bigint from arrival x
    where x.id = any(array(select m.arrival from collection_member m where m.collection = t.collection))) end
from task t join pipeline_version pv on pv.id = t.pipeline
left join task_hot h on h.id = t.id left join arrival a on a.id = t.arrival left join task_pause u on u.task_id = t.id and h.phase = 4
where ($1 = '' or t.public_id like $1 || '%') and ($2 = '' or pv.name = $2)
  and ($3 = '' or ` + fmt.Sprintf(stateNameSQL, `coalesce(h.state, t.final_state)`) + ` = $3)
  and t.created_at >= $4 and ($6::text[] is null or t.public_id = any ($6))
order by t.id desc limit nullif($5, 0)`

// Tasks lists tasks, the newest first.
func (s *Store) Tasks(ctx context.Context, f Filter) ([]TaskRow, error) {
	rows, err := s.ask.Query(ctx, listTasksSQL, f.Task, f.Pipeline, f.State, f.Since, f.Limit, f.Tasks)
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t TaskRow, err error) {
		var e TaskError
		var p Pausing
		err = row.Scan(&t.ID, &t.Pipeline, &t.Version, &t.State, &t.Phase, &t.Stage, &t.Attempt, &t.Source, &t.Items,
			&t.Parent, &t.Role, &t.Children, &t.Open, &t.CreatedAt, &t.FinishedAt, &e.Code, &e.Kind, &e.Message, &t.Key, &t.Leg, &p.By, &p.Reason, &p.At, &t.Originals, &t.Bytes)
		if p.By != "" {
			t.Paused = &p
		}
		if e.Code != "" {
			t.Error = &e
		}
		return t, err
	})
}

// Task finds one task by its public id or the beginning of it.
func (s *Store) Task(ctx context.Context, id string) (TaskRow, error) {
	list, err := s.Tasks(ctx, Filter{Task: id, Limit: 2})
	switch {
	case err != nil:
		return TaskRow{}, err
	case len(list) == 0:
		return TaskRow{}, fmt.Errorf("no task %s", id)
	case len(list) > 1:
		return TaskRow{}, fmt.Errorf("more than one task begins with %s", id)
	}
	return list[0], nil
}

// Events lists a task's transitions in order.
func (s *Store) Events(ctx context.Context, key int64) ([]EventRow, error) {
	rows, err := s.ask.Query(ctx, `select seq, at, `+fmt.Sprintf(stateNameSQL, `from_state`)+`, `+fmt.Sprintf(stateNameSQL, `to_state`)+`,
		stage, case change when 8 then 'reopened' when 12 then 'resumed' else coalesce((array['advance','retry','park','release','end','wait','move','pause'])[change + 1], 'rescued') end, attempt, worker,
		coalesce(code, ''), coalesce(detail, '')
		from task_event where task_id = $1 order by seq`, key)
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[EventRow])
}

// Call finds one call by its id.
func (s *Store) Call(ctx context.Context, id string) (CallRow, error) {
	if (&pgtype.UUID{}).Scan(id) != nil {
		return CallRow{}, fmt.Errorf("no call %s", id)
	}
	list, err := s.Calls(ctx, Filter{Call: id})
	if err != nil {
		return CallRow{}, err
	}
	if len(list) == 0 {
		return CallRow{}, fmt.Errorf("no call %s", id)
	}
	return list[0], nil
}

// TaskCount is how many tasks of a pipeline that have not ended are in a state and a phase.
type TaskCount struct {
	Pipeline, State, Phase string
	Tasks                  int64
}

// Census counts the tasks that have not ended.
func (s *Store) Census(ctx context.Context) ([]TaskCount, error) {
	rows, err := s.ask.Query(ctx, `select l.pipeline, `+fmt.Sprintf(stateNameSQL, `h.state`)+`, (array['ready','owned','delayed','waiting','paused'])[h.phase + 1], count(*)
		from task_hot h join lane l on l.id = h.lane group by 1, 2, 3 order by 1, 2, 3`)
	if err != nil {
		return nil, fmt.Errorf("count tasks: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[TaskCount])
}
