package app

import (
	"context"
	"strings"

	"github.com/gantry-imaging/gantry/internal/driver"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// Limiter finds the limit that a name means: the key of a target or of a state, as gantry limits lists
// them; the name of a pipeline, for its tasks in progress; or PIPELINE/PROCESSOR, for the target of the
// processor as the pipeline's last version has it. The error is NotFound if there is none.
func (d *Database) Limiter(ctx context.Context, name string, drivers *driver.Register) (postgres.LimitRow, error) {
	keys := []string{name, "pipeline:" + name}
	if p, processor, ok := strings.Cut(name, "/"); ok {
		key, err := d.processorKey(ctx, p, processor, drivers)
		if err != nil {
			return postgres.LimitRow{}, err
		}
		if key != "" {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		if key == "" {
			continue
		}
		list, err := d.Limits(ctx, key, 1)
		if err != nil {
			return postgres.LimitRow{}, err
		}
		if len(list) == 1 {
			return list[0], nil
		}
	}
	return postgres.LimitRow{}, gantry.Errorf(gantry.NotFound, "", "find limit: no target, pipeline or processor has this name; gantry limits lists them")
}

// processorKey gives the key of a processor's target; empty if there is no such processor.
func (d *Database) processorKey(ctx context.Context, name, processor string, drivers *driver.Register) (string, error) {
	id, ok, err := d.LastVersion(ctx, name)
	if err != nil || !ok {
		return "", err
	}
	doc, err := d.ResolvedPipeline(ctx, id)
	if err != nil {
		return "", err
	}
	p, err := pipeline.ParseResolved(doc, drivers)
	if err != nil {
		return "", gantry.Errorf(gantry.Illegal, "bad_pipeline", "read pipeline version %d: %w", id, err)
	}
	x, err := p.Processor(processor)
	if err != nil {
		return "", nil
	}
	return targetOf(x.Config).Key(), nil
}
