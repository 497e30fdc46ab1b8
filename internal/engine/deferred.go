package engine

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// deferred runs the parts of one processor that answers later.
type deferred struct {
	*Deferred
	w    *work
	call Call
	at   int16 // the processor's place in the stage
	unit map[gantry.PartKey]unit
	keys []gantry.PartKey // in the order of the parts
}

// runDeferred goes on with a processor's parts for as long as there is something to do: it takes in the answers that
// came, asks for those that are due, gives up those that did not come, and submits as many as there are units
// for. It returns when all that is left waits for something; the task is parked then and nobody waits with it.
func (w *work) runDeferred(ctx context.Context, call Call, units []unit) error {
	d := &deferred{Deferred: call.Deferred, w: w, call: call, unit: map[gantry.PartKey]unit{}}
	for _, u := range units {
		d.unit[u.PartKey], d.at = u, u.Processor
		d.keys = append(d.keys, u.PartKey)
	}
	for short := false; !w.e.stopping() && ctx.Err() == nil; {
		heard, answers, err := d.hear(ctx)
		if err != nil {
			return err
		}
		came, err := d.collect(ctx, answers)
		if err != nil {
			return err
		}
		sent := 0
		if !short || came > 0 { // where units were short, they only come free by answers
			if sent, short, err = d.submit(ctx); err != nil {
				return err
			}
		}
		if came == 0 && sent == 0 {
			w.haveHeard(heard)
			return nil
		}
	}
	return nil
}

// haveHeard keeps how many answers every processor of the stage has looked at.
func (w *work) haveHeard(count int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if count > 0 && (w.heard == 0 || count < w.heard) {
		w.heard = count
	}
}

// part is one of the processor's parts as it is now.
func (d *deferred) part(k gantry.PartKey) (unit, bool) {
	u, ok := d.unit[k]
	u.Part, _ = d.w.part(k)
	return u, ok
}

// hear gives the answers that came as callbacks, and one more than how many came to the task so far.
func (d *deferred) hear(ctx context.Context) (int32, []gantry.Received, error) {
	if !d.Callbacks && d.Callback == "" && !d.Inbox { // whoever submitted may have known an address
		return 0, nil, nil
	}
	h, err := d.w.e.Tickets.Answers(ctx, d.w.task.Task, d.w.task.Leg, d.w.task.Stage, d.at)
	if err != nil {
		return 0, nil, err
	}
	var own []gantry.Received
	for _, a := range h.Answers {
		if u, ok := d.part(a.PartKey); ok && u.Status <= gantry.PartOut {
			own = append(own, a)
		}
	}
	d.haste(h.Due)
	return h.Count + 1, own, nil
}

// collect takes in answers, asks for those that are due, and gives up those that are overdue. It says how many
// parts are no longer where they were.
func (d *deferred) collect(ctx context.Context, answers []gantry.Received) (int, error) {
	came := map[gantry.PartKey]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxAsking)
	for _, a := range answers {
		came[a.PartKey] = true
		g.Go(func() error { return d.unpack(gctx, a) })
	}
	late, err := d.refreshed(ctx, came)
	if err != nil {
		return 0, errors.Join(err, g.Wait())
	}
	var mu sync.Mutex
	var still []gantry.Part // out, and asked for in vain
	moved := len(answers)
	for _, k := range d.keys {
		u, _ := d.part(k)
		c := d.w.clock(k)
		if came[k] || u.Status != gantry.PartOut {
			continue
		}
		switch {
		case late[k]:
			moved++
			g.Go(func() error { return d.expire(gctx, u) })
		case !c.due.IsZero() && !c.due.After(time.Now()):
			g.Go(func() error {
				p, out, err := d.ask(gctx, u)
				mu.Lock()
				defer mu.Unlock()
				if out {
					still = append(still, p)
				} else {
					moved++
				}
				return err
			})
		}
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	return moved, d.keepOut(ctx, still)
}

