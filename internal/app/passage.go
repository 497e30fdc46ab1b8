package app

import (
	"context"
	"strings"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// passage finds where a task goes that is moved to a pipeline: its version that was served last, and there the lane
// of the source of the same name, or the one for moved tasks. A pipeline that nobody ever served here is NotFound
// with code no_pipeline; a task of one process alone is Illegal with code private_task.
func passage(ctx context.Context, st *postgres.Store, drivers *driver.Register, to string, task gantry.TaskID) (gantry.Passage, error) {
	s, ok, err := st.LastServed(ctx, to)
	if err != nil {
		return gantry.Passage{}, err
	}
	if !ok {
		return gantry.Passage{}, gantry.Errorf(gantry.NotFound, CodeNoPipeline, "no process has served a pipeline of this name")
	}
	standing, err := st.Standing(ctx, task)
	if err != nil {
		return gantry.Passage{}, err
	}
	if standing.Private {
		return gantry.Passage{}, gantry.Errorf(gantry.Illegal, "private_task", "it belongs to gantry run")
	}
	p, err := pipeline.ParseResolved(s.Resolved, drivers)
	if err != nil {
		return gantry.Passage{}, gantry.Errorf(gantry.Illegal, "bad_pipeline", "read pipeline version %d: %w", s.Version, err)
	}
	list, err := st.Originals(ctx, task)
	if err != nil {
		return gantry.Passage{}, err
	}
	_, from, _ := strings.Cut(list[0].Source, "/")
	source := gantry.MovedLane
	for _, x := range p.Sources {
		if x.Name == from {
			source = from
		}
	}
	lane, err := st.EnsureLane(ctx, to, source, s.Limiter, 0)
	return gantry.Passage{Pipeline: s.Version, Lane: lane, Within: p.Timeouts.Queued}, err
}

// Passage finds where a task of this process goes that is moved to a pipeline.
func (p *plans) Passage(ctx context.Context, to string, task gantry.TaskID) (gantry.Passage, error) {
	return passage(ctx, p.app.Store, p.app.Drivers, to, task)
}
