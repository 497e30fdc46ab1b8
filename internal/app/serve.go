package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	httpdriver "github.com/gantry-imaging/gantry/internal/driver/http"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// Serve watches the sources of the pipelines, and those that they share, and runs tasks until ctx ends.
func (a *App) Serve(ctx context.Context, pipelines []*gantry.Pipeline, shared ...gantry.Shared) error {
	if err := a.checkOwn(pipelines, shared); err != nil {
		return err
	}
	if err := a.settle(ctx, pipelines, shared); err != nil {
		return err
	}
	var feeds []*feed
	a.openPort()
	plans := map[string]*engine.Plan{}
	for _, p := range pipelines {
		plan, fs, err := a.feeds(ctx, p)
		if err != nil {
			return fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
		plans[p.Name], feeds = plan, append(feeds, fs...)
	}
	for _, s := range shared {
		f, err := a.pool(ctx, s, plans)
		if err != nil {
			return fmt.Errorf("source %s: %w", s.Name, err)
		}
		feeds = append(feeds, f)
	}
	if err := a.desk.open(feeds); err != nil {
		return err
	}
	return a.answering(ctx, func(ctx context.Context) error { return a.watchAll(ctx, feeds) })
}

// watchAll runs tasks, and watches the sources of feeds.
func (a *App) watchAll(ctx context.Context, feeds []*feed) error {
	return a.Work(ctx, func(ctx context.Context, _ *scheduler.Session, in *intake) error {
		in.again() // before the sources are reported to be watched
		a.desk.begin(ctx, in)
		defer a.desk.end(in)
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { a.sweep(ctx); return nil })
		for _, f := range feeds {
			g.Go(func() error { f.ledger.run(ctx); return nil })
			g.Go(func() error { return a.watch(ctx, in, f) })
		}
		a.tendAll(ctx, g, in, feeds)
		return g.Wait()
	})
}

// feeds declares a pipeline and opens its sources.
func (a *App) feeds(ctx context.Context, p *gantry.Pipeline) (*engine.Plan, []*feed, error) {
	plan, err := a.plans.Declare(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	if err := a.publish(ctx, p); err != nil {
		return nil, nil, err
	}
	admit, err := a.Store.EnsureLimiter(ctx, "pipeline:"+p.Name, inProgress(p), true)
	if err != nil {
		return nil, nil, err
	}
	if err := a.Store.Served(ctx, plan.ID); err != nil {
		return nil, nil, err
	}
	var feeds []*feed
	for i, s := range p.Sources {
		f := &feed{name: p.Name + "/" + s.Name, plan: plan, index: int16(i), local: local(targetOf(s.Config))}
		if f.source, f.limiter, err = plan.Sources[i].Open(ctx); err != nil {
			return nil, nil, err
		}
		if f.lane, err = a.Store.EnsureLane(ctx, p.Name, s.Name, admit, 0); err != nil {
			return nil, nil, err
		}
		if c, ok := s.Config.(*httpdriver.SourceConfig); ok {
			f.uploads = c.Limit()
		} else {
			f.collect = p.Collect // an upload is answered with its task
		}
		if s.When != nil {
			f.routes = []route{{way{plan, f.lane, f.collect}, s.When}}
		}
		if err := a.equip(ctx, f, s); err != nil {
			return nil, nil, err
		}
		feeds = append(feeds, f)
	}
	return plan, feeds, nil
}

// equip gives a feed its ledger, and its source somebody to tell what it hears.
func (a *App) equip(ctx context.Context, f *feed, e gantry.Endpoint) (err error) {
	if f.layers, err = a.layered(ctx, f); err != nil {
		return err
	}
	if f.ledger, err = newLedger(a, f, e.Kind); err != nil {
		return err
	}
	if n, ok := f.source.(gantry.Noting); ok {
		n.Note(a.noting(f))
	}
	if c, ok := e.Config.(prefixed); ok {
		f.prefix = c.KeyPrefix()
	}
	return a.seat(f)
}

func inProgress(p *gantry.Pipeline) gantry.LimiterSpec {
	spec := gantry.LimiterSpec{MaxUnits: -1}
	if p.InProgress > 0 {
		spec.MaxUnits = p.InProgress
	}
	return spec
}

// recordControl writes what the traffic of sources, and polls, come to, until ctx ends.
func (a *App) recordControl(ctx context.Context, s *scheduler.Session) {
	a.control.Run(ctx, func(ctx context.Context, rows []gantry.Control) error {
		err := a.Store.RecordControl(ctx, s.Worker, rows)
		if err != nil {
			a.Log.Warn("record control traffic", "err", err)
		}
		return err
	})
}

// watch takes what a source announces. A source that fails is begun again after a pause: one
// folder that is away must not stop the others.
func (a *App) watch(ctx context.Context, in *intake, f *feed) error {
	ctx = a.control.WithControl(ctx, f.control())
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		stop := f.ledger.holds()
		err := f.ledger.watch(ctx, a.announcing(in, f))
		stop()
		if ctx.Err() != nil || err == nil || errors.Is(err, context.Canceled) {
			return nil
		}
		f.ledger.Failed(f.ledger.looks(), err)
		a.Log.Error("watch", "source", f.name, "code", string(gantry.CodeOf(err)), "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
