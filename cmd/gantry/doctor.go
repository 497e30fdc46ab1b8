package main

import (
	"context"
	"fmt"
	"os"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/doctor"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

type doctorCmd struct {
	Files []string `short:"f" name:"file" help:"Pipeline files, or folders of them, whose targets are looked at too." placeholder:"PIPELINE.yaml"`
	JSON  bool     `name:"json" help:"JSON instead of a line for each check."`
}

var marks = map[doctor.Level]string{doctor.OK: "✓", doctor.Warning: "!", doctor.Problem: "✗"}

// Run is called by the parser.
func (d *doctorCmd) Run(ctx context.Context, c console, x *cli) error {
	var list []*gantry.Pipeline
	deployed, err := x.deployment()
	if err != nil {
		return err
	}
	if d.Files = append(d.Files, deployed.Pipelines...); len(d.Files) > 0 {
		if list, err = pipeline.LoadAll(d.Files, all.Drivers(), os.LookupEnv); err != nil {
			return err
		}
	}
	for _, shared := range deployed.Shared {
		list = append(list, &gantry.Pipeline{Name: "the deployment file", Sources: []gantry.Endpoint{shared.Endpoint}})
	}
	s, err := x.settings(c)
	if err != nil {
		return err
	}
	found, err := app.Diagnose(ctx, s, list)
	if err != nil {
		return usageError{err}
	}
	if d.JSON {
		if err := printJSON(c.out, found); err != nil {
			return err
		}
	}
	for _, f := range found {
		if d.JSON {
			break
		}
		fmt.Fprintf(c.out, "%s %s: %s\n", marks[f.Level], f.Check, f.Text)
		if f.Advice != "" {
			fmt.Fprintf(c.out, "    %s\n", f.Advice)
		}
	}
	if !doctor.Sound(found) {
		return quietError(exitFailed)
	}
	return nil
}