// refreshed says which parts are overdue, after another look at how long they may be out: a sign of life may have
// come as a callback.
func (d *deferred) refreshed(ctx context.Context, but map[gantry.PartKey]bool) (map[gantry.PartKey]bool, error) {
	late := map[gantry.PartKey]bool{}
	find := func() {
		clear(late)
		for _, k := range d.keys {
			if u, _ := d.part(k); u.Status == gantry.PartOut && !but[k] && time.Since(d.w.clock(k).until) > overdue {
				late[k] = true
			}
		}
	}
	if find(); len(late) == 0 {
		return nil, nil
	}
	parts, err := d.w.e.Store.Parts(ctx, d.w.task.Task, d.w.task.Leg)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if late[p.PartKey] && p.Status == gantry.PartOut {
			d.w.setPart(p)
		}
	}
	find()
	return late, nil
}

// keepOut commits when parts that are still out are asked for again.
func (d *deferred) keepOut(ctx context.Context, parts []gantry.Part) error {
	for len(parts) > 0 {
		n := min(chunk, len(parts))
		if err := d.w.commit(ctx, &gantry.Write{Parts: parts[:n]}); err != nil {
			return err
		}
		for _, p := range parts[:n] {
			d.w.setPart(p)
		}
		parts = parts[n:]
	}
	return nil
}

// submit sends the parts that wait, for as long as units of the target's limit are to be had.
func (d *deferred) submit(ctx context.Context) (sent int, short bool, err error) {
	room := d.w.e.room(d.call.Limiter)
	var count atomic.Int32
	var none atomic.Bool
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxSide)
	for _, k := range d.keys {
		u, _ := d.part(k)
		if u.Status != gantry.PartPlanned || u.DueIn > 0 && d.w.clock(k).due.After(time.Now()) {
			continue
		}
		if none.Load() || d.w.halting() || gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if err := room.Enter(gctx, d.w.task.Priority, d.w.e.places(d.call)); err != nil {
				return nil // the wait below says why
			}
			defer room.Leave(d.w.task.Priority)
			if none.Load() || d.w.halting() {
				return nil
			}
			err := d.send(gctx, u)
			if errors.Is(err, gantry.ErrNoUnit) {
				none.Store(true)
				return nil
			}
			count.Add(1)
			return err
		})
	}
	err = g.Wait()
	return int(count.Load()), none.Load(), err
}

// send submits one part.
func (d *deferred) send(ctx context.Context, u unit) error {
	w := d.w
	u.sent = w.itemsOf(u.inputs)
	defer w.hold(ctx, u.sent)()
	address := ""
	if d.Callbacks {
		_, address = w.e.Tickets.Address(gantry.Submission{Task: w.task.Task, PartKey: u.PartKey, Try: u.Submits + 1})
	}
	spec := gantry.CallSpec{Timeout: d.call.Timeout, Unit: gantry.UnitKept, Patience: unitWait, Intent: gantry.Intent{Op: gantry.OpSubmit}}
	return w.attempt(ctx, d.call, u, spec, func(ctx context.Context, a *answer) (gantry.Ticket, error) {
		req := w.request(u, a)
		req.Of.Try++
		return checkTicket(d.Service.Submit(ctx, req, address))
	})
}

// ask polls one ticket, and fetches the answer if it is ready. out tells that the part is out as before, and is p.
func (d *deferred) ask(ctx context.Context, u unit) (p gantry.Part, out bool, err error) {
	pctx, end := context.WithTimeout(d.control(ctx), min(cmp.Or(d.call.Timeout, pollTime), pollTime))
	progress, err := d.Service.Poll(pctx, gantry.Ticket{ID: u.Out.Ticket})
	end()
	switch {
	case ctx.Err() != nil:
		return p, false, context.Cause(ctx)
	case err == nil && progress.Ready:
		return p, false, d.fetch(ctx, u)
	case err == nil:
		return d.asked(u.Part, progress.After), true, nil
	case over(err):
		return p, false, d.giveUp(ctx, u, err)
	}
	p = d.asked(u.Part, min(gantry.RetryAfterOf(err), d.w.plan.Retry.Max))
	p.Out.For = max(0, time.Until(d.w.clock(u.PartKey).until)).Microseconds() // it was no sign of life
	return p, true, nil
}

// over tells whether an error says that no answer will come. Every other one is of asking: who may not ask now, since a
// credential is being replaced, may ask later.
func over(err error) bool {
	code := gantry.CodeOf(err)
	return code == gantry.CodeJobFailed || code == gantry.CodeJobLost
}

