package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

type runCmd struct {
	File   string   `short:"f" required:"" help:"Pipeline file." type:"existingfile" placeholder:"PIPELINE.yaml"`
	Out    string   `short:"o" default:"out" help:"Folder for the results." placeholder:"DIR"`
	Rejoin bool     `help:"Put what was taken apart together again; so it is too if a sink of the pipeline asks for it."`
	JSON   bool     `name:"json" help:"One JSON object instead of text."`
	Inputs []string `arg:"" name:"input" help:"Files; each becomes one task. A folder stands for the files in it."`
}

// Run is called by the parser.
func (r *runCmd) Run(ctx context.Context, c console, x *cli) error {
	p, err := pipeline.Load(r.File, all.Drivers(), os.LookupEnv)
	if err != nil {
		return err
	}
	inputs, err := expand(r.Inputs)
	if err != nil {
		return usageError{err}
	}
	return x.withApp(ctx, c, nil, func(a *app.App) error {
		began := time.Now()
		bar := newProgress(c.err, r.JSON)
		outcomes, err := a.RunOnce(ctx, app.RunOptions{Pipeline: p, Inputs: inputs, Out: r.Out, Rejoin: r.Rejoin, Progress: bar.show})
		bar.end()
		s := summary{Tasks: outcomes, Seconds: time.Since(began).Seconds()}
		if serr := s.count(context.WithoutCancel(ctx), a.Store); err == nil {
			err = serr
		}
		s.print(c.out, r.JSON, r.Out)
		if err == nil && s.Failed > 0 {
			return quietError(exitFailed)
		}
		return err
	})
}

// expand turns folders into the files in them and makes paths absolute.
func expand(args []string) ([]string, error) {
	var out []string
	for _, arg := range args {
		abs, err := filepath.Abs(arg)
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(abs)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out = append(out, abs)
			continue
		}
		err = filepath.WalkDir(abs, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
				out = append(out, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// summary is what a run says at its end.
type summary struct {
	Tasks   []app.Outcome `json:"tasks"`
	Done    int           `json:"done"`
	Failed  int           `json:"failed"`
	Calls   int           `json:"calls"`
	Seconds float64       `json:"seconds"`
}

// count fills in the totals; calls are those of processors that left.
func (s *summary) count(ctx context.Context, store *postgres.Store) error {
	var ids []string
	for _, t := range s.Tasks {
		ids = append(ids, t.ID)
		if t.State == gantry.Done.String() {
			s.Done++
		} else {
			s.Failed++
		}
	}
	if len(ids) == 0 {
		s.Tasks = []app.Outcome{}
		return nil
	}
	calls, err := store.Calls(ctx, postgres.Filter{Tasks: ids, Boundary: gantry.AtProcessor.String()})
	for _, call := range calls {
		if call.Outcome != gantry.ResultNotSent.String() {
			s.Calls++
		}
	}
	return err
}

func (s *summary) print(w io.Writer, asJSON bool, out string) {
	if asJSON {
		printJSON(w, s)
		return
	}
	for _, t := range s.Tasks {
		if t.Error != nil {
			fmt.Fprintf(w, "%-9s %s  %s\n          %s: %s\n", t.State, t.ID, filepath.Base(t.Input), t.Error.Code, t.Error.Message)
			continue
		}
		fmt.Fprintf(w, "%-9s %s  %s  %d files\n", t.State, t.ID, filepath.Base(t.Input), len(t.Outputs))
	}
	fmt.Fprintf(w, "%d done, %d failed, %d calls in %.1f s; results in %s\n", s.Done, s.Failed, s.Calls, s.Seconds, out)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// progress shows how far a run is: a bar in a terminal, a line per task in a pipe.
type progress struct {
	w     io.Writer
	bar   bool
	quiet bool
	width int
}

func newProgress(w io.Writer, quiet bool) *progress {
	p := &progress{w: w, quiet: quiet}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar, p.width = true, 40
	}
	return p
}

func (p *progress) show(x app.Progress) {
	switch {
	case p.bar:
		n := p.width * x.Ended / max(1, x.Tasks)
		fmt.Fprintf(p.w, "\r[%s%s] %d/%d", strings.Repeat("=", n), strings.Repeat(" ", p.width-n), x.Ended, x.Tasks)
	case !p.quiet:
		fmt.Fprintf(p.w, "%d/%d %s %s\n", x.Ended, x.Tasks, x.Task.State, x.Task.ID)
	}
}

func (p *progress) end() {
	if p.bar {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
