package engine

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Confirmations is what an engine needs besides where sinks confirm what was delivered to them.
type Confirmations interface {
	// Asked gives what the servers of a task's sinks were asked about one delivery, and how many answers came to the task before that.
	Asked(ctx context.Context, task gantry.TaskID, leg, delivery int16) (count int32, out []gantry.Asked, err error)
	// Ask keeps that a server is about to be asked; ErrFenced if the lease is lost.
	Ask(ctx context.Context, a gantry.Asking) error
	// Taken keeps that it took the request.
	Taken(ctx context.Context, l gantry.Lease, id string) error
	// GiveUp has nobody wait any more for what a sink was asked about a delivery.
	GiveUp(ctx context.Context, l gantry.Lease, leg, delivery, sink int16) error
	// Came counts what is read of an answer as that of the running call.
	Came(ctx context.Context, r body) body
}

// confirming is what a task's sinks were asked, and what they were delivered.
type confirming struct {
	*work
	heard int32          // as in gantry.Transition
	asked []gantry.Asked // by sink and try
	sinks []confirmingSink
}

type confirmingSink struct {
	gantry.Confirming
	gantry.Confirmation
	at      int16 // its place in the plan
	outputs []delivered
}

// confirmingOf gives what stands about the sinks of the plan that confirm; no outputs yet.
func (w *work) confirmingOf(ctx context.Context) (*confirming, error) {
	c := &confirming{work: w}
	for i, s := range w.plan.Sinks {
		x, ok := s.Sink.(gantry.Confirming)
		if !ok || x.Confirmation() == nil {
			continue
		}
		if w.e.Confirmations == nil {
			return nil, gantry.Errorf(gantry.Illegal, "", "sink %s: nobody here takes its confirmations", s.Name)
		}
		c.sinks = append(c.sinks, confirmingSink{x, *x.Confirmation(), int16(i), nil})
	}
	if len(c.sinks) == 0 {
		return c, nil
	}
	return c, c.read(ctx)
}

func (c *confirming) read(ctx context.Context) error {
	count, asked, err := c.e.Confirmations.Asked(ctx, c.task.Task, c.task.Leg, c.task.Delivery)
	c.heard, c.asked = count+1, asked
	return err
}

// begun tells whether any sink was asked: all sinks had all outputs by then.
func (c *confirming) begun() bool {
	return slices.ContainsFunc(c.asked, func(a gantry.Asked) bool { return !a.Over })
}

// gave notes what a sink was delivered.
func (c *confirming) gave(sink int, outputs []delivered) {
	for i := range c.sinks {
		if int(c.sinks[i].at) == sink {
			c.sinks[i].outputs = outputs
		}
	}
}

// settle asks each sink that has something to confirm, and parks the task until all have answered that they keep everything. What
// a server does not keep is sent once more; one that does not answer in time is asked once more. Then the task fails with
// not_committed: Permanent, as the rules for tries have had their turn.
func (c *confirming) settle(ctx context.Context) error {
	var wait time.Duration
	for _, s := range c.sinks {
		if len(s.outputs) == 0 {
			continue
		}
		left, err := c.press(ctx, s)
		if err != nil {
			return err
		}
		if left > 0 && (wait == 0 || left < wait) {
			wait = left
		}
	}
	if wait > 0 {
		return parked{after: wait, heard: c.heard}
	}
	for _, s := range c.sinks {
		if len(s.outputs) == 0 {
			continue
		}
		a, _ := whole(c.of(s))
		if err := c.record(ctx, s, a); err != nil {
			return err
		}
	}
	return nil
}

// of gives the requests to a sink, by try.
func (c *confirming) of(s confirmingSink) (out []gantry.Asked) {
	for _, a := range c.asked {
		if a.Sink == s.at {
			out = append(out, a)
		}
	}
	return out
}

