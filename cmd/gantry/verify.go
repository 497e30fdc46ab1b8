package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

type verifyCmd struct {
	History verifyHistoryCmd `cmd:"" help:"Hold every recorded transition, part and answer to the rules of the state machine."`
	Limits  verifyLimitsCmd  `cmd:"" help:"Hold the recorded times of calls to the limits of their targets."`
}

type verifyHistoryCmd struct {
	Pipeline string        `help:"Only tasks of this pipeline."`
	Since    time.Duration `help:"Only tasks made in the last so long, as in 24h."`
	JSON     bool          `name:"json" help:"JSON instead of lines."`
}

// Run is called by the parser.
func (v *verifyHistoryCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(0, v.Since); err != nil {
		return err
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		out := newFindings(c.out, v.JSON)
		sum, err := audit.History(ctx, db.Store, postgres.Filter{Pipeline: v.Pipeline, Since: ago(v.Since)}, func(f audit.Violation) error {
			return out.add(f, fmt.Sprintf("%s  seq %d  %s: %s", f.Task, f.Seq, f.Rule, f.Text))
		})
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%d tasks, %d events: %d violations", sum.Tasks, sum.Events, sum.Violations)
		return out.close("summary", sum, func(w io.Writer) error { _, err := fmt.Fprintln(w, text); return err })
	})
}

type verifyLimitsCmd struct {
	Limiter string        `help:"Only calls to this target, as in http://host:port." placeholder:"KEY"`
	Since   time.Duration `help:"Only calls of the last so long, as in 24h."`
	JSON    bool          `name:"json" help:"JSON instead of lines."`
}

// Run is called by the parser.
func (v *verifyLimitsCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(0, v.Since); err != nil {
		return err
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		out := newFindings(c.out, v.JSON)
		list, err := audit.Limits(ctx, db.Store, v.Limiter, ago(v.Since), func(b audit.Breach) error {
			return out.add(b, fmt.Sprintf("%s  %s  %s: %d, limit %g  call %s", b.Target, b.At.Format("2006-01-02T15:04:05.000Z"), b.Rule, b.N, b.Limit, b.Call))
		})
		if err != nil {
			return err
		}
		return out.close("targets", orEmpty(list), func(w io.Writer) error { return printUsage(w, list) })
	})
}

func printUsage(out io.Writer, list []audit.Usage) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CALLS\tLOST\tAT ONCE\tWITH LOST\tLIMIT\tSTARTS/S\tLIMIT\tVIOLATIONS\tTARGET\tNOTE")
	for _, u := range list {
		units, starts, most := "-", "-", "-"
		if u.Units >= 0 {
			units = fmt.Sprint(u.Units)
		}
		if u.Rate > 0 {
			starts, most = fmt.Sprint(u.Starts), fmt.Sprintf("%g+%g", u.Rate, u.Burst)
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", u.Calls, u.Lost, u.AtOnce, u.WithLost, units, starts, most, u.Broken, u.Target, u.Note)
	}
	return w.Flush()
}

// findings prints what a verification finds as it finds it, as lines or as one JSON object.
type findings struct {
	out  *bufio.Writer
	json bool
	n    int
}

func newFindings(w io.Writer, json bool) *findings {
	return &findings{out: bufio.NewWriter(w), json: json}
}

func (f *findings) add(x any, line string) error {
	f.n++
	if !f.json {
		_, err := fmt.Fprintln(f.out, line)
		return err
	}
	before := ","
	if f.n == 1 {
		before = `{"violations":[`
	}
	b, err := json.Marshal(x)
	if err == nil {
		_, err = fmt.Fprintf(f.out, "%s\n%s", before, b)
	}
	return err
}

// close prints the sum. The command fails if anything was found.
func (f *findings) close(name string, sum any, print func(io.Writer) error) error {
	err := error(nil)
	if f.json {
		var b []byte
		if b, err = json.Marshal(sum); err == nil {
			before := `{"violations":[`
			if f.n > 0 {
				before = "\n"
			}
			_, err = fmt.Fprintf(f.out, "%s],\n%q:%s}\n", before, name, b)
		}
	} else {
		err = print(f.out)
	}
	if ferr := f.out.Flush(); err == nil {
		err = ferr
	}
	if err == nil && f.n > 0 {
		return quietError(exitFailed)
	}
	return err
}
