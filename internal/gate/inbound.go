package gate

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Came puts a call on record that a peer made of us, once all of it came: its intent and its outcome are one commit. Nothing
// that it brought may be acknowledged before. out says what came and how long that took.
func (g *Gate) Came(ctx context.Context, in gantry.Intent, out gantry.Outcome) error {
	in.ID = g.ids.New()
	out.ID, out.Task, out.Limiter = in.ID, in.Task, in.Limiter
	if !g.session.Alive() {
		return gantry.ErrFenced
	}
	if err := g.session.Commit(ctx, &gantry.Write{Lease: in.Lease, Intent: &in, Outcome: &out}); err != nil {
		return notRecorded(ctx, err)
	}
	if g.Ended != nil {
		g.Ended(ctx, in, out)
	}
	return nil
}

// Count counts what peers asked for and was no call: a stay of one that is over, or, with a code, one that was turned away or
// broke off. The id is given here.
func (c *Control) Count(x gantry.Control) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.Requests = 1; x.To.IsZero() {
		x.To = c.now()
	}
	if x.From.IsZero() {
		x.From = x.To.Add(-max(0, min(x.Took, 24*time.Hour)))
	}
	if x.Code != "" {
		x.Failures = 1
	}
	c.put(x)
}
