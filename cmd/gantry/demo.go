package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
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

// modelsAddress is the address that first-light.yaml expects the reference models at.
const modelsAddress = "127.0.0.1:8095"

// Run is called by the parser. The demonstration keeps a home of its own, so that it never meets
// a database that is used for something.
func (d *demoCmd) Run(ctx context.Context, c console, x *cli) error {
	if x.Home == "" {
		x.Home = filepath.Join(localpg.DefaultHome(), "demo")
	}
	if d.Out == "" {
		d.Out = filepath.Join(x.Home, "files")
	}
	inputs, err := sample.Write(filepath.Join(d.Out, "in"))
	if err != nil {
		return fmt.Errorf("write samples: %w", err)
	}
	l, err := api.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		return err
	}
	p, err := demoPipeline(l)
	if err != nil {
		return err
	}
	mctx, stopModels := context.WithCancel(ctx)
	g, mctx := errgroup.WithContext(mctx)
	g.Go(func() error { return api.Serve(mctx, l, models.Handler(models.Options{})) })
	fmt.Fprintf(c.out, "samples in %s\nreference models on http://%s\n", filepath.Join(d.Out, "in"), l.Addr())
	err = x.withApp(ctx, c, nil, func(a *app.App) error { return d.run(ctx, c, x, a, p, inputs) })
	stopModels()
	if merr := g.Wait(); err == nil {
		err = merr
	}
	return err
}

func demoPipeline(l net.Listener) (*gantry.Pipeline, error) {
	src := bytes.ReplaceAll(pipelines.FirstLight, []byte(modelsAddress), []byte(l.Addr().String()))
	return pipeline.Parse("first-light.yaml", src, all.Drivers(), os.LookupEnv)
}

func (d *demoCmd) run(ctx context.Context, c console, x *cli, a *app.App, p *gantry.Pipeline, inputs []string) error {
	began := time.Now()
	fmt.Fprintf(c.out, "database ready; %d inputs go through pipeline %s\n\n", len(inputs), p.Name)
	out := filepath.Join(d.Out, "out")
	outcomes, err := a.RunOnce(ctx, app.RunOptions{Pipeline: p, Inputs: inputs, Out: out})
	if err != nil {
		return err
	}
	took := time.Since(began)
	failed := 0
	for _, o := range outcomes {
		if o.State != gantry.Done.String() {
			failed++
		}
		if err := showWay(ctx, c, a.Store, o); err != nil {
			return err
		}
	}
	s := summary{Tasks: outcomes}
	if err := s.count(ctx, a.Store); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%d tasks, %d calls of models, %.1f s\n\nresults   %s\nrecord    gantry --home %s call ls\ntasks     gantry --home %s task ls\n",
		len(outcomes), s.Calls, took.Seconds(), out, x.Home, x.Home)
	if failed > 0 {
		return quietError(exitFailed)
	}
	return nil
}

// showWay prints a task's states with the time spent in each, and what came out.
func showWay(ctx context.Context, c console, store *postgres.Store, o app.Outcome) error {
	t, err := store.Task(ctx, o.ID)
	if err != nil {
		return err
	}
	events, err := store.Events(ctx, t.Key)
	if err != nil {
		return err
	}
	var way []string
	last := t.CreatedAt
	for _, e := range events {
		way = append(way, fmt.Sprintf("%s %s", e.From, e.At.Sub(last).Round(time.Millisecond)))
		last = e.At
	}
	way = append(way, o.State)
	fmt.Fprintf(c.out, "%s  task %s\n  %s\n  %d items, %d files delivered\n", filepath.Base(o.Input), o.ID, strings.Join(way, " > "), t.Items, len(o.Outputs))
	if o.Error != nil {
		fmt.Fprintf(c.out, "  %s: %s\n", o.Error.Code, o.Error.Message)
	}
	fmt.Fprintln(c.out)
	return nil
}