// press does what is to be done about one sink now, and says how long it can be left alone then; 0 once it keeps everything.
func (c *confirming) press(ctx context.Context, s confirmingSink) (time.Duration, error) {
	asked := c.of(s)
	last := gantry.Asked{}
	if len(asked) > 0 {
		last = asked[len(asked)-1]
	}
	switch do, wait := decide(asked, s.Within); do {
	case confirmKept:
		return 0, nil
	case confirmWait:
		return wait, nil
	case confirmRepeat:
		return s.Within, c.ask(ctx, s, last.Try)
	case confirmResend:
		if err := c.resend(ctx, s, last); err != nil {
			return 0, err
		}
		return s.Within, c.ask(ctx, s, last.Try+1)
	case confirmLost:
		return 0, c.lost(ctx, s, last)
	default:
		next := int16(0)
		if len(asked) > 0 {
			next = last.Try + 1
		}
		return s.Within, c.ask(ctx, s, next)
	}
}

// What is to be done about a sink that confirms.
const (
	confirmAsk    = iota // anew
	confirmRepeat        // the last request: nobody knows whether it was taken
	confirmResend        // what is not kept, and ask anew
	confirmWait
	confirmKept
	confirmLost
)

// decide says what is to be done after these requests, and for how long nothing is. Requests that were given up count no more,
// but that an answer to any of them says that everything is kept.
func decide(asked []gantry.Asked, within time.Duration) (do int, wait time.Duration) {
	if _, ok := whole(asked); ok {
		return confirmKept, 0
	}
	live := slices.DeleteFunc(slices.Clone(asked), func(a gantry.Asked) bool { return a.Over })
	if len(live) == 0 {
		return confirmAsk, 0
	}
	failed := 0
	for _, a := range live {
		if a.Answer != nil {
			failed++
		}
	}
	last := live[len(live)-1]
	silent := len(live) - failed
	switch {
	case last.Answer != nil && failed > 1:
		return confirmLost, 0
	case last.Answer != nil:
		return confirmResend, 0
	case !last.Taken:
		return confirmRepeat, 0
	case last.Waited < within:
		return confirmWait, max(within-last.Waited, time.Millisecond)
	case silent > 1:
		return confirmLost, 0
	}
	return confirmAsk, 0
}

// whole finds an answer that everything is kept.
func whole(asked []gantry.Asked) (gantry.Asked, bool) {
	i := slices.IndexFunc(asked, func(a gantry.Asked) bool { return a.Whole() })
	if i < 0 {
		return gantry.Asked{}, false
	}
	return asked[i], true
}

// spec is a call about everything that a sink was delivered.
func (c *confirming) spec(s confirmingSink, op gantry.Op, try int16, unit gantry.UnitUse) gantry.CallSpec {
	sink, items := c.plan.Sinks[s.at], make([]gantry.Item, len(s.outputs))
	for i, x := range s.outputs {
		items[i] = x.Item
	}
	return gantry.CallSpec{Priority: c.task.Priority, Unit: unit, Intent: gantry.Intent{
		Lease: c.task.Lease, Boundary: gantry.AtSink, Op: op, Limiter: sink.Limiter, Pipeline: c.plan.ID,
		Part: gantry.PartKey{Leg: c.task.Leg, Stage: c.task.Stage, Processor: sink.Index, Ordinal: int32(try), Generation: c.task.Delivery},
		Try:  c.task.Attempt + 1, ItemCount: int32(len(items)), ItemsSHA: itemsDigest(items)}}
}

