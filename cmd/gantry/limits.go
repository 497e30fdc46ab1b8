package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

type limitsCmd struct {
	Ls  limitsLsCmd  `cmd:"" default:"withargs" help:"List every limit: its units and who uses them, its rate, its queue, and what holds calls back."`
	Set limitsSetCmd `cmd:"" help:"Set limits in place of those in pipeline files, until --reset."`
}

type limitsLsCmd struct {
	JSON  bool `name:"json" help:"JSON instead of a table."`
	Limit int  `help:"At most so many; 0 is all." default:"0"`
}

// Run is called by the parser.
func (l *limitsLsCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(l.Limit); err != nil {
		return err
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		list, err := db.Limits(ctx, "", l.Limit)
		if err != nil {
			return err
		}
		return printLimits(c, l.JSON, list)
	})
}

func printLimits(c console, asJSON bool, list []postgres.LimitRow) error {
	if asJSON {
		return printJSON(c.out, orEmpty(list))
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LIMIT\tUSED\tGRANTED\tUNITS\tWAITING\tRATE\tBREAKER\tNOTE")
	for _, r := range list {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%d\t%s\t%s\t%s\n", r.Key, r.InUse, r.Granted, unitsText(r.Units), r.Waiting, rateText(r.Rate, r.Burst),
			r.Breaker, limitNote(r))
	}
	return w.Flush()
}

func unitsText(n int) string {
	if n < 0 {
		return "no limit"
	}
	return strconv.Itoa(n)
}

func rateText(rate, burst float64) string {
	if rate <= 0 {
		return "-"
	}
	text := fmt.Sprintf("%.4g/s", rate)
	if burst > 1 {
		text += fmt.Sprintf(" burst %.0f", burst)
	}
	return text
}

// limitNote says what is unusual about a limit.
func limitNote(r postgres.LimitRow) string {
	var notes []string
	if r.PausedBy != "" {
		notes = append(notes, "paused by "+r.PausedBy+" since "+r.PausedAt.Format(time.RFC3339))
	}
	if r.NotBefore != nil {
		notes = append(notes, "the target asked to be left alone until "+r.NotBefore.Format(time.RFC3339))
	}
	if r.BreakerEnd != nil && r.Breaker == "open" {
		notes = append(notes, "tried again from "+r.BreakerEnd.Format(time.RFC3339))
	}
	if r.SetBy != "" {
		declared := unitsText(r.Declared.Units)
		if rate := rateText(r.Declared.Rate, r.Declared.Burst); rate != "-" {
			declared += ", " + rate
		}
		notes = append(notes, fmt.Sprintf("set by %s, declared: %s", r.SetBy, declared))
	}
	if r.Held > 0 {
		notes = append(notes, fmt.Sprintf("%d held for calls of dead processes", r.Held))
	}
	if r.Adaptive {
		notes = append(notes, "adaptive")
	}
	return strings.Join(notes, "; ")
}

type limitsSetCmd struct {
	Name        string `arg:"" help:"A key that gantry limits lists, a pipeline, or PIPELINE/PROCESSOR."`
	Concurrency string `help:"Units: calls at once of a target, tasks in progress of a pipeline; 0 pauses, none is no limit." placeholder:"N"`
	Rate        string `help:"Calls begun per second, minute or hour, as in 20/s; none is no limit." placeholder:"R"`
	Burst       *int   `help:"Calls that may begin at once after a pause." placeholder:"B"`
	Reset       bool   `help:"Go back to what pipeline files declare."`
	By          string `help:"Who does it, for the record; the name of the system's user without it." placeholder:"NAME"`
	JSON        bool   `name:"json" help:"JSON instead of a table."`
}

// setting reads the flags.
func (l *limitsSetCmd) setting() (x postgres.Setting, err error) {
	if l.Concurrency != "" {
		n := -1
		if l.Concurrency != "none" {
			if n, err = strconv.Atoi(l.Concurrency); err != nil || n < 0 || n > 1_000_000 {
				return x, usageError{fmt.Errorf("--concurrency: want a number from 0 to 1000000, or none")}
			}
		}
		x.Units = &n
	}
	if l.Rate != "" {
		var r pipeline.Rate
		if l.Rate != "none" {
			if err := r.UnmarshalText([]byte(l.Rate)); err != nil || r <= 0 {
				return x, usageError{fmt.Errorf("--rate: want a rate such as 20/s, or none")}
			}
		}
		f := float64(r)
		x.Rate = &f
	}
	if l.Burst != nil {
		if *l.Burst < 1 || *l.Burst > 100_000 {
			return x, usageError{fmt.Errorf("--burst: want a number from 1 to 100000")}
		}
		f := float64(*l.Burst)
		x.Burst = &f
	}
	if l.Reset == (x != postgres.Setting{}) {
		return x, usageError{errors.New("want --reset, or some of --concurrency, --rate and --burst")}
	}
	return x, nil
}

// Run is called by the parser.
func (l *limitsSetCmd) Run(ctx context.Context, c console, x *cli) error {
	s, err := l.setting()
	if err != nil {
		return err
	}
	return changeLimit(ctx, c, x, l.JSON, []string{l.Name}, func(db *app.Database, key string) error {
		if l.Reset {
			_, err := db.ResetLimit(ctx, key)
			return err
		}
		if (s.Rate != nil || s.Burst != nil) && strings.HasPrefix(key, "pipeline:") {
			return usageError{fmt.Errorf("%s: tasks have no rate, only --concurrency; a rate is of a target, as in PIPELINE/PROCESSOR", key)}
		}
		_, err := db.SetLimit(ctx, key, whoever(l.By), s)
		return err
	})
}

type pauseFlags struct {
	Names []string `arg:"" name:"name" help:"Pipelines, PIPELINE/PROCESSOR, or keys that gantry limits lists."`
	JSON  bool     `name:"json" help:"JSON instead of a table."`
}

type pauseCmd struct {
	pauseFlags
	By string `help:"Who does it, for the record; the name of the system's user without it." placeholder:"NAME"`
}

// Run is called by the parser.
func (p *pauseCmd) Run(ctx context.Context, c console, x *cli) error {
	return changeLimit(ctx, c, x, p.JSON, p.Names, func(db *app.Database, key string) error {
		_, err := db.PauseLimit(ctx, key, whoever(p.By))
		return err
	})
}

type resumeCmd struct{ pauseFlags }

// Run is called by the parser.
func (r *resumeCmd) Run(ctx context.Context, c console, x *cli) error {
	return changeLimit(ctx, c, x, r.JSON, r.Names, func(db *app.Database, key string) error {
		_, err := db.ResumeLimit(ctx, key)
		return err
	})
}

func whoever(by string) string { return operateFlags{By: by}.by() }

// changeLimit does one thing to the limits of some names, all of which must be known, and shows them as they
// are then.
func changeLimit(ctx context.Context, c console, x *cli, asJSON bool, names []string, do func(*app.Database, string) error) error {
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		var keys []string
		for _, name := range names {
			row, err := db.Limiter(ctx, name, all.Drivers())
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			keys = append(keys, row.Key)
		}
		var list []postgres.LimitRow
		for _, key := range keys {
			if err := do(db, key); err != nil {
				return err
			}
			rows, err := db.Limits(ctx, key, 1)
			if err != nil {
				return err
			}
			list = append(list, rows...)
		}
		return printLimits(c, asJSON, list)
	})
}
