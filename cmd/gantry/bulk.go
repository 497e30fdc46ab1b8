package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// bulkFlags choose tasks by what they are, in place of their ids.
type bulkFlags struct {
	Where    string        `help:"In place of ids: the tasks for which this expression holds, such as 'error.kind == \"timeout\"'." placeholder:"EXPR"`
	Pipeline string        `help:"In place of ids: the tasks of this pipeline." placeholder:"NAME"`
	State    string        `help:"Of these, only those in this state." placeholder:"STATE"`
	Since    time.Duration `help:"Of these, only those made in the last so long, as in 24h."`
	Limit    int           `help:"Of these, at most so many, the oldest first; 0 is all." default:"10000"`
	Yes      bool          `help:"Do not ask before tasks are changed."`
}

// unended are the states of tasks that have not ended.
var unended = []gantry.State{gantry.Queued, gantry.Extracting, gantry.Ingesting, gantry.Inferring, gantry.Responding}

// bulk tells whether tasks are chosen and not named.
func (o operateFlags) bulk() bool { return o.Where != "" || o.Pipeline != "" }

// choice holds the flags to one another. states are those that the command is of any use in.
func (o operateFlags) choice(states []gantry.State) (app.Bulk, error) {
	b := app.Bulk{Choice: postgres.Choice{Pipeline: o.Pipeline, States: states, Since: ago(o.Since)}, Where: o.Where, Limit: o.Limit}
	if len(o.IDs) > 0 {
		return b, usageError{errors.New("tasks are named by their ids, or chosen with --where and --pipeline, not both")}
	}
	if err := natural(o.Limit, o.Since); err != nil {
		return b, err
	}
	if o.State == "" {
		return b, nil
	}
	s, known := gantry.ParseState(o.State)
	if !known || !slices.Contains(states, s) {
		var names []string
		for _, x := range states {
			names = append(names, x.String())
		}
		return b, usageError{fmt.Errorf("--state is one of %s here", strings.Join(names, ", "))}
	}
	b.States = []gantry.State{s}
	return b, nil
}

// natural refuses counts and times below nothing.
func natural(limit int, times ...time.Duration) error {
	if limit < 0 || slices.ContainsFunc(times, func(d time.Duration) bool { return d < 0 }) {
		return usageError{errors.New("--limit, --since and --wait are not below 0")}
	}
	return nil
}

// either does one thing to the tasks that are named, or to those that are chosen.
func (o operateFlags) either(ctx context.Context, c console, x *cli, verb string, states []gantry.State,
	do func(*app.Database, string) (app.Verdict, error)) error {
	if !o.bulk() {
		return o.each(ctx, c, x, do)
	}
	return o.all(ctx, c, x, verb, states, func(db *app.Database) app.Act {
		return func(_ context.Context, t postgres.TaskRow) (app.Verdict, error) { return do(db, t.ID) }
	})
}

// all does one thing to every task that is chosen, after it has said how many these are, and was told to go on.
func (o operateFlags) all(ctx context.Context, c console, x *cli, verb string, states []gantry.State, act func(*app.Database) app.Act) error {
	b, err := o.choice(states)
	if err != nil {
		return err
	}
	if b.Where != "" {
		if _, err := pipeline.TaskCondition(b.Where); err != nil {
			return usageError{err}
		}
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		list, err := db.Choose(ctx, b)
		if err != nil {
			return err
		}
		question := fmt.Sprintf("%s %d tasks", verb, len(list))
		if len(list) > 0 && !o.Yes {
			if err := confirm(os.Stdin, term.IsTerminal(int(os.Stdin.Fd())), c.err, question); err != nil {
				return err
			}
		}
		var said verdicts
		if err := app.Each(ctx, list, act(db), func(v app.Verdict) error { return said.add(c, o.JSON, v) }); err != nil {
			return err
		}
		if !o.JSON {
			fmt.Fprintf(c.err, "%s: %d done, %d refused\n", question, said.n-said.refused, said.refused)
		}
		return said.end(c, o.JSON)
	})
}

// confirm asks whoever sits at a terminal. Where nobody does, nothing is done.
func confirm(in io.Reader, terminal bool, out io.Writer, question string) error {
	if !terminal {
		return usageError{fmt.Errorf("%s: say --yes, since there is no terminal to ask at", question)}
	}
	fmt.Fprintf(out, "%s? [y/N] ", question)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		fmt.Fprintln(out, "nothing was changed")
		return quietError(exitFailed)
	}
	return nil
}
