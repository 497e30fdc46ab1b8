package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

type testCmd struct {
	Files   []string `arg:"" optional:"" name:"file" help:"Pipeline files, or folders of them; those of the deployment file without any."`
	Verbose bool     `short:"v" help:"Say of every test what came of each input, and what was called."`
	JSON    bool     `name:"json" help:"One JSON object instead of text."`
}

// trials is what came of all tests.
type trials struct {
	Tests  []app.TestOutcome `json:"tests"`
	Failed int               `json:"failed"`
}

// Run is called by the parser.
func (k *testCmd) Run(ctx context.Context, c console, x *cli) error {
	list, err := k.pipelines(x)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(list, func(p *gantry.Pipeline) bool { return len(p.Tests) > 0 }) {
		return usageError{errors.New("nothing to test: no file has tests")}
	}
	t := trials{Tests: []app.TestOutcome{}}
	err = x.withApp(ctx, c, nil, func(a *app.App) error {
		for _, p := range list {
			for _, one := range p.Tests {
				o, err := a.RunTest(ctx, p, one)
				if err != nil {
					return fmt.Errorf("test %s of %s: %w", one.Name, p.Name, err)
				}
				t.add(o)
				if !k.JSON {
					k.print(c.out, o)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if k.JSON {
		err = printJSON(c.out, t)
	} else {
		_, err = fmt.Fprintf(c.out, "%s, %d failed\n", plural(len(t.Tests), "test", "tests"), t.Failed)
	}
	if err == nil && t.Failed > 0 {
		err = quietError(exitFailed)
	}
	return err
}

// pipelines reads the files that were named, or those of the deployment.
func (k *testCmd) pipelines(x *cli) ([]*gantry.Pipeline, error) {
	files := k.Files
	if len(files) == 0 {
		d, err := x.deployment()
		if err != nil {
			return nil, err
		}
		files = d.Pipelines
	}
	if len(files) == 0 {
		return nil, usageError{errors.New("nothing to test: name pipeline files, or a deployment file with --config")}
	}
	return pipeline.LoadAll(files, all.Drivers(), os.LookupEnv)
}

func (t *trials) add(o app.TestOutcome) {
	t.Tests = append(t.Tests, o)
	if !o.OK {
		t.Failed++
	}
}

// print writes a line for a test, what is different, and in detail what was done.
func (k *testCmd) print(w io.Writer, o app.TestOutcome) {
	word := "ok  "
	if !o.OK {
		word = "FAIL"
	}
	fmt.Fprintf(w, "%s  %s: %s  %.1f s\n", word, o.Pipeline, o.Name, o.Seconds)
	for _, d := range o.Differences {
		fmt.Fprintf(w, "      %s\n        want %s\n        got  %s\n", d.What, d.Want, d.Got)
	}
	if !k.Verbose {
		return
	}
	for _, t := range o.Tasks {
		fmt.Fprintf(w, "      %-9s %s", t.State, filepath.Base(t.Input))
		if t.Error != nil {
			fmt.Fprintf(w, "  %s: %s", t.Error.Code, t.Error.Message)
		}
		fmt.Fprintln(w)
		for _, file := range t.Outputs {
			_, name, _ := strings.Cut(file, "/") // without the id of the task
			fmt.Fprintf(w, "        %s\n", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Calls)) {
		fmt.Fprintf(w, "      %s of %s\n", plural(o.Calls[name], "call", "calls"), name)
	}
}
