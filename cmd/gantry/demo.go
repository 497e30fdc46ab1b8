package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/localpg"
	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/sample"
	"github.com/gantry-imaging/gantry/pipelines"
)

type demoCmd struct {
	Out string `short:"o" help:"Folder for inputs and results; the demonstration's own home without it." placeholder:"DIR"`
}

// modelsAddress is the address that the pipelines expect the reference models at.
const modelsAddress = "127.0.0.1:8095"

// act is one pipeline of the demonstration with what goes through it.
type act struct {
	pipeline *gantry.Pipeline
	inputs   []string // names of samples; none: all
	outcomes []app.Outcome
	took     time.Duration
}

// demo is a demonstration under way.
type demo struct {
	console
	home  string
	in    string // folder of the samples
	out   string // folder of the results
	page  string
	acts  []*act
	paths func() ([]string, error) // of the samples, once they are written
}

// Run is called by the parser. The demonstration keeps a home of its own, so that it never meets
// a database that is used for something.
func (d *demoCmd) Run(ctx context.Context, c console, x *cli) error {
	if x.Home == "" {
		x.Home = filepath.Join(localpg.DefaultHome(), "demo")
	}
	if d.Out == "" {
		d.Out = filepath.Join(x.Home, "files")
	}
	l, err := api.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	acts, err := demoActs(l)
	if err != nil {
		return err
	}
	show := &demo{console: c, home: x.Home, in: filepath.Join(d.Out, "in"), out: filepath.Join(d.Out, "out"),
		page: filepath.Join(d.Out, "index.html"), acts: acts}
	mctx, stopModels := context.WithCancel(ctx)
	g, mctx := errgroup.WithContext(mctx)
	g.Go(func() error { return api.Serve(mctx, l, models.Handler(models.Options{})) })
	fmt.Fprintf(c.out, "samples in %s\nreference models on http://%s\n", show.in, l.Addr())
	show.writeSamples() // while the database starts
	err = x.withApp(ctx, c, nil, func(a *app.App) error { return show.run(ctx, a) })
	stopModels()
	if merr := g.Wait(); err == nil {
		err = merr
	}
	return err
}

// demoActs reads the pipelines, with the address of this process's models in them.
func demoActs(l net.Listener) ([]*act, error) {
	acts := []*act{{}, {inputs: []string{"mixed.zip"}}, {inputs: []string{"ct-study.zip"}}}
	for i, src := range [][]byte{pipelines.FirstLight, pipelines.Cumulative, pipelines.Fanout} {
		src = bytes.ReplaceAll(src, []byte(modelsAddress), []byte(l.Addr().String()))
		p, err := pipeline.Parse("demo.yaml", src, all.Drivers(), os.LookupEnv)
		if err != nil {
			return nil, err
		}
		acts[i].pipeline = p
	}
	return acts, nil
}

// writeSamples begins to write the samples; d.paths waits for them.
func (d *demo) writeSamples() {
	var paths []string
	var g errgroup.Group
	g.Go(func() (err error) {
		paths, err = sample.Write(d.in)
		return err
	})
	d.paths = func() ([]string, error) {
		err := g.Wait()
		return paths, err
	}
}

// run takes the samples through one pipeline after another and writes the page.
func (d *demo) run(ctx context.Context, a *app.App) error {
	paths, err := d.paths()
	if err != nil {
		return err
	}
	fmt.Fprintf(d.console.out, "database ready\n\n")
	failed := 0
	for _, x := range d.acts {
		n, err := d.play(ctx, a, x, paths)
		if err != nil {
			return err
		}
		failed += n
	}
	data, err := d.gather(ctx, a.Store)
	if err != nil {
		return err
	}
	if err := data.write(d.page); err != nil {
		return err
	}
	fmt.Fprintf(d.console.out, "%d tasks, %d calls of models, %.1f s\n\npage      %s\nresults   %s\nrecord    gantry --home %s call ls\ntasks     gantry --home %s task ls\n",
		data.Tasks, data.Calls, data.Took.Seconds(), d.page, d.out, d.home, d.home)
	if failed > 0 {
		return quietError(exitFailed)
	}
	return nil
}

// play runs one act and says how its tasks went and how many of them failed.
func (d *demo) play(ctx context.Context, a *app.App, x *act, paths []string) (failed int, err error) {
	if x.inputs != nil {
		paths = slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return !slices.Contains(x.inputs, filepath.Base(p)) })
	}
	fmt.Fprintf(d.console.out, "pipeline %s: %s\n", x.pipeline.Name, x.pipeline.Description)
	began := time.Now()
	x.outcomes, err = a.RunOnce(ctx, app.RunOptions{Pipeline: x.pipeline, Inputs: paths, Out: d.out})
	if err != nil {
		return 0, err
	}
	x.took = time.Since(began)
	for _, o := range x.outcomes {
		if o.State != gantry.Done.String() {
			failed++
		}
		if err := showWay(ctx, d.console, a.Store, x.pipeline, o); err != nil {
			return failed, err
		}
	}
	fmt.Fprintln(d.console.out)
	return failed, nil
}

// showWay prints a task's states with the time spent in each, and what came out.
func showWay(ctx context.Context, c console, store *postgres.Store, p *gantry.Pipeline, o app.Outcome) error {
	t, err := store.Task(ctx, o.ID)
	if err != nil {
		return err
	}
	events, err := store.Events(ctx, t.Key)
	if err != nil {
		return err
	}
	var way []string
	for _, s := range wayOf(p, t, events) {
		way = append(way, fmt.Sprintf("%s %s", s.Name, s.Took.Round(time.Millisecond)))
	}
	way = append(way, o.State)
	fmt.Fprintf(c.out, "  %s  task %s, %d items, %d files delivered\n    %s\n", filepath.Base(o.Input), o.ID, t.Items, len(o.Outputs), strings.Join(way, " > "))
	if o.Error != nil {
		fmt.Fprintf(c.out, "    %s: %s\n", o.Error.Code, o.Error.Message)
	}
	return nil
}

// step is one state of a task, or one stage of inference.
type step struct {
	Name  string
	State string
	Took  time.Duration
}

// wayOf gives the states that a task went through; tries of a state are one.
func wayOf(p *gantry.Pipeline, t postgres.TaskRow, events []postgres.EventRow) []step {
	var out []step
	last, stage := t.CreatedAt, 0
	for _, e := range events {
		if e.Change != "advance" && e.Change != "end" {
			continue
		}
		s := step{Name: e.From, State: e.From, Took: e.At.Sub(last)}
		if e.From == gantry.Inferring.String() && stage < len(p.Stages) {
			s.Name = p.Stages[stage].Name
			stage++
		}
		out = append(out, s)
		last = e.At
	}
	return out
}
