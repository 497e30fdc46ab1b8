package app

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// CodeNoCallbackURL: a processor answers by callback alone, and no service can reach this installation.
const CodeNoCallbackURL gantry.Code = "no_callback_url"

// tickets is what the engine needs of the app where services answer later.
type tickets struct{ a *App }

// Answers is that of the store.
func (t tickets) Answers(ctx context.Context, task gantry.TaskID, leg, stage, processor int16) (gantry.Heard, error) {
	return t.a.Store.Answers(ctx, task, leg, stage, processor)
}

// Address is below the deployment's own.
func (t tickets) Address(s gantry.Submission) (token, address string) {
	token = s.Token(t.a.Key)
	return token, strings.TrimRight(t.a.CallbackURL, "/") + "/callbacks/" + token
}

// Control counts requests as control traffic.
func (t tickets) Control(ctx context.Context, key gantry.ControlKey) context.Context {
	return t.a.control.WithControl(ctx, key)
}

// Came counts a callback's body as the answer of the running call.
func (t tickets) Came(ctx context.Context, r io.ReadCloser) io.ReadCloser {
	return gate.Local(ctx, r, false)
}

// hears tells whether callbacks can reach this installation.
func (a *App) hears() bool { return a.CallbackURL != "" && a.Signatures != nil }

// deferred says how a processor's answers come; nil if they come at once. One that answers by callback, where none can
// come, is polled alone; if it cannot be, that is Unavailable: another process may know the address.
func (p *plans) deferred(x *gantry.Pipeline, proc gantry.Processing, driver gantry.Processor) (*engine.Deferred, error) {
	service, ok := driver.(gantry.Deferring)
	if !ok || service.Deferral() == nil {
		return nil, nil
	}
	d := &engine.Deferred{Deferral: *service.Deferral(), Service: service}
	d.Callbacks = d.Callback != "" && p.app.hears()
	d.Index = indexOf(x, proc)
	if !d.Callbacks && d.Poll <= 0 && !d.Inbox {
		return nil, gantry.Errorf(gantry.Unavailable, CodeNoCallbackURL, "processor %s: it answers by callback alone, and this process knows no address for that: set callback_url, or poll", proc.Name)
	}
	if !d.Callbacks && d.Callback != "" {
		p.app.Log.Warn("no address for callbacks is known: answers are polled for alone", "processor", proc.Name)
	}
	return d, nil
}

// indexOf is a processor's place in its pipeline.
func indexOf(x *gantry.Pipeline, proc gantry.Processing) int16 {
	return int16(slices.IndexFunc(x.Processors, func(y gantry.Processing) bool { return y.Name == proc.Name }))
}

// countingLater tells of the requests of a processor that left, as counting does.
type countingLater struct {
	gantry.Deferring
	called func()
}

// Process makes the call.
func (c countingLater) Process(ctx context.Context, r *gantry.Request) error {
	return counting{c.Deferring, c.called}.Process(ctx, r)
}

// Submit sends the request.
func (c countingLater) Submit(ctx context.Context, r *gantry.Request, callback string) (gantry.Ticket, error) {
	t, err := c.Deferring.Submit(ctx, r, callback)
	if m := gate.MeterFrom(ctx); m != nil && m.HasBegun() {
		c.called()
	}
	return t, err
}

const (
	sweepEvery   = 5 * time.Second // for tickets that nobody waits for any more
	sweepBatch   = 200
	abandonTime  = 5 * time.Second // at most, for one of them
	abandonAside = 8
)

// sweepTickets tells services of submissions whose task has ended, by a failure, a passed deadline or an operator, that
// nobody waits for them, and takes them off the books. What could not be told holds its unit until its time is up.
func (a *App) sweepTickets(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := a.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			a.Log.Warn("abandon tickets", "err", err)
		}
	}
}

func (a *App) sweepOnce(ctx context.Context) error {
	list, err := a.Store.Stranded(ctx, sweepBatch)
	if err != nil || len(list) == 0 {
		return err
	}
	return side(ctx, abandonAside, list, func(ctx context.Context, x postgres.Stranded) error {
		if err := a.abandon(ctx, x); err != nil && x.Out.For > 0 {
			a.Log.Debug("abandon ticket", "code", string(gantry.CodeOf(err)))
			return nil
		}
		return a.Store.Land(ctx, x)
	})
}

// abandon tells the service of one ticket.
func (a *App) abandon(ctx context.Context, x postgres.Stranded) error {
	plan, err := a.plans.Plan(ctx, x.Pipeline)
	if err != nil {
		return err
	}
	call, ok := callOf(plan, x.PartKey)
	if !ok || call.Deferred == nil {
		return gantry.Errorf(gantry.Illegal, "bad_pipeline", "abandon ticket: its processor does not answer later")
	}
	ctx, end := context.WithTimeout(ctx, abandonTime)
	defer end()
	ctx = a.control.WithControl(ctx, gantry.ControlKey{Boundary: gantry.AtProcessor, Limiter: call.Limiter, Pipeline: plan.ID, Index: call.Deferred.Index})
	return call.Deferred.Service.Abandon(ctx, gantry.Ticket{ID: x.Out.Ticket})
}

// callOf finds the call that a part is one of.
func callOf(plan *engine.Plan, k gantry.PartKey) (engine.Call, bool) {
	if s := int(k.Stage); s < 0 || s >= len(plan.Calls) || k.Processor < 0 || int(k.Processor) >= len(plan.Calls[s]) {
		return engine.Call{}, false
	}
	return plan.Calls[k.Stage][k.Processor], true
}
