package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

type collectionCmd struct {
	Ls collectionLsCmd `cmd:"" default:"withargs" help:"List collections, the newest first: what they wait for, what closed them, and their tasks."`
}

type collectionLsCmd struct {
	JSON     bool   `name:"json" help:"JSON instead of a table."`
	Limit    int    `help:"At most so many; 0 is all." default:"50"`
	Pipeline string `help:"Only of this pipeline."`
	State    string `help:"Only those that are open, or closed." placeholder:"STATE"`
}

// Run is called by the parser.
func (l *collectionLsCmd) Run(ctx context.Context, c console, x *cli) error {
	if err := natural(l.Limit); err != nil {
		return err
	}
	if l.State != "" && l.State != "open" && l.State != "closed" {
		return usageError{errors.New("--state is open or closed")}
	}
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		list, err := db.Collections(ctx, postgres.CollectionFilter{Pipeline: l.Pipeline, State: l.State, Limit: l.Limit})
		if err != nil {
			return err
		}
		if l.JSON {
			return printJSON(c.out, orEmpty(list))
		}
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "COLLECTION\tSOURCE\tGROUP\tREVISION\tSTATE\tMEMBERS\tFIRST\tLAST\tDUE\tWHY\tTASK")
		for _, r := range list {
			fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Source, r.Group, r.Revision, r.State, membersText(r),
				r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339), dueText(r), r.Why, r.Task)
		}
		return w.Flush()
	})
}

// membersText is how many there are, and of how many.
func membersText(r postgres.CollectionRow) string {
	if r.Expected == 0 {
		return fmt.Sprint(r.Members)
	}
	return fmt.Sprintf("%d of %d", r.Held, r.Expected)
}

// dueText is when an open collection is closed.
func dueText(r postgres.CollectionRow) string {
	if r.ClosedAt != nil {
		return "-"
	}
	return r.Due.Format(time.RFC3339)
}

// showCollection writes what a task was made from, if that is a collection.
func showCollection(ctx context.Context, w io.Writer, db *app.Database, key int64) error {
	r, ok, err := db.CollectionOf(ctx, key)
	if err != nil || !ok {
		return err
	}
	fmt.Fprintf(w, "collection\t%d, revision %d, %s members, closed by %s\n", r.ID, r.Revision, membersText(r), r.Why)
	return nil
}
