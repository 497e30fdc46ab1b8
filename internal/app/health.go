package app

import (
	"context"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/metrics"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// The reasons for which a process is not ready, as codes of Ready's errors.
const (
	CodeStarting    gantry.Code = "starting"
	CodeDraining    gantry.Code = "draining"
	CodeLeaseLost   gantry.Code = "lease_lost"
	CodeNoDatabase  gantry.Code = "no_database"
	CodeOtherSchema gantry.Code = "other_schema"
)

// Ready tells whether the process can do its work: it holds its lease, the database answers, and has the
// schema of this program. The error is Unavailable, with a code of those above and a text without anything
// of the database's.
func (a *App) Ready(ctx context.Context) error {
	s := a.session.Load()
	switch {
	case a.draining.Load():
		return gantry.Errorf(gantry.Unavailable, CodeDraining, "draining: the process is asked to stop")
	case s == nil:
		return gantry.Errorf(gantry.Unavailable, CodeStarting, "starting: no lease yet")
	case !s.Alive():
		return gantry.Errorf(gantry.Unavailable, CodeLeaseLost, "the lease is lost: the database was away for too long")
	}
	current, err := a.Store.Current(ctx)
	switch {
	case err != nil:
		return gantry.Errorf(gantry.Unavailable, CodeNoDatabase, "the database does not answer")
	case !current:
		return gantry.Errorf(gantry.Unavailable, CodeOtherSchema, "the database has another schema than this program's")
	}
	return nil
}

// watchStop notes the moment from which on the process only finishes what it has begun.
func (a *App) watchStop(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, func() { a.draining.Store(true) })
}

// census is what scrapes of this process ask for.
func (a *App) census() metrics.Census {
	return metrics.Census{
		Tasks: func(ctx context.Context) ([]metrics.TaskCount, error) {
			rows, err := a.Store.Census(ctx)
			out := make([]metrics.TaskCount, 0, len(rows))
			for _, r := range rows {
				out = append(out, metrics.TaskCount(r))
			}
			return out, err
		},
		Out: func(ctx context.Context) ([]metrics.PartCount, error) {
			rows, err := a.Store.PartsOut(ctx)
			out := make([]metrics.PartCount, 0, len(rows))
			for _, r := range rows {
				out = append(out, metrics.PartCount(r))
			}
			return out, err
		},
		Waiting: func() (units, starts int) {
			if s := a.session.Load(); s != nil {
				return s.Waiting()
			}
			return 0, 0
		},
		Free: func() (int64, error) {
			var st unix.Statfs_t
			err := unix.Statfs(a.disk(), &st)
			return int64(st.Bavail) * int64(st.Bsize), err
		},
		Now: time.Now,
	}
}

// observe hands what a session does to the metrics.
func (a *App) observe(o scheduler.Options) scheduler.Options {
	if a.Metrics == nil {
		return o
	}
	ended := o.Ended
	o.Ended = func(t gantry.Task, tr gantry.Transition) {
		a.Metrics.Ended(a.plans.endpoint(gantry.Intent{Pipeline: t.Pipeline}).Pipeline, tr.To)
		if ended != nil {
			ended(t, tr)
		}
	}
	o.Committed = a.Metrics.Commit
	return o
}

// ended hands a call to the metrics and the traces.
func (a *App) ended(ctx context.Context, in gantry.Intent, out gantry.Outcome) {
	at := a.plans.endpoint(in)
	a.Metrics.Call(in.Boundary, at, out)
	a.Tracer.Call(ctx, in, at.Pipeline, at.Name, out)
}

// traced makes a span of each step, and one of the step out of the queue that a claim made.
func (a *App) traced(step scheduler.Step) scheduler.Step {
	if a.Tracer == nil {
		return step
	}
	return func(ctx context.Context, t gantry.Task) gantry.Transition {
		pipeline := a.plans.endpoint(gantry.Intent{Pipeline: t.Pipeline}).Pipeline
		if t.Begun {
			was := t
			was.State = gantry.Queued
			_, left := a.Tracer.Step(ctx, was, pipeline)
			left(gantry.Transition{Lease: t.Lease, From: was.State, To: t.State})
		}
		ctx, end := a.Tracer.Step(ctx, t, pipeline)
		tr := step(ctx, t)
		end(tr)
		return tr
	}
}

// endpoint names where a call goes, as far as this process has opened its pipeline.
func (p *plans) endpoint(in gantry.Intent) metrics.Endpoint {
	p.mu.Lock()
	plan := p.open[in.Pipeline]
	p.mu.Unlock()
	if plan == nil {
		return metrics.Endpoint{}
	}
	e := metrics.Endpoint{Pipeline: plan.Name}
	i := int(in.Part.Processor)
	switch in.Boundary {
	case gantry.AtSource:
		e.Name = nameOf(plan.Pipeline.Sources, i)
	case gantry.AtSink:
		e.Name = nameOf(plan.Pipeline.Sinks, i)
	case gantry.AtProcessor:
		if s := int(in.Part.Stage); s >= 0 && s < len(plan.Stages) && i >= 0 && i < len(plan.Stages[s].Call) {
			e.Name = plan.Stages[s].Call[i]
		}
	}
	return e
}

// nameOf is empty for what gantry run brought along.
func nameOf(list []gantry.Endpoint, i int) string {
	if i < 0 || i >= len(list) {
		return ""
	}
	return list[i].Name
}

// counted are blobs whose bytes are counted once they are durable.
type counted struct {
	gantry.Blobs
	metrics *metrics.Metrics
}

// Stage is that of the blobs.
func (c counted) Stage(ctx context.Context, r io.Reader, size, limit int64) (gantry.Staged, error) {
	s, err := c.Blobs.Stage(ctx, r, size, limit)
	if err != nil {
		return nil, err
	}
	return countedStaged{s, c.metrics}, nil
}

type countedStaged struct {
	gantry.Staged
	metrics *metrics.Metrics
}

// Commit is that of the blob.
func (c countedStaged) Commit(ctx context.Context) (string, error) {
	size := c.Size()
	location, err := c.Staged.Commit(ctx)
	if err == nil {
		c.metrics.Blob(size)
	}
	return location, err
}
