package app

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// More results of a Verdict.
const (
	ResultMoved   = "moved"   // the task is queued in the other pipeline
	ResultMoving  = "moving"  // it will be, once the processes that work on it have heard of it
	ResultPaused  = "paused"  // nothing is done for the task any more
	ResultPausing = "pausing" // the process that holds it hands it back at its next heartbeat
	ResultResumed = "resumed" // the task goes on
)

// change is what an operator does to one task that has not ended, or failed.
type change struct {
	refuse func(postgres.Standing) string // why not; empty: it may be
	do     func(t postgres.TaskRow, s postgres.Standing) (refused string, err error)
	over   func(s postgres.Standing, t postgres.TaskRow) (result, reason string) // what became of it; an empty result: not yet
	yet    string                                                                // the result until then
	wait   time.Duration
}

// apply does a change to the task that an id means, and waits up to its time for what comes of it.
func (d *Database) apply(ctx context.Context, id string, c change) (Verdict, error) {
	t, reason, err := d.find(ctx, id)
	if err != nil || reason != "" {
		return refusal(id, "", reason), err
	}
	s, err := d.Standing(ctx, gantry.TaskID(t.Key))
	if err != nil {
		return Verdict{}, err
	}
	switch {
	case s.Child:
		return refusal(t.ID, t.State, "it is a part of another task, and goes where that goes"), nil
	case s.Private:
		return refusal(t.ID, t.State, "it belongs to gantry run"), nil
	case s.State == gantry.Done, s.State == gantry.Cancelled:
		return refusal(t.ID, t.State, "it has ended"), nil
	}
	if reason := c.refuse(s); reason != "" {
		return refusal(t.ID, t.State, reason), nil
	}
	if reason, err = c.do(t, s); err != nil || reason != "" {
		return refusal(t.ID, t.State, reason), err
	}
	for until := time.Now().Add(c.wait); ; {
		if t, err = d.Task(ctx, t.ID); err == nil {
			s, err = d.Standing(ctx, gantry.TaskID(t.Key))
		}
		if err != nil {
			return Verdict{}, err
		}
		result, reason := c.over(s, t)
		switch {
		case result != "":
			return Verdict{Task: t.ID, Result: result, State: t.State, Reason: reason}, nil
		case !time.Now().Before(until):
			return Verdict{Task: t.ID, Result: c.yet, State: t.State}, nil
		}
		select {
		case <-ctx.Done():
			return Verdict{}, context.Cause(ctx)
		case <-time.After(pollEnd):
		}
	}
}

// Moving says how tasks are moved.
type Moving struct {
	To      string        // the pipeline
	By      string        // who does it
	Stop    bool          // what works on a task is broken off; without it a task at work is refused
	Wait    time.Duration // how long to wait for that
	Drivers *driver.Register
}

// Move lets a task begin its next leg in another pipeline, in the version that was served last: at queued, with its
// original alone. One that failed, or that no process works on, has moved when Move returns; children are ended as
// cancelled before. The error is one of the database.
func (d *Database) Move(ctx context.Context, id string, m Moving) (Verdict, error) {
	var leg int
	return d.apply(ctx, id, change{
		yet: ResultMoving, wait: m.Wait,
		refuse: func(s postgres.Standing) string {
			if s.Running && !m.Stop {
				return "a process works on it: with --stop that is broken off"
			}
			return ""
		},
		do: func(t postgres.TaskRow, s postgres.Standing) (string, error) {
			leg = t.Leg
			to, err := passage(ctx, d.Store, m.Drivers, m.To, gantry.TaskID(t.Key))
			switch {
			case gantry.CodeOf(err) == CodeNoPipeline:
				return "pipeline " + m.To + ": " + err.Error(), nil
			case err != nil:
				return "", err
			case s.State != gantry.Failed:
				return "", d.Store.Move(ctx, gantry.TaskID(t.Key), to, m.By)
			}
			ok, err := d.Reenter(ctx, gantry.TaskID(t.Key), to, gantry.PriorityNormal, m.By)
			if err == nil && !ok {
				return "somebody else reopened it", nil
			}
			return "", err
		},
		over: func(s postgres.Standing, t postgres.TaskRow) (string, string) {
			switch {
			case t.Leg > leg:
				return ResultMoved, ""
			case s.State.Final():
				return ResultRefused, "it ended before it could be moved"
			}
			return "", ""
		}})
}

// Pause lets nothing be done for a task, and for what it was divided into, before it is resumed. A process that
// works on it hands it back at its next heartbeat: calls under way are broken off, and made again later. The
// time of its state does not run. The error is one of the database.
func (d *Database) Pause(ctx context.Context, id, by, reason string, wait time.Duration) (Verdict, error) {
	return d.apply(ctx, id, change{
		yet: ResultPausing, wait: wait,
		refuse: func(s postgres.Standing) string {
			switch {
			case s.Paused != nil:
				return "it was paused by " + s.Paused.By + " at " + s.Paused.At.UTC().Format(time.RFC3339)
			case s.State.Final():
				return "it has ended"
			}
			return ""
		},
		do: func(t postgres.TaskRow, _ postgres.Standing) (string, error) {
			return "", d.Store.Pause(ctx, gantry.TaskID(t.Key), by, reason)
		},
		over: func(s postgres.Standing, _ postgres.TaskRow) (string, string) {
			switch {
			case s.Paused != nil && !s.Running:
				return ResultPaused, ""
			case s.State.Final():
				return ResultRefused, "it ended before it could be paused"
			}
			return "", ""
		}})
}

// Resume lets a task that was paused go on from where it was. The error is one of the database.
func (d *Database) Resume(ctx context.Context, id, by string) (Verdict, error) {
	return d.apply(ctx, id, change{
		refuse: func(postgres.Standing) string { return "" },
		do: func(t postgres.TaskRow, _ postgres.Standing) (string, error) {
			ok, err := d.Store.Resume(ctx, gantry.TaskID(t.Key), by)
			if err == nil && !ok {
				return "it is not paused", nil
			}
			return "", err
		},
		over: func(postgres.Standing, postgres.TaskRow) (string, string) { return ResultResumed, "" }})
}
