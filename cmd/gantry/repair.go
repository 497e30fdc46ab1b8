package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

type taskMoveCmd struct {
	To   string        `help:"The pipeline that the tasks go to." placeholder:"PIPELINE" required:""`
	Stop bool          `help:"Break off what works on the tasks."`
	Wait time.Duration `help:"Wait so long for the tasks that a process holds." default:"0s"`
	operateFlags
}

// Run is called by the parser.
func (t *taskMoveCmd) Run(ctx context.Context, c console, x *cli) error {
	m := app.Moving{To: t.To, By: t.by(), Stop: t.Stop, Wait: t.Wait, Drivers: all.Drivers()}
	if err := natural(t.Limit, t.Wait); err != nil {
		return err
	}
	return t.either(ctx, c, x, "move", append([]gantry.State{gantry.Failed}, unended...),
		func(db *app.Database, id string) (app.Verdict, error) { return db.Move(ctx, id, m) })
}

type taskPauseCmd struct {
	Reason string        `help:"Why, for the record; no patient data." placeholder:"TEXT"`
	Wait   time.Duration `help:"Wait so long for the tasks that a process holds." default:"0s"`
	operateFlags
}

// Run is called by the parser.
func (t *taskPauseCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(t.Limit, t.Wait); err != nil {
		return err
	}
	return t.either(ctx, c, x, "pause", unended, func(db *app.Database, id string) (app.Verdict, error) {
		return db.Pause(ctx, id, t.by(), t.Reason, t.Wait)
	})
}

type taskResumeCmd struct {
	operateFlags
}

// Run is called by the parser.
func (t *taskResumeCmd) Run(ctx context.Context, c console, x *cli) error {
	return t.either(ctx, c, x, "resume", unended, func(db *app.Database, id string) (app.Verdict, error) { return db.Resume(ctx, id, t.by()) })
}

// showRepair writes what task show says of a task's leg and pause.
func showRepair(w io.Writer, r postgres.TaskRow) {
	if r.Leg > 0 {
		fmt.Fprintf(w, "leg\t%d\n", r.Leg)
	}
	if p := r.Paused; p != nil {
		fmt.Fprintf(w, "paused\tby %s at %s\n", p.By, p.At.Format(time.RFC3339))
		if p.Reason != "" {
			fmt.Fprintf(w, "\t%s\n", p.Reason)
		}
	}
}
