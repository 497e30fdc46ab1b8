package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

type checkCmd struct {
	Files []string `arg:"" optional:"" name:"file" help:"Pipeline files, or folders of them; those of the deployment file without any."`
	Vars  bool     `help:"List the variables that each expression of a pipeline may use."`
}

// Run is called by the parser.
func (k *checkCmd) Run(c console, x *cli) error {
	if err := k.deployed(c, x); err != nil {
		return err
	}
	list, err := pipeline.CheckAll(k.Files, all.Drivers(), os.LookupEnv)
	if err != nil {
		if problems, ok := errors.AsType[pipeline.Problems](err); ok {
			fmt.Fprintln(c.out, problems.Error())
			return quietError(exitUsage)
		}
		return usageError{err}
	}
	for _, p := range list {
		fmt.Fprintf(c.out, "ok  %s  %s\n", p.Name, p.Version.String()[:12])
		if k.Vars {
			if err := printVariables(c.out, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// deployed checks the deployment file, if there is one, and takes its pipelines where none are named.
func (k *checkCmd) deployed(c console, x *cli) error {
	d, err := x.deployment()
	if problems, ok := errors.AsType[pipeline.Problems](err); ok {
		fmt.Fprintln(c.out, problems.Error())
		return quietError(exitUsage)
	}
	if err != nil {
		return err
	}
	if x.Config != "" {
		fmt.Fprintf(c.out, "ok  %s\n", x.Config)
	}
	if len(k.Files) == 0 {
		k.Files = d.Pipelines
	}
	if len(k.Files) == 0 && x.Config == "" {
		return usageError{errors.New("nothing to check: name pipeline files, or a deployment file with --config")}
	}
	return nil
}

// printVariables lists what the expressions of a pipeline know, field by field.
func printVariables(out io.Writer, p *gantry.Pipeline) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range pipeline.Variables(p) {
		fmt.Fprintf(w, "  %s\n", f.Path)
		for _, v := range f.Variables {
			fmt.Fprintf(w, "    %s\t%s\t%s\n", v.Name, v.Type, v.Doc)
		}
	}
	return w.Flush()
}
