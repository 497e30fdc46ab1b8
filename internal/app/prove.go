package app

import (
	"context"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
)

// proving is a sink that finds out about its server, beside the calls that deliver.
type proving struct {
	gantry.Proving
	app *App
	key gantry.ControlKey
	at  string
}

// prove lets a sink find out about its server, if it can.
func (p *plans) prove(s *engine.Sink, pipeline int32) {
	if x, ok := s.Sink.(gantry.Proving); ok {
		s.Sink = proving{x, p.app, gantry.ControlKey{Boundary: gantry.AtSink, Limiter: s.Limiter, Pipeline: pipeline, Index: s.Index}, s.Name}
	}
}

// Deliver delivers, and then finds out what is not known yet. What comes of that changes nothing for what was delivered.
func (p proving) Deliver(ctx context.Context, out gantry.Delivery) error {
	if err := p.Proving.Deliver(ctx, out); err != nil {
		return err
	}
	beside := gate.WithMeter(p.app.control.WithControl(ctx, p.key), nil) // no part of the call that delivered
	if err := p.Prove(beside); err != nil {
		p.app.Log.Warn("prove sink", "sink", p.at, "code", string(gantry.CodeOf(err)), "err", err)
	}
	return nil
}
