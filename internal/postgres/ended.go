package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeNoTask: nobody knows a task of this id. It is NotFound.
const CodeNoTask gantry.Code = "no_task"

// TaskByID finds one task by its whole public id.
func (s *Store) TaskByID(ctx context.Context, id string) (TaskRow, error) {
	list, err := s.Tasks(ctx, Filter{Tasks: []string{id}, Limit: 1})
	if err != nil {
		return TaskRow{}, err
	}
	if len(list) == 0 {
		return TaskRow{}, noTask()
	}
	return list[0], nil
}

// Delivered gives a task that is done, as the process that delivered it saw it; ok is false if it is not done,
// or was filtered, so that nothing was delivered.
func (s *Store) Delivered(ctx context.Context, id string) (t gantry.Task, ok bool, err error) {
	var state int16
	var code string
	err = s.ask.QueryRow(ctx, `select t.id, t.public_id, t.pipeline, t.leg, t.delivery, coalesce(t.parent, 0), t.role, t.ordinal, coalesce(t.final_state, -1), coalesce(
			(select e.code from task_event e where e.task_id = t.id order by e.seq desc limit 1), '')
		from task t where t.public_id = $1`, id).Scan(&t.Task, &t.PublicID, &t.Pipeline, &t.Leg, &t.Delivery, &t.Parent, &t.Role, &t.Ordinal, &state, &code)
	if errors.Is(err, pgx.ErrNoRows) {
		return t, false, noTask()
	}
	if err != nil {
		return t, false, fmt.Errorf("read task: %w", err)
	}
	t.State = gantry.Responding
	return t, state == int16(gantry.Done) && code != string(gantry.CodeFiltered), nil
}

func noTask() error { return gantry.Errorf(gantry.NotFound, CodeNoTask, "there is no such task") }
