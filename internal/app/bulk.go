package app

import (
	"context"
	"fmt"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// An Act does one thing to one task and says what became of it. Its error is one of the database.
type Act func(ctx context.Context, t postgres.TaskRow) (Verdict, error)

// Bulk says which tasks a command is about. Tasks that are a part of others are not among them: what is done to the whole
// is done to them. Empty fields do not select; Limit 0 is no limit.
type Bulk struct {
	postgres.Choice
	Where string // an expression; pipeline.TaskVariables lists what it may speak of
	Limit int
}

// page is how many tasks are read at once.
const page = 500

// Choose finds the tasks that a command is about, the oldest first. It changes nothing. An expression that cannot be
// used, or has no value for a task, is Illegal with code bad_expression, and no task is chosen.
func (d *Database) Choose(ctx context.Context, b Bulk) (out []postgres.TaskRow, err error) {
	var where gantry.Condition
	if b.Where != "" {
		if where, err = pipeline.TaskCondition(b.Where); err != nil {
			return nil, err
		}
	}
	for after := int64(0); ; {
		list, err := d.Candidates(ctx, b.Choice, after, page)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			after = c.Key
			holds := where == nil
			if !holds {
				if holds, err = where.Holds(variables(c)); err != nil {
					return nil, fmt.Errorf("task %s: %w", c.ID, err)
				}
			}
			if !holds {
				continue
			}
			if out = append(out, c.TaskRow); len(out) == b.Limit {
				return out, nil
			}
		}
		if len(list) < page {
			return out, nil
		}
	}
}

// variables are what an expression may say of a task.
func variables(c postgres.Candidate) map[string]any {
	task := map[string]any{"id": c.ID, "pipeline": c.Pipeline, "version": c.Version, "state": c.State, "phase": c.Phase, "source": c.Source,
		"age": c.Age.Seconds(), "created": c.CreatedAt.UTC().Format(time.RFC3339), "finished": "", "attempts": c.Attempts, "children": c.Children}
	if c.FinishedAt != nil {
		task["finished"] = c.FinishedAt.UTC().Format(time.RFC3339)
	}
	if c.Ended != nil {
		task["ended"] = c.Ended.Seconds()
	}
	if c.Crashes != nil {
		task["crashes"] = *c.Crashes
	}
	if c.Priority != nil {
		task["priority"] = *c.Priority
	}
	failure := map[string]any{"kind": "", "code": "", "stage": c.ErrorStage}
	if c.Error != nil {
		failure["kind"], failure["code"] = c.Error.Kind, c.Error.Code
	}
	return map[string]any{"task": task, "error": failure}
}

// A long list is worked off in bursts with pauses between, so that those who take up what was put back, and all
// else that the database does, come to their turn.
const (
	burst      = 50
	burstPause = 20 * time.Millisecond
)

// Each does one thing to every task of a list, one transaction each, and tells what became of it.
func Each(ctx context.Context, list []postgres.TaskRow, do Act, tell func(Verdict) error) error {
	for i, t := range list {
		if i > 0 && i%burst == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(burstPause):
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d tasks are done with: %w", i, len(list), context.Cause(ctx))
		}
		v, err := do(ctx, t)
		if err == nil {
			err = tell(v)
		}
		if err != nil {
			return fmt.Errorf("%d of %d tasks are done with: %w", i, len(list), err)
		}
	}
	return nil
}

// versions reads pipeline versions, each once.
type versions struct {
	d       *Database
	drivers *driver.Register
	known   map[int32]*gantry.Pipeline
}

func (d *Database) versions(drivers *driver.Register) *versions {
	return &versions{d: d, drivers: drivers, known: map[int32]*gantry.Pipeline{}}
}

func (v *versions) get(ctx context.Context, id int32) (*gantry.Pipeline, error) {
	if p := v.known[id]; p != nil {
		return p, nil
	}
	doc, err := v.d.ResolvedPipeline(ctx, id)
	if err != nil {
		return nil, err
	}
	p, err := pipeline.ParseResolved(doc, v.drivers)
	if err != nil {
		return nil, gantry.Errorf(gantry.Illegal, "bad_pipeline", "read pipeline version %d: %w", id, err)
	}
	v.known[id] = p
	return p, nil
}
