package main

import (
	"context"
	"fmt"
	"os/user"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
)

// operateFlags are those of commands that change tasks.
type operateFlags struct {
	By   string   `help:"Who does it, for the record; the name of the system's user without it." placeholder:"NAME"`
	JSON bool     `name:"json" help:"JSON instead of a line for each task."`
	IDs  []string `arg:"" name:"id" help:"Ids of tasks, or their beginnings."`
}

func (o operateFlags) by() string {
	if o.By != "" {
		return o.By
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

// each does one thing to every task and says what became of it. The command fails if any was refused.
func (o operateFlags) each(ctx context.Context, c console, x *cli, do func(*app.Database, string) (app.Verdict, error)) error {
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		var all []app.Verdict
		refused := false
		for _, id := range o.IDs {
			v, err := do(db, id)
			if err != nil {
				return err
			}
			all = append(all, v)
			refused = refused || v.Result == app.ResultRefused
			if !o.JSON {
				printVerdict(c, v)
			}
		}
		if o.JSON {
			if err := printJSON(c.out, all); err != nil {
				return err
			}
		}
		if refused {
			return quietError(exitFailed)
		}
		return nil
	})
}

func printVerdict(c console, v app.Verdict) {
	switch {
	case v.Result == app.ResultRefused && v.State != "":
		fmt.Fprintf(c.out, "%-10s  %s  %s: %s\n", v.Result, v.Task, v.State, v.Reason)
	case v.Result == app.ResultRefused:
		fmt.Fprintf(c.out, "%-10s  %s  %s\n", v.Result, v.Task, v.Reason)
	default:
		fmt.Fprintf(c.out, "%-10s  %s  %s\n", v.Result, v.Task, v.State)
	}
}

type taskCancelCmd struct {
	Wait time.Duration `help:"Wait so long for the end of tasks that a process holds." default:"0s"`
	operateFlags
}

// Run is called by the parser.
func (t *taskCancelCmd) Run(ctx context.Context, c console, x *cli) error {
	return t.each(ctx, c, x, func(db *app.Database, id string) (app.Verdict, error) { return db.Cancel(ctx, id, t.by(), t.Wait) })
}

type taskRetryCmd struct {
	operateFlags
}

// Run is called by the parser.
func (t *taskRetryCmd) Run(ctx context.Context, c console, x *cli) error {
	return t.each(ctx, c, x, func(db *app.Database, id string) (app.Verdict, error) {
		return db.Retry(ctx, id, t.by(), all.Drivers())
	})
}
