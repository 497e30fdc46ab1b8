package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Choice says which tasks are looked at, of those that are no children of others. Empty fields do not select.
type Choice struct {
	Pipeline string
	States   []gantry.State
	Since    time.Time
}

// Candidate is a task that an operator's command may be about.
type Candidate struct {
	TaskRow
	Age        time.Duration  // since it was made, by the database's clock
	Ended      *time.Duration // since it ended; nil before
	Attempts   int            // failed tries of the state that it is in, or failed in
	Crashes    *int           // deaths of processes that held it; nil once it has ended
	Priority   *int           // nil once it has ended
	ErrorStage string         // the stage that failed; empty if that was another state
}

// candidatesSQL reads a page of tasks in the order of their keys. $1 the last key of the page before, $2 pipeline, $3
// states, $4 since, $5 how many.
var candidatesSQL = `
with t as materialized (
  select t.*, pv.name, pv.version, coalesce(h.state, t.final_state) as state, h.phase, h.stage, h.attempt, h.crashes, h.priority
  from task t join pipeline_version pv on pv.id = t.pipeline left join task_hot h on h.id = t.id
  where t.id > $1 and t.parent is null and ($2 = '' or pv.name = $2) and coalesce(h.state, t.final_state) = any ($3::smallint[]) and t.created_at >= $4
  order by t.id limit $5)
select t.id, t.public_id, t.name, encode(t.version, 'hex'), ` + fmt.Sprintf(stateNameSQL, `t.state`) + `,
  coalesce((array['ready','owned','delayed','waiting','paused'])[t.phase + 1], ''), coalesce(t.stage, 0)::int, coalesce(split_part(coalesce(a.source, (select source from collection where id = t.collection)), '/', 2), ''),
  (select count(*)::int from task c where c.parent = t.id), t.created_at, t.finished_at,
  coalesce(t.error_code, ''), coalesce(` + fmt.Sprintf(kindNameSQL, `t.error_kind`) + `, ''), coalesce(t.error, ''),
  extract(epoch from now() - t.created_at)::float8, extract(epoch from now() - t.finished_at)::float8,
  coalesce(t.attempt, e.attempt, 0)::int, t.crashes::int, t.priority::int,
  case when e.from_state = 3 then coalesce((select resolved::json -> 'stages' -> e.stage::int ->> 'name' from pipeline_version where id = t.pipeline), '') else '' end
from t left join lateral (select source from arrival where id = t.arrival offset 0) a on true
left join lateral (select from_state, stage, attempt from task_event where task_id = t.id order by seq desc limit 1) e on t.final_state = 6
order by t.id`

// Candidates reads a page of at most n tasks whose keys are above after, in their order.
func (s *Store) Candidates(ctx context.Context, c Choice, after int64, n int) ([]Candidate, error) {
	var states []int16
	for _, x := range c.States {
		states = append(states, int16(x))
	}
	rows, err := s.pool.Query(ctx, candidatesSQL, after, c.Pipeline, states, c.Since, n)
	if err != nil {
		return nil, fmt.Errorf("read tasks: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Candidate, err error) {
		var e TaskError
		var age float64
		var ended *float64
		err = row.Scan(&t.Key, &t.ID, &t.Pipeline, &t.Version, &t.State, &t.Phase, &t.Stage, &t.Source, &t.Children, &t.CreatedAt, &t.FinishedAt,
			&e.Code, &e.Kind, &e.Message, &age, &ended, &t.Attempts, &t.Crashes, &t.Priority, &t.ErrorStage)
		t.Age = seconds(age)
		if ended != nil {
			d := seconds(*ended)
			t.Ended = &d
		}
		if e.Code != "" {
			t.Error = &e
		}
		return t, err
	})
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// StateOf reads the state of one task by its key.
func (s *Store) StateOf(ctx context.Context, key int64) (x gantry.State, err error) {
	err = s.ask.QueryRow(ctx, `select coalesce(h.state, t.final_state) from task t left join task_hot h on h.id = t.id where t.id = $1`, key).Scan(&x)
	if err != nil {
		return x, fmt.Errorf("read state of task: %w", err)
	}
	return x, nil
}
