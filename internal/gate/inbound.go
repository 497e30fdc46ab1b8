package gate

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Receipt begins the record of a call that a peer made of us, once all of it came: out says what, and how long that took. Whoever makes
// durable what it brought writes the receipt in the same commit, and then tells Written.
func (g *Gate) Receipt(w gantry.WorkerID, in gantry.Intent, out gantry.Outcome) (*gantry.Receipt, error) {
	if !g.session.Alive() {
		return nil, gantry.ErrFenced
	}
	in.ID = g.ids.New()
	out.ID, out.Task, out.Limiter = in.ID, in.Task, in.Limiter
	return &gantry.Receipt{Worker: w, Intent: in, Outcome: out}, nil
}

// Written is told of a receipt that is on record.
func (g *Gate) Written(ctx context.Context, r *gantry.Receipt) {
	if g.Ended != nil {
		g.Ended(ctx, r.Intent, r.Outcome)
	}
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
