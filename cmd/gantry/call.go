package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

type callCmd struct {
	Ls     callLsCmd     `cmd:"" help:"List recorded calls, the newest first."`
	Show   callShowCmd   `cmd:"" help:"Show one call."`
	Export callExportCmd `cmd:"" help:"Write recorded calls as CSV or JSON, however many, the newest first."`
}

// callFlags select calls.
type callFlags struct {
	Task      string `help:"Only of this task."`
	Pipeline  string `help:"Only of this pipeline."`
	Processor string `help:"Only of this processor."`
	Boundary  string `help:"Only at this side." enum:"source,processor,sink,archive," default:""`
	Outcome   string `help:"Only with this outcome." enum:"ok,failed,not_sent,fenced,lost,running," default:""`
}

func (f callFlags) filter() postgres.Filter {
	return postgres.Filter{Task: f.Task, Pipeline: f.Pipeline, Processor: f.Processor, Boundary: f.Boundary, Outcome: f.Outcome}
}

type callLsCmd struct {
	listFlags
	callFlags
	Control bool `help:"Instead of calls, the traffic that belongs to no task: listings of sources, questions to archives, summed up by the minute, and each failure. Only --pipeline, --boundary and --outcome select."`
}

// Run is called by the parser.
func (l *callLsCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(l.Limit, l.Since); err != nil {
		return err
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		if l.Control {
			return l.control(ctx, c, db)
		}
		filter := l.filter()
		filter.Limit, filter.Since = l.Limit, l.since()
		list, err := db.Calls(ctx, filter)
		if err != nil {
			return err
		}
		if l.JSON {
			return printJSON(c.out, orEmpty(list))
		}
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CALL\tTASK\tAT\tWHERE\tTRY\tSTATUS\tOUTCOME\tMS\tSENT\tGOT\tTARGET")
		for _, r := range list {
			fmt.Fprintf(w, "%s\t%.8s\t%s\t%s\t%d\t%d\t%s\t%.1f\t%d\t%d\t%s\n", r.ID, r.Task, r.StartedAt.Format("15:04:05.000"), where(r),
				r.Attempt, r.Status, outcomeText(r), r.DurationMS, r.RequestBytes, r.ResponseBytes, r.Target)
		}
		return w.Flush()
	})
}

func (l *callLsCmd) control(ctx context.Context, c console, db *app.Database) error {
	list, err := db.ControlTraffic(ctx, postgres.Filter{Pipeline: l.Pipeline, Boundary: l.Boundary, Outcome: l.Outcome, Limit: l.Limit, Since: l.since()})
	if err != nil {
		return err
	}
	if l.JSON {
		return printJSON(c.out, orEmpty(list))
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FROM\tTO\tPIPELINE\tAT\tREQUESTS\tFAILED\tSTATUS\tERROR\tMS\tGOT\tTARGET")
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\t%.1f\t%d\t%s\n", r.From.Format("15:04:05"), r.To.Format("15:04:05"), r.Pipeline, r.Boundary,
			r.Requests, r.Failures, r.Status, r.ErrorCode, r.DurationMS, r.ResponseBytes, r.Target)
	}
	return w.Flush()
}

func where(r postgres.CallRow) string {
	return r.Operation + " " + r.Source + r.Processor + r.Sink
}

func outcomeText(r postgres.CallRow) string {
	if r.ErrorCode == "" {
		return r.Outcome
	}
	return r.Outcome + " " + r.ErrorCode
}

type callShowCmd struct {
	ID   string `arg:"" help:"The call's id."`
	JSON bool   `name:"json" help:"JSON instead of text."`
}

// Run is called by the parser.
func (s *callShowCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		r, err := db.Call(ctx, s.ID)
		if err != nil {
			return err
		}
		if s.JSON {
			return printJSON(c.out, r)
		}
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "call\t%s\ntask\t%s\nwhere\t%s %s, stage %s, part %d, try %d\ntarget\t%s\nstarted\t%s\ntook\t%.1f ms\noutcome\t%s (status %d) %s\n",
			r.ID, r.Task, r.Boundary, where(r), r.Stage, r.Part, r.Attempt, r.Target, r.StartedAt.Format("2006-01-02T15:04:05.000Z"), r.DurationMS,
			outcomeText(r), r.Status, r.ErrorKind)
		fmt.Fprintf(w, "sent\t%d bytes\t%s\ngot\t%d bytes\t%s\nworker\t%d\nversion\t%s\n",
			r.RequestBytes, r.RequestSHA256, r.ResponseBytes, r.ResponseSHA256, r.Worker, r.Version)
		return w.Flush()
	})
}
