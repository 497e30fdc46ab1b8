package app

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// pool declares a source that feeds several pipelines, and opens it. Its routes lead to plans that are declared.
func (a *App) pool(ctx context.Context, s gantry.Shared, plans map[string]*engine.Plan) (*feed, error) {
	x := asPipeline(s)
	id, err := a.Store.EnsurePipeline(ctx, x)
	if err != nil {
		return nil, err
	}
	plan := a.plans.keepPool(id, x, true)
	f := &feed{name: s.Name, plan: plan, local: local(targetOf(s.Config)), match: s.Match}
	if f.source, f.limiter, err = plan.Sources[0].Open(ctx); err != nil {
		return nil, err
	}
	for _, r := range s.Routes {
		to := plans[r.To]
		if to == nil {
			return nil, gantry.Errorf(gantry.Illegal, CodeNoPipeline, "source %s: no pipeline is named %s", s.Name, r.To)
		}
		admit, err := a.Store.EnsureLimiter(ctx, "pipeline:"+to.Name, inProgress(to.Pipeline), true)
		if err != nil {
			return nil, err
		}
		lane, err := a.Store.EnsureLane(ctx, to.Name, s.Name, admit, 0)
		if err != nil {
			return nil, err
		}
		f.routes = append(f.routes, route{way{to, lane, to.Collect}, r.When})
	}
	return f, a.equip(ctx, f, s.Endpoint)
}

// asPipeline is a shared source as what its calls stand on record with: a pipeline that has nothing but a source.
func asPipeline(s gantry.Shared) *gantry.Pipeline {
	return &gantry.Pipeline{Name: pipeline.NamePool + s.Name, Version: s.Version, Resolved: s.Resolved, Sources: []gantry.Endpoint{s.Endpoint}}
}

// keepPool makes the plan of a shared source, or finds it. A task's own calls of the source are of its own pipeline, which
// does not have it: the index is below 0.
func (p *plans) keepPool(id int32, x *gantry.Pipeline, declare bool) *engine.Plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	if plan := p.open[id]; plan != nil {
		return plan
	}
	plan := &engine.Plan{Pipeline: x, ID: id,
		Sources: []engine.Source{{Name: x.Sources[0].Name, Index: -1, Open: p.lazily(x.Sources[0], declare)}}}
	p.open[id] = plan
	return plan
}

// Shared finds a shared source by its version, which another process may have declared.
func (p *plans) Shared(ctx context.Context, id int32) (engine.Source, error) {
	p.mu.Lock()
	plan := p.open[id]
	p.mu.Unlock()
	if plan == nil {
		doc, err := p.app.Store.ResolvedPipeline(ctx, id)
		if err != nil {
			return engine.Source{}, err
		}
		s, err := pipeline.ParseShared(doc, p.app.Drivers)
		if err != nil {
			return engine.Source{}, gantry.Errorf(gantry.Illegal, "bad_source", "read version %d of a source: %w", id, err)
		}
		plan = p.keepPool(id, asPipeline(s), false)
	}
	return plan.Sources[0], nil
}
