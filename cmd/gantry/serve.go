package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// workFlags are those of every process that runs tasks for others.
type workFlags struct {
	Tasks int           `help:"Tasks at once in this process." default:"64"`
	Lease time.Duration `help:"How long after its last heartbeat a process counts as dead." default:"15s"`
	Grace time.Duration `help:"How long calls under way may go on after a stop." default:"10s"`
}

func (f workFlags) adjust(s *app.Settings) { s.Tasks, s.TTL, s.Grace = f.Tasks, f.Lease, f.Grace }

type serveCmd struct {
	workFlags
	Pipelines []string `help:"Pipeline files, or folders of them." required:"" placeholder:"DIR"`
	Listen    string   `help:"Loopback address for uploads and health checks." default:"127.0.0.1:8090"`
}

// Run is called by the parser.
func (s *serveCmd) Run(ctx context.Context, c console, x *cli) error {
	list, err := pipeline.LoadAll(s.Pipelines, all.Drivers(), os.LookupEnv)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return usageError{errors.New("no pipeline: no *.yaml in the folders given")}
	}
	for _, p := range list {
		if err := pipeline.Servable(p); err != nil {
			return usageError{err}
		}
	}
	return x.withApp(ctx, c, s.adjust, func(a *app.App) error {
		l, err := api.Listen(ctx, s.Listen)
		if err != nil {
			return usageError{err}
		}
		fmt.Fprintf(c.err, "gantry serves %d pipelines; health on http://%s/readyz\n", len(list), l.Addr())
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return api.Serve(ctx, l, api.Tasks(api.Handler(a.Store.Ping), a)) })
		g.Go(func() error { return a.Serve(ctx, list) })
		return g.Wait()
	})
}

type workerCmd struct {
	workFlags
}

// Run is called by the parser.
func (w *workerCmd) Run(ctx context.Context, c console, x *cli) error {
	return x.withApp(ctx, c, w.adjust, func(a *app.App) error { return a.Work(ctx, nil) })
}