// ask makes one request, a recorded call. Its id is a pure function of the delivery and the try.
func (c *confirming) ask(ctx context.Context, s confirmingSink, try int16) error {
	sink := c.plan.Sinks[s.at]
	number := func(n int16) string { return strconv.Itoa(int(n)) }
	a := gantry.Asking{Lease: c.task.Lease, Leg: c.task.Leg, Delivery: c.task.Delivery, Sink: s.at, Try: try, Limiter: sink.Limiter, Count: int32(len(s.outputs)),
		ID: dicom.ResultUID(c.e.Namespace, "confirm", c.task.PublicID, number(c.task.Leg), number(c.task.Delivery), sink.Name, number(try))}
	list, names := make([]gantry.Delivery, len(s.outputs)), make([]gantry.Digest, len(s.outputs))
	var err error
	for i, x := range s.outputs {
		list[i] = c.delivery(x)
		if names[i], err = s.NameOf(ctx, list[i]); err != nil {
			return err
		}
	}
	a.Names = gantry.NamesDigest(names)
	fail.Point("before_confirm")
	err = c.e.Caller.Call(gantry.WithHold(ctx, nil), c.spec(s, gantry.OpConfirm, try, gantry.UnitOfCall), func(ctx context.Context) error {
		if err := c.e.Confirmations.Ask(ctx, a); err != nil {
			return err
		}
		return s.Confirm(ctx, a.ID, list)
	}, nil)
	fail.Point("after_confirm")
	if err != nil {
		return err
	}
	return c.e.Confirmations.Taken(ctx, c.task.Lease, a.ID)
}

// resend delivers again what an answer says is not kept.
func (c *confirming) resend(ctx context.Context, s confirmingSink, a gantry.Asked) error {
	if err := c.record(ctx, s, a); err != nil && gantry.CodeOf(err) != gantry.CodeNotCommitted {
		return err
	}
	lost := map[gantry.Digest]bool{}
	for _, f := range a.Answer.Failed {
		lost[f.Name] = true
	}
	var again []delivered
	for _, x := range s.outputs {
		name, err := s.NameOf(ctx, c.delivery(x))
		if err != nil {
			return err
		}
		if lost[name] {
			again = append(again, x)
		}
	}
	return c.deliverAll(ctx, s.at, again, nil)
}

// lost ends the wait for a sink for good.
func (c *confirming) lost(ctx context.Context, s confirmingSink, a gantry.Asked) error {
	name := c.plan.Sinks[s.at].Name
	err := gantry.Errorf(gantry.Permanent, gantry.CodeNotCommitted, "sink %s: its server did not say in time whether it keeps the %d files", name, a.Count)
	if a.Answer != nil {
		if rerr := c.record(ctx, s, a); rerr != nil && gantry.CodeOf(rerr) != gantry.CodeNotCommitted {
			return rerr
		}
		err = gantry.Errorf(gantry.Permanent, gantry.CodeNotCommitted, "sink %s: its server keeps %d of the %d files", name, max(0, a.Count-int32(len(a.Answer.Failed))), a.Count)
	}
	if gerr := c.e.Confirmations.GiveUp(ctx, c.task.Lease, c.task.Leg, c.task.Delivery, s.at); gerr != nil {
		return gerr
	}
	return err
}

// record puts an answer on record, as the call that the server made on its own: the digest is that of a list of what it said.
func (c *confirming) record(ctx context.Context, s confirmingSink, a gantry.Asked) error {
	return c.e.Caller.Call(ctx, c.spec(s, gantry.OpCallback, a.Try, gantry.UnitNone), func(ctx context.Context) error {
		r := c.e.Confirmations.Came(ctx, bytesBody(answerText(a.Answer)))
		defer r.Close()
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		if !a.Whole() {
			return gantry.Errorf(gantry.Permanent, gantry.CodeNotCommitted, "%d of %d files are not kept, or others than it was asked about are", len(a.Answer.Failed), a.Count)
		}
		return nil
	}, nil)
}

// answerText lists what an answer says, the same whatever order it came in.
func answerText(a *gantry.Answer) []byte {
	b := fmt.Appendf(nil, "kept %d %s\n", a.Kept, hex.EncodeToString(a.Names[:]))
	failed := slices.SortedFunc(slices.Values(a.Failed), func(x, y gantry.Unconfirmed) int {
		return cmp.Or(slices.Compare(x.Name[:], y.Name[:]), cmp.Compare(x.Reason, y.Reason))
	})
	for _, f := range failed {
		b = fmt.Appendf(b, "failed %s %04x\n", hex.EncodeToString(f.Name[:]), f.Reason)
	}
	return b
}
