package gate

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// keep takes the unit of a call that keeps it until its outcome is committed; for any other call it takes none.
func (g *Gate) keep(ctx context.Context, spec gantry.CallSpec) (giveBack func(out bool), err error) {
	if spec.Unit != gantry.UnitKept {
		return func(bool) {}, nil
	}
	return g.session.Hold(ctx, spec.Intent.Limiter, spec.Priority, spec.Patience)
}

// acquire takes the unit of a call that has it for as long as it is on the wire.
func (g *Gate) acquire(ctx context.Context, spec gantry.CallSpec) (release func(), err error) {
	if spec.Unit != gantry.UnitOfCall {
		return func() {}, nil
	}
	return g.session.Acquire(ctx, spec.Intent.Limiter, spec.Priority)
}

// goesOut tells whether a part holds the unit once w is committed.
func goesOut(w *gantry.Write) bool {
	return slices.ContainsFunc(w.Parts, func(p gantry.Part) bool { return p.Status == gantry.PartOut })
}
