package app

import (
	"context"

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
