package engine

import (
	"context"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// sourceOf finds the source of that name that an arrival is of: one of the plan's own, or one that several pipelines share. The
// index of a shared source is -1: it is none of the plan's.
func (w *work) sourceOf(ctx context.Context, a gantry.Arrival, path string) (Source, error) {
	if !strings.Contains(a.Source, "/") && w.e.Shared != nil && a.Via != 0 {
		return w.e.Shared(ctx, a.Via)
	}
	name, ok := strings.CutPrefix(a.Source, w.plan.Name+"/")
	i := slices.IndexFunc(w.plan.Sources, func(s Source) bool { return s.Name == name })
	if !ok || i < 0 {
		return Source{}, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open %s: it was not copied, and nothing says where it is", path)
	}
	return w.plan.Sources[i], nil
}
