package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	httpdriver "github.com/gantry-imaging/gantry/internal/driver/http"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// Serve watches the sources of the pipelines and runs tasks until ctx ends.
func (a *App) Serve(ctx context.Context, pipelines []*gantry.Pipeline) error {
	var feeds []*feed
	for _, p := range pipelines {
		fs, err := a.feeds(ctx, p)
		if err != nil {
			return fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
		feeds = append(feeds, fs...)
	}
	if err := a.desk.open(feeds); err != nil {
		return err
	}
	return a.Work(ctx, func(ctx context.Context, _ *scheduler.Session, in *intake) error {
		a.desk.begin(ctx, in)
		defer a.desk.end(in)
		g, ctx := errgroup.WithContext(ctx)
		for _, f := range feeds {
			g.Go(func() error { return a.watch(ctx, in, f) })
		}
		a.tendAll(ctx, g, in, feeds)
		return g.Wait()
	})
}

// feeds declares a pipeline and opens its sources.
func (a *App) feeds(ctx context.Context, p *gantry.Pipeline) ([]*feed, error) {
	plan, err := a.plans.Declare(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := a.publish(ctx, p); err != nil {
		return nil, err
	}
	admit, err := a.Store.EnsureLimiter(ctx, "pipeline:"+p.Name, inProgress(p), true)
	if err != nil {
		return nil, err
	}
	if err := a.Store.Served(ctx, plan.ID); err != nil {
		return nil, err
	}
	var feeds []*feed
	for i, s := range p.Sources {
		f := &feed{name: p.Name + "/" + s.Name, plan: plan, index: int16(i), local: local(targetOf(s.Config))}
		if f.source, f.limiter, err = plan.Sources[i].Open(ctx); err != nil {
			return nil, err
		}
		if f.lane, err = a.Store.EnsureLane(ctx, p.Name, s.Name, admit, 0); err != nil {
			return nil, err
		}
		if c, ok := s.Config.(*httpdriver.SourceConfig); ok {
			f.uploads = c.Limit()
		}
		feeds = append(feeds, f)
	}
	return feeds, nil
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
	ctx = a.control.WithControl(ctx, gantry.ControlKey{Boundary: gantry.AtSource, Limiter: f.limiter, Pipeline: f.plan.ID, Index: f.index})
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := f.source.Watch(ctx, func(ctx context.Context, o gantry.Object) error {
			id, err := in.accept(ctx, f, o, "")
			switch {
			case err != nil && ctx.Err() == nil:
				a.Log.Warn("accept", "source", f.name, "code", string(gantry.CodeOf(err)), "err", err)
			case id != "":
				a.Log.Info("accepted", "source", f.name, "task", id)
			}
			return err
		})
		if ctx.Err() != nil || err == nil || errors.Is(err, context.Canceled) {
			return nil
		}
		a.Log.Error("watch", "source", f.name, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
