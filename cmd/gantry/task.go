package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

type taskCmd struct {
	Ls     taskLsCmd     `cmd:"" help:"List tasks, the newest first."`
	Show   taskShowCmd   `cmd:"" help:"Show one task."`
	Why    taskWhyCmd    `cmd:"" help:"Say what tasks wait for."`
	Events taskEventsCmd `cmd:"" help:"Show the recorded transitions of a task."`
	Cancel taskCancelCmd `cmd:"" help:"End tasks as cancelled; calls under way are broken off."`
	Retry  taskRetryCmd  `cmd:"" help:"Put failed tasks back into the state that failed."`
	Move   taskMoveCmd   `cmd:"" help:"Let tasks begin anew in another pipeline, with their originals."`
	Pause  taskPauseCmd  `cmd:"" help:"Let nothing be done for tasks, until they are resumed."`
	Resume taskResumeCmd `cmd:"" help:"Let tasks that were paused go on."`

	Redrive taskRedriveCmd `cmd:"" help:"Call parts of tasks that have ended again, and deliver anew."`
}

type listFlags struct {
	JSON  bool          `name:"json" help:"JSON instead of a table."`
	Limit int           `help:"At most so many; 0 is all." default:"50"`
	Since time.Duration `help:"Only from the last so long, as in 24h."`
}

func (f listFlags) since() time.Time { return ago(f.Since) }

// ago is the moment so long before now; the zero time, which selects all, for 0.
func ago(d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return time.Now().Add(-d)
}

type taskLsCmd struct {
	listFlags
	Pipeline string `help:"Only of this pipeline."`
	State    string `help:"Only in this state."`
}

// Run is called by the parser.
func (t *taskLsCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(t.Limit, t.Since); err != nil {
		return err
	}
	if _, known := gantry.ParseState(t.State); t.State != "" && !known {
		return usageError{errors.New("--state is one of queued, extracting, ingesting, inferring, responding, done, failed, cancelled")}
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		list, err := db.Tasks(ctx, postgres.Filter{Pipeline: t.Pipeline, State: t.State, Limit: t.Limit, Since: t.since()})
		if err != nil {
			return err
		}
		if t.JSON {
			return printJSON(c.out, orEmpty(list))
		}
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "TASK\tPIPELINE\tSTATE\tPHASE\tITEMS\tCREATED\tERROR")
		for _, r := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", r.ID, r.Pipeline, r.State, r.Phase, r.Items, r.CreatedAt.Format(time.RFC3339), errorCode(r))
		}
		return w.Flush()
	})
}

func errorCode(r postgres.TaskRow) string {
	if r.Error == nil {
		return ""
	}
	return r.Error.Code
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

type taskShowCmd struct {
	ID   string `arg:"" help:"The task's id, or its beginning."`
	JSON bool   `name:"json" help:"JSON instead of text."`
}

// Run is called by the parser.
func (t *taskShowCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		r, err := db.Task(ctx, t.ID)
		if err != nil {
			return err
		}
		if t.JSON {
			return printJSON(c.out, r)
		}
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "task\t%s\npipeline\t%s (%s)\nstate\t%s\nsource\t%s\nitems\t%d\ncreated\t%s\n",
			r.ID, r.Pipeline, r.Version[:12], strings.TrimSpace(r.State+" "+r.Phase), r.Source, r.Items, r.CreatedAt.Format(time.RFC3339))
		if r.Originals != 1 {
			fmt.Fprintf(w, "originals\t%d, %d bytes\n", r.Originals, r.Bytes)
		}
		showRepair(w, r)
		if r.FinishedAt == nil {
			why, err := db.Why(ctx, r.ID, all.Drivers())
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "why\t%s\n", why.Causes[0].Text)
		}
		if err := showCollection(ctx, w, db, r.Key); err != nil {
			return err
		}
		if r.Parent != "" {
			fmt.Fprintf(w, "parent\t%s (its %s)\n", r.Parent, r.Role)
		}
		if r.Children > 0 {
			fmt.Fprintf(w, "children\t%d, %d open\n", r.Children, r.Open)
		}
		if r.FinishedAt != nil {
			fmt.Fprintf(w, "finished\t%s\n", r.FinishedAt.Format(time.RFC3339))
		}
		if r.Error != nil {
			showError(w, r.Error)
		}
		return w.Flush()
	})
}

// showError writes why a task ended; one that was cancelled has a code and no kind.
func showError(w io.Writer, e *postgres.TaskError) {
	kind := ""
	if e.Kind != "" {
		kind = " (" + e.Kind + ")"
	}
	fmt.Fprintf(w, "error\t%s%s\n\t%s\n", e.Code, kind, e.Message)
}

type taskEventsCmd struct {
	ID   string `arg:"" help:"The task's id, or its beginning."`
	JSON bool   `name:"json" help:"JSON instead of a table."`
}

// Run is called by the parser.
func (t *taskEventsCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		r, err := db.Task(ctx, t.ID)
		if err != nil {
			return err
		}
		events, err := db.Events(ctx, r.Key)
		if err != nil {
			return err
		}
		if t.JSON {
			return printJSON(c.out, orEmpty(events))
		}
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SEQ\tAT\tFROM\tTO\tSTAGE\tCHANGE\tATTEMPT\tWORKER\tWHY")
		for _, e := range events {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s %s\n", e.Seq, e.At.Format("15:04:05.000"), e.From, e.To, e.Stage, e.Change, e.Attempt, e.Worker, e.Code, e.Detail)
		}
		return w.Flush()
	})
}