// control is the ctx of requests that are no calls.
func (d *deferred) control(ctx context.Context) context.Context {
	return d.w.e.Tickets.Control(ctx, gantry.ControlKey{Boundary: gantry.AtProcessor, Limiter: d.call.Limiter, Pipeline: d.w.plan.ID, Index: d.Index})
}

// fetch collects an answer that is ready.
func (d *deferred) fetch(ctx context.Context, u unit) error {
	u.sent = d.w.itemsOf(u.inputs)
	spec := gantry.CallSpec{Timeout: d.call.Timeout, Unit: gantry.UnitNone, Intent: gantry.Intent{Op: gantry.OpCollect}}
	return d.w.attempt(ctx, d.call, u, spec, func(ctx context.Context, a *answer) (gantry.Ticket, error) {
		return gantry.Ticket{}, d.Service.Collect(ctx, gantry.Ticket{ID: u.Out.Ticket}, d.w.request(u, a))
	})
}

// expire gives up a part whose answer did not come in time.
func (d *deferred) expire(ctx context.Context, u unit) error {
	actx, end := context.WithTimeout(d.control(ctx), abandonTime)
	_ = d.Service.Abandon(actx, gantry.Ticket{ID: u.Out.Ticket}) // the service may not even be there
	end()
	if u.Out.Left <= u.Out.For {
		return d.giveUp(ctx, u, gantry.Errorf(gantry.Timeout, CodeNoAnswer, "no answer before the deadline"))
	}
	return d.giveUp(ctx, u, gantry.Errorf(gantry.Timeout, CodeNoHeartbeat, "no sign of life for %s", d.Heartbeat))
}

// giveUp ends a try whose answer will not come.
func (d *deferred) giveUp(ctx context.Context, u unit, err error) error {
	p := d.w.afterFailure(u.Part, err)
	if err := d.w.commit(ctx, &gantry.Write{Parts: []gantry.Part{p}}); err != nil {
		return err
	}
	d.w.setPart(p)
	return nil
}

// unpack takes in an answer that came as a callback. It is on record as a call in which nothing was sent.
func (d *deferred) unpack(ctx context.Context, c gantry.Received) error {
	u, _ := d.part(c.PartKey)
	u.sent, u.Submits = d.w.itemsOf(u.inputs), c.Try
	spec := gantry.CallSpec{Timeout: d.call.Timeout, Unit: gantry.UnitNone, Intent: gantry.Intent{Op: gantry.OpCallback}}
	return d.w.attempt(ctx, d.call, u, spec, func(ctx context.Context, a *answer) (gantry.Ticket, error) {
		r, err := d.w.bodyOf(ctx, c)
		if err != nil {
			return gantry.Ticket{}, err
		}
		r = d.w.e.Tickets.Came(ctx, r)
		defer r.Close()
		err = d.Service.Unpack(ctx, gantry.Callback{Header: c.Header, Status: c.Status, Body: once(r)}, d.w.request(u, a))
		if _, cerr := io.Copy(io.Discard, r); err == nil && cerr != nil {
			err = cerr // the record is of all that came
		}
		if err == nil && c.Status == gantry.CallbackFailed {
			err = gantry.Errorf(gantry.Permanent, gantry.CodeJobFailed, "the service says that it failed")
		}
		return gantry.Ticket{}, err
	})
}

// once gives a body to whoever asks first.
func once(r body) func(context.Context) (body, error) {
	var given atomic.Bool
	return func(context.Context) (body, error) {
		if given.Swap(true) {
			return nil, gantry.Errorf(gantry.Illegal, "second_read", "open callback: its body was given out")
		}
		return struct {
			io.Reader
			io.Closer
		}{r, io.NopCloser(nil)}, nil
	}
}

// bodyOf opens what came as a callback.
func (w *work) bodyOf(ctx context.Context, c gantry.Received) (body, error) {
	return w.open(ctx, gantry.Item{Parent: gantry.NoItem, Stage: gantry.OriginalStage, Body: c.Body, Location: c.Location, Size: c.Size, SHA: c.SHA})
}
