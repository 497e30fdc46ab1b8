package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// operateFlags are those of commands that change tasks.
type operateFlags struct {
	By   string   `help:"Who does it, for the record; the name of the system's user without it." placeholder:"NAME"`
	JSON bool     `name:"json" help:"JSON instead of a line for each task."`
	IDs  []string `arg:"" name:"id" optional:"" help:"Ids of tasks, or their beginnings; or none, with --where or --pipeline."`
	bulkFlags
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
	if len(o.IDs) == 0 {
		return usageError{errors.New("expected \"<id> ...\", or --where or --pipeline")}
	}
	if o.State != "" || o.Since != 0 {
		return usageError{errors.New("--state and --since go with --where or --pipeline, not with ids")}
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		var said verdicts
		for _, id := range o.IDs {
			v, err := do(db, id)
			if err == nil {
				err = said.add(c, o.JSON, v)
			}
			if err != nil {
				return err
			}
		}
		return said.end(c, o.JSON)
	})
}

// verdicts are said one after another.
type verdicts struct{ n, refused int }

func (v *verdicts) add(c console, asJSON bool, x app.Verdict) error {
	if v.n++; x.Result == app.ResultRefused {
		v.refused++
	}
	if !asJSON {
		printVerdict(c, x)
		return nil
	}
	b, err := json.MarshalIndent(x, "  ", "  ")
	if err == nil {
		_, err = fmt.Fprintf(c.out, "%s  %s", []string{"[\n", ",\n"}[min(v.n-1, 1)], b)
	}
	return err
}

// end fails if any task was refused.
func (v *verdicts) end(c console, asJSON bool) error {
	switch {
	case asJSON && v.n == 0:
		fmt.Fprintln(c.out, "[]")
	case asJSON:
		fmt.Fprintln(c.out, "\n]")
	}
	if v.refused > 0 {
		return quietError(exitFailed)
	}
	return nil
}

func printVerdict(c console, v app.Verdict) {
	switch {
	case v.Result == app.ResultRefused && v.State != "":
		fmt.Fprintf(c.out, "%-10s  %s  %s: %s\n", v.Result, v.Task, v.State, v.Reason)
	case v.Result == app.ResultRefused:
		fmt.Fprintf(c.out, "%-10s  %s  %s\n", v.Result, v.Task, v.Reason)
	case v.Redrive != nil:
		fmt.Fprintf(c.out, "%-10s  %s  %s  %s\n", v.Result, v.Task, v.State, redriven(v.Redrive))
	default:
		fmt.Fprintf(c.out, "%-10s  %s  %s\n", v.Result, v.Task, v.State)
	}
}

// redriven says what is called again.
func redriven(r *app.Redriven) string {
	var parts []string
	for _, x := range r.Calls {
		parts = append(parts, fmt.Sprintf("%s/%s %d", x.Stage, x.Processor, x.Parts))
	}
	return fmt.Sprintf("generation %d: %s", r.Generation, strings.Join(parts, ", "))
}

type taskCancelCmd struct {
	Wait time.Duration `help:"Wait so long for the end of tasks that a process holds." default:"0s"`
	operateFlags
}

// Run is called by the parser.
func (t *taskCancelCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(t.Limit, t.Wait); err != nil {
		return err
	}
	if t.bulk() {
		return t.all(ctx, c, x, "cancel", unended, func(db *app.Database) app.Act { return db.Cancelling(t.by(), t.Wait) })
	}
	return t.each(ctx, c, x, func(db *app.Database, id string) (app.Verdict, error) { return db.Cancel(ctx, id, t.by(), t.Wait) })
}

type taskRetryCmd struct {
	operateFlags
}

// Run is called by the parser.
func (t *taskRetryCmd) Run(ctx context.Context, c console, x *cli) error {
	if t.bulk() {
		return t.all(ctx, c, x, "retry", []gantry.State{gantry.Failed}, func(db *app.Database) app.Act { return db.Retrying(t.by(), all.Drivers()) })
	}
	return t.each(ctx, c, x, func(db *app.Database, id string) (app.Verdict, error) {
		return db.Retry(ctx, id, t.by(), all.Drivers())
	})
}

type taskRedriveCmd struct {
	Stage     string `help:"Only parts of this stage; of all stages without it." placeholder:"NAME"`
	Processor string `help:"Only parts of this processor." placeholder:"NAME"`
	Parts     string `help:"Which parts, by how they ended: all, failed, or those that a when skipped." enum:"all,failed,skipped" default:"all"`
	DryRun    bool   `help:"Only say what would be called."`
	operateFlags
}

// Run is called by the parser.
func (t *taskRedriveCmd) Run(ctx context.Context, c console, x *cli) error {
	what := app.Selection{Stage: t.Stage, Processor: t.Processor, Parts: app.PartsSelection(t.Parts), Dry: t.DryRun}
	t.Yes = t.Yes || t.DryRun
	if t.bulk() {
		verb := "redrive"
		if t.DryRun {
			verb = "dry run: redrive"
		}
		return t.all(ctx, c, x, verb, []gantry.State{gantry.Done, gantry.Failed, gantry.Cancelled},
			func(db *app.Database) app.Act { return db.Redriving(t.by(), what, all.Drivers()) })
	}
	return t.each(ctx, c, x, func(db *app.Database, id string) (app.Verdict, error) {
		return db.Redrive(ctx, id, t.by(), what, all.Drivers())
	})
}
