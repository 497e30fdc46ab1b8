package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
	inputs   []string // names of samples
	loops    bool     // they are among those that are written last
	outcomes []app.Outcome
	began    time.Time
	took     time.Duration

	buckets bool // calls of source and sink are shown too
}

// demo is a demonstration under way.
type demo struct {
	console
	home string
	in   string // folder of the samples
	out  string // folder of the results
	page string
	acts []*act

	models  string // address of this process's models
	gateway string // path of versitygw; empty: there is none

	left  []string     // what is left out, and why
	still func() error // waits for the samples of one image each, or archives of them
	loops func() error // waits for the others
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
	show := &demo{console: c, home: x.Home, in: filepath.Join(d.Out, "in"), out: filepath.Join(d.Out, "out"), page: filepath.Join(d.Out, "index.html"),
		models: l.Addr().String()}
	if err := show.plan(exec.LookPath, os.LookupEnv); err != nil {
		return errors.Join(err, l.Close())
	}
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

// plan reads the pipelines, with the address of this process's models in them, and leaves out what cannot run
// on this machine.
func (d *demo) plan(find func(program string) (string, error), lookup func(string) (string, bool)) (err error) {
	stage := func(src []byte, x act) error {
		src = bytes.ReplaceAll(src, []byte(modelsAddress), []byte(d.models))
		p, err := pipeline.Parse("demo.yaml", src, all.Drivers(), lookup)
		x.pipeline = p
		d.acts = append(d.acts, &x)
		return err
	}
	err = errors.Join(stage(pipelines.FirstLight, act{inputs: []string{"xray.png", "ct-slice.dcm", "ct-study.zip", "mixed.zip"}}),
		stage(pipelines.Cumulative, act{inputs: []string{"mixed.zip"}}),
		stage(pipelines.Fanout, act{inputs: []string{"ct-study.zip"}}),
		stage(pipelines.Multiframe, act{inputs: []string{"us-loop.dcm"}, loops: true}))
	if missing := lacking(find, "ffmpeg", "ffprobe"); missing == "" {
		err = errors.Join(err, stage(pipelines.Video, act{inputs: []string{"us-loop.avi"}, loops: true}))
	} else {
		d.left = append(d.left, "video: "+missing+" is not in PATH")
	}
	var without error
	if d.gateway, without = findGateway(find, lookup); without != nil {
		d.left = append(d.left, without.Error())
	}
	return err
}

// lacking is the first of the programs that is not there.
func lacking(find func(string) (string, error), programs ...string) string {
	for _, p := range programs {
		if _, err := find(p); err != nil {
			return p
		}
	}
	return ""
}

// writeSamples begins to write the samples, those of the first pipeline first; d.still and d.loops wait for them.
func (d *demo) writeSamples() {
	still, loops := make(chan struct{}), make(chan struct{})
	var errStill, errLoops error
	go func() {
		defer close(loops)
		_, errStill = sample.Write(d.in)
		close(still)
		_, errLoops = sample.WriteLoops(d.in)
	}()
	d.still = func() error { <-still; return errStill }
	d.loops = func() error { <-loops; return errLoops }
}

// run takes the samples through one pipeline after another and writes the page.
func (d *demo) run(ctx context.Context, a *app.App) error {
	if err := d.still(); err != nil {
		return err
	}
	fmt.Fprintf(d.console.out, "database ready\n\n")
	failed := 0
	for _, x := range d.acts {
		n, err := d.play(ctx, a, x)
		if err != nil {
			return err
		}
		failed += n
	}
	if d.gateway != "" {
		failed += d.playBuckets(ctx, a)
	}
	for _, what := range d.left {
		fmt.Fprintf(d.console.out, "left out  %s\n", what)
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
func (d *demo) play(ctx context.Context, a *app.App, x *act) (failed int, err error) {
	if x.loops {
		if err := d.loops(); err != nil {
			return 0, err
		}
	}
	paths := make([]string, len(x.inputs))
	for i, name := range x.inputs {
		paths[i] = filepath.Join(d.in, name)
	}
	fmt.Fprintf(d.console.out, "pipeline %s: %s\n", x.pipeline.Name, x.pipeline.Description)
	x.began = time.Now()
	x.outcomes, err = a.RunOnce(ctx, app.RunOptions{Pipeline: x.pipeline, Inputs: paths, Out: d.out})
	if err != nil {
		return 0, err
	}
	x.took = time.Since(x.began)
	return d.showAct(ctx, a, x)
}

// showAct says how the tasks of an act went and how many of them failed.
func (d *demo) showAct(ctx context.Context, a *app.App, x *act) (failed int, err error) {
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
