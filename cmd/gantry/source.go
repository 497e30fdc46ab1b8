package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

type sourceCmd struct {
	Status sourceStatusCmd `cmd:"" default:"withargs" help:"List every source: what tells of its objects, how late they come, what listings found, what became of them."`
	Moved  sourceMovedCmd  `cmd:"" help:"Forget which bucket a source took from, because that has another address now. The next process that serves puts down the new one."`
}

type sourceStatusCmd struct {
	JSON bool `name:"json" help:"JSON instead of a table."`
}

// Run is called by the parser.
func (s *sourceStatusCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		list, err := db.Sources(ctx)
		if err != nil {
			return err
		}
		return printSources(c, s.JSON, list, time.Now())
	})
}

type sourceMovedCmd struct {
	Source string `arg:"" help:"PIPELINE/SOURCE, or the name of one that pipelines share, as gantry source status lists them."`
}

// Run is called by the parser.
func (s *sourceMovedCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		place, err := db.SourceMoved(ctx, s.Source)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Source, err)
		}
		if place == "" {
			fmt.Fprintf(c.out, "%s: no bucket is on record of it\n", s.Source)
			return nil
		}
		fmt.Fprintf(c.out, "%s took from %s; the next process that serves it puts down where it takes from then\n", s.Source, place)
		return nil
	})
}

func printSources(c console, asJSON bool, list []gantry.SourceStatus, now time.Time) error {
	if asJSON {
		return printJSON(c.out, orEmpty(list))
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SOURCE\tKIND\tCHANNELS\tLAST EVENT\tLAG\tLAST SWEEP\tMISMATCHES\tACCEPTED\tNOT TAKEN\tNOTE")
	for _, x := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", x.Source, x.Kind, channelsText(x.Channels), agoText(x.LastEvent, now), lagText(x.Lag),
			sweepText(x.LastSweep, now), missedText(x), x.Arrivals.Accepted, turnedText(x.Arrivals), sourceNote(x, now))
	}
	return w.Flush()
}

func channelsText(list []gantry.ChannelStatus) string {
	var out []string
	for _, c := range list {
		out = append(out, fmt.Sprintf("%s %d", c.Channel, c.Told))
	}
	return orDash(strings.Join(out, ", "))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func agoText(t *time.Time, now time.Time) string {
	if t == nil {
		return "-"
	}
	return max(now.Sub(*t), 0).Round(time.Second).String() + " ago"
}

// lagText gives the last lag, and the middle and the worst of those of the last minutes.
func lagText(l *gantry.SourceLag) string {
	if l == nil {
		return "-"
	}
	return fmt.Sprintf("%.3gs (p50 %.3gs, max %.3gs)", l.Last, l.Half, l.Max)
}

func sweepText(s *gantry.SweepStatus, now time.Time) string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%s, %d objects in %.3gs", agoText(&s.Began, now), s.Objects, s.Took)
}

func missedText(x gantry.SourceStatus) string {
	if x.LastSweep == nil {
		return "-"
	}
	return fmt.Sprintf("%d (last sweep %d)", x.Missed, x.LastSweep.Missed)
}

func turnedText(a gantry.ArrivalCounts) string {
	var out []string
	for _, x := range []struct {
		n    int64
		name string
	}{{a.Superseded, "superseded"}, {a.SourceGone, "source_gone"}, {a.Unmatched, "unmatched"}, {a.Ignored, "ignored"}} {
		if x.n > 0 {
			out = append(out, fmt.Sprintf("%d %s", x.n, x.name))
		}
	}
	return orDash(strings.Join(out, ", "))
}

// failureText says what failed last, when, and whether that is over.
func failureText(f gantry.SourceFailure, now time.Time) string {
	text := strings.TrimSpace(f.Part + " " + f.Code)
	if f.Over != nil {
		return fmt.Sprintf("%s %s, over since %s", text, agoText(&f.At, now), strings.TrimSuffix(agoText(f.Over, now), " ago"))
	}
	return fmt.Sprintf("%s %s", text, agoText(&f.At, now))
}

// silent is how long a process that watches a source says nothing of it at most.
const silent = 2 * time.Minute

// sourceNote says what is unusual about a source.
func sourceNote(x gantry.SourceStatus, now time.Time) string {
	var notes []string
	if x.Backlog {
		notes = append(notes, fmt.Sprintf("taking up what was there before: %d passed", x.Passed))
	}
	if x.LastError != nil {
		notes = append(notes, failureText(*x.LastError, now))
	}
	if now.Sub(x.At) > silent {
		notes = append(notes, "nobody watches it; last report "+agoText(&x.At, now))
	}
	return strings.Join(notes, "; ")
}
