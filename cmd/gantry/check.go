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
	sources, problems, err := k.deployed(x)
	if err != nil {
		return err
	}
	if len(problems) == 0 && x.Config != "" {
		fmt.Fprintf(c.out, "ok  %s\n", x.Config)
	}
	served, err := pipeline.CheckServed(k.Files, sources, all.Drivers(), os.LookupEnv)
	if more, ok := errors.AsType[pipeline.Problems](err); ok {
		problems = append(problems, more...)
	} else if err != nil {
		return usageError{err}
	}
	if len(problems) > 0 {
		fmt.Fprintln(c.out, problems.Error())
		return quietError(exitUsage)
	}
	return k.print(c.out, served)
}

// print says what was checked, and whose results become inputs again.
func (k *checkCmd) print(out io.Writer, served *pipeline.Served) error {
	for _, p := range served.Pipelines {
		fmt.Fprintf(out, "ok  %s  %s\n", p.Name, p.Version.String()[:12])
		printCalledBack(out, p)
		if k.Vars {
			if err := printVariables(out, pipeline.Variables(p)); err != nil {
				return err
			}
		}
	}
	for _, s := range served.Shared {
		fmt.Fprintf(out, "ok  source %s  %s\n", s.Name, s.Version.String()[:12])
		if k.Vars {
			if err := printVariables(out, []pipeline.Field{{Path: "sources." + s.Name + ".routes", Variables: pipeline.RuleVariables(s)}}); err != nil {
				return err
			}
		}
	}
	for _, chain := range served.Chains {
		fmt.Fprintf(out, "note  results become inputs: %s\n", chain)
	}
	return nil
}

// printCalledBack says at what addresses services and archives answer, which not every process listens at.
func printCalledBack(out io.Writer, p *gantry.Pipeline) {
	tell := func(who string, config any) {
		c, is := config.(gantry.CalledBack)
		if !is {
			return
		}
		if address, name, ok := c.CalledAt(); ok {
			fmt.Fprintf(out, "note  %s answers %s at %s: gantry serve listens there, gantry worker does not\n", who, name, address)
		}
	}
	for _, x := range p.Processors {
		tell("processor "+x.Name, x.Config)
	}
	for _, x := range p.Sinks {
		tell("sink "+x.Name, x.Config)
	}
}

// deployed reads the deployment file, if there is one, and takes its pipelines and their routes where no files are
// named: those may be some of the pipelines only. What is wrong with it comes apart, to be one list with the mistakes of pipelines.
func (k *checkCmd) deployed(x *cli) (sources []pipeline.Shared, problems pipeline.Problems, err error) {
	if x.Config == "" && len(k.Files) == 0 {
		return nil, nil, usageError{errors.New("nothing to check: name pipeline files, or a deployment file with --config")}
	}
	if x.Config == "" {
		return nil, nil, nil
	}
	d, problems, err := pipeline.CheckDeployment(x.Config, all.Drivers(), os.LookupEnv)
	if err != nil || len(k.Files) > 0 {
		return nil, problems, err
	}
	k.Files = d.Pipelines
	if len(problems) > 0 && len(d.Pipelines) == 0 {
		return nil, problems, nil // the mistake may be with them
	}
	return d.Shared, problems, nil
}

// printVariables lists what expressions know, field by field.
func printVariables(out io.Writer, fields []pipeline.Field) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range fields {
		fmt.Fprintf(w, "  %s\n", f.Path)
		for _, v := range f.Variables {
			fmt.Fprintf(w, "    %s\t%s\t%s\n", v.Name, v.Type, v.Doc)
		}
	}
	return w.Flush()
}
