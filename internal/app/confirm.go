package app

import (
	"context"
	"fmt"

	"github.com/gantry-imaging/gantry/internal/api"
	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// confirmations is what the engine needs of the app where sinks confirm what was delivered to them.
type confirmations struct {
	tickets
	*postgres.Store
}

// hearConfirmations has what a sink's server confirms kept, whichever process it tells it to.
func (p *plans) hearConfirmations(s engine.Sink) {
	c, ok := s.Sink.(gantry.Confirming)
	if !ok {
		return
	}
	a := p.app
	c.Tell(func(ctx context.Context, x gantry.Answer) (bool, error) {
		known, err := a.Store.Confirmed(ctx, s.Limiter, x)
		if session := a.session.Load(); known && session != nil {
			session.Hasten()
		}
		return known, err
	})
}

// confirms says which sinks are to say whether they keep what they got.
func (t *telling) confirms() {
	for _, c := range t.Confirms {
		name := fmt.Sprintf("its sink %d", c.Sink+1)
		if t.p != nil && int(c.Sink) < len(t.p.Sinks) {
			name = "sink " + t.p.Sinks[c.Sink].Name
		}
		t.say(api.Cause{Code: WhyConfirm, Until: t.Due}, "It waits for %s to say whether it keeps the %s that it got: it was asked at %s.", name, plural(int(c.Count), "file"), t.at(c.At))
	}
}

// unitsOf is how many calls a target takes at once, as its config says; -1: as many as there are.
func unitsOf(config any) int {
	if b, ok := config.(gantry.Bounded); ok {
		return b.AtOnce()
	}
	return -1
}
