package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
)

type taskWhyCmd struct {
	IDs  []string `arg:"" name:"id" help:"Ids of tasks, or their beginnings."`
	JSON bool     `name:"json" help:"JSON instead of text."`
}

// Run is called by the parser.
func (t *taskWhyCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withDatabase(ctx, c, func(_ app.Settings, db *app.Database) error {
		var list []api.Why
		unknown := false
		for _, id := range t.IDs {
			w, err := db.Why(ctx, id, all.Drivers())
			if err != nil {
				return err
			}
			unknown = unknown || w.State == ""
			list = append(list, w)
		}
		if t.JSON {
			if err := printJSON(c.out, list); err != nil {
				return err
			}
		} else {
			for _, w := range list {
				printWhy(c, w)
			}
		}
		if unknown {
			return quietError(exitFailed)
		}
		return nil
	})
}

func printWhy(c console, w api.Why) {
	fmt.Fprintln(c.out, strings.TrimSpace(fmt.Sprintf("%s  %s %s", w.Task, w.State, w.Phase)))
	for _, x := range w.Causes {
		fmt.Fprintf(c.out, "  %s\n", x.Text)
	}
}
