package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver/all"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/metrics"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/trace"
)

// workFlags are those of every process that runs tasks for others.
type workFlags struct {
	Tasks int           `help:"Tasks at once in this process; 64 without it."`
	Lease time.Duration `help:"How long after its last heartbeat a process counts as dead; 15s without it."`
	Grace time.Duration `help:"How long calls under way may go on after a stop; 10s without it."`

	CallbackURL string `name:"callback-url" help:"Address at which services reach this installation to answer later; that of the listener of serve without it." placeholder:"URL"`
}

func (f workFlags) adjust(s *app.Settings) {
	s.Tasks, s.TTL, s.Grace = cmp.Or(f.Tasks, s.Tasks), cmp.Or(f.Lease, s.TTL), cmp.Or(f.Grace, s.Grace)
	s.CallbackURL = cmp.Or(f.CallbackURL, s.CallbackURL)
}

// withApp opens the installation for a process that runs on, with its metrics and its traces.
func (f workFlags) withApp(ctx context.Context, c console, x *cli, work func(*app.App) error) error {
	s, err := x.settings(c)
	if err != nil {
		return err
	}
	if f.CallbackURL != "" {
		if err := pipeline.CheckCallbackURL(f.CallbackURL); err != nil {
			return usageError{fmt.Errorf("callback-url: %w", err)}
		}
	}
	tracer, err := trace.FromEnv(ctx, os.LookupEnv, version, s.Log)
	if err != nil {
		return usageError{err}
	}
	defer tracer.Close()
	return x.withApp(ctx, c, func(s *app.Settings) {
		f.adjust(s)
		s.Metrics, s.Tracer = metrics.New(version, revision()), tracer
	}, work)
}

// defaultListen is where a process answers about its health.
const defaultListen = "127.0.0.1:8090"

type serveCmd struct {
	workFlags
	Pipelines []string `help:"Pipeline files, or folders of them; those of the deployment file without it." placeholder:"DIR"`
	Listen    string   `help:"Loopback address for uploads, health checks and metrics; 127.0.0.1:8090 without it." placeholder:"ADDRESS"`
}

// Run is called by the parser.
func (s *serveCmd) Run(ctx context.Context, c console, x *cli) error {
	d, err := x.deployment()
	if err != nil {
		return err
	}
	if len(s.Pipelines) == 0 {
		s.Pipelines = d.Pipelines
	}
	s.Listen = cmp.Or(s.Listen, d.Listen, defaultListen)
	served, err := pipeline.LoadServed(s.Pipelines, d.Shared, all.Drivers(), os.LookupEnv)
	if err != nil {
		return err
	}
	list := served.Pipelines
	if len(list) == 0 {
		return usageError{errors.New("no pipeline: name files or folders with --pipelines, or in the deployment file")}
	}
	if err := served.Servable(); err != nil {
		return usageError{err}
	}
	return s.withApp(ctx, c, x, func(a *app.App) error {
		handler := func(address string) http.Handler {
			a.CallbackURL = cmp.Or(a.CallbackURL, "http://"+address)
			handler := api.TakeCallbacks(api.Tasks(api.Handler(a.Ready, a.Metrics.Handler()), a), a.Callbacks())
			return api.TakeHooks(api.ListCollections(api.ListSources(handler, a), a), a)
		}
		return answering(ctx, handler, s.Listen, func(ctx context.Context, address string) error {
			fmt.Fprintf(c.err, "gantry serves %d pipelines; health on http://%s/readyz\n", len(list), address)
			err := a.Serve(ctx, list, served.Shared...)
			if code := gantry.CodeOf(err); code == app.CodeOtherPlace || code == app.CodeOwnFiles {
				return usageError{err}
			}
			return err
		})
	})
}

// answering does work, and until it has ended answers with the handler for its address, which is made before
// anything is answered: also while what was begun is finished after a stop.
func answering(ctx context.Context, handler func(address string) http.Handler, listen string, work func(ctx context.Context, address string) error) error {
	l, err := api.Listen(ctx, listen)
	if err != nil {
		return usageError{err}
	}
	h := handler(l.Addr().String())
	hctx, end := context.WithCancel(context.WithoutCancel(ctx))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return api.Serve(hctx, l, h) })
	g.Go(func() error {
		defer end()
		return work(ctx, l.Addr().String())
	})
	return g.Wait()
}

type workerCmd struct {
	workFlags
	Listen string `help:"Loopback address for health checks and metrics; none without it." placeholder:"ADDRESS"`
}

// Run is called by the parser.
func (w *workerCmd) Run(ctx context.Context, c console, x *cli) error {
	return w.withApp(ctx, c, x, func(a *app.App) error {
		if w.Listen == "" {
			return a.Work(ctx, nil)
		}
		h := api.Handler(a.Ready, a.Metrics.Handler())
		return answering(ctx, func(string) http.Handler { return h }, w.Listen, func(ctx context.Context, address string) error {
			fmt.Fprintf(c.err, "gantry worker; health on http://%s/readyz\n", address)
			return a.Work(ctx, nil)
		})
	})
}
