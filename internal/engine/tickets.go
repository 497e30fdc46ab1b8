package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"time"
	"unicode/utf8"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of submissions that came to nothing.
const (
	CodeNoAnswer    gantry.Code = "no_answer"    // Timeout: the deadline of a submission passed
	CodeNoHeartbeat gantry.Code = "no_heartbeat" // Timeout: no sign of life came in time
	CodeBadTicket   gantry.Code = "bad_ticket"   // BadResponse: no text of at most 1 KiB
)

const (
	maxTicket   = 1 << 10                // bytes
	maxAsking   = 16                     // polls and answers of one processor of one task side by side
	unitWait    = 500 * time.Millisecond // how long a step waits for a unit before the task is parked
	unitRetry   = 5 * time.Second        // about how long it is parked then, if nothing else ends the wait
	overdue     = time.Second            // after its time a submission is given up: an answer that came in time is on record by then
	abandonTime = 5 * time.Second        // at most, to tell a service that nobody waits
	pollTime    = time.Minute            // at most, for the answer to a poll
	stepMin     = 10 * time.Millisecond
	stepMax     = 5 * time.Second
	noDeadline  = 24 * time.Hour // of a service that declares none
)

// Tickets is what an engine needs besides where services answer later.
type Tickets interface {
	// Answers gives how many answers came to a task as callbacks, and those to a stage's processor to take in.
	Answers(ctx context.Context, task gantry.TaskID, leg, stage, processor int16) (gantry.Heard, error)
	// Address gives the token that a submission may be answered under and the address to send that to.
	Address(gantry.Submission) (token, address string)
	// Control gives a ctx whose requests are control traffic.
	Control(ctx context.Context, key gantry.ControlKey) context.Context
	// Came counts what is read of a callback's body as the answer of the running call.
	Came(ctx context.Context, r body) body
}

// Deferred is how a call's answer comes later.
type Deferred struct {
	gantry.Deferral
	Service   gantry.Deferring
	Index     int16 // of the processor in the pipeline
	Callbacks bool  // answers come as callbacks too
}

// clock says when a part is to be looked at again.
type clock struct {
	due   time.Time // to be tried again, or asked for; zero: no such time
	until time.Time // of one that is out: until no answer is awaited
	exact bool      // due is when an inbox says that the answer is complete
}

// clocks are times by this process's own clock, taken from what the database said was left of them.
type clocks map[gantry.PartKey]clock

func (c *clocks) set(p gantry.Part) {
	if p.Status > gantry.PartOut || p.Status == gantry.PartPlanned && p.DueIn < 0 {
		delete(*c, p.PartKey)
		return
	}
	if *c == nil {
		*c = clocks{}
	}
	var x clock
	now := time.Now()
	if p.DueIn >= 0 {
		x.due = now.Add(time.Duration(p.DueIn) * time.Microsecond)
	}
	if p.Status == gantry.PartOut {
		x.until = now.Add(time.Duration(p.Out.For) * time.Microsecond)
	}
	(*c)[p.PartKey] = x
}

func (w *work) clock(k gantry.PartKey) clock {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clocks[k]
}

// haste has parts that are out asked for earlier: an inbox knows when their answer is complete.
func (d *deferred) haste(list []gantry.DueAnswer) {
	for _, x := range list {
		k := gantry.PartKey{Leg: d.w.task.Leg, Stage: d.w.task.Stage, Processor: d.at, Ordinal: x.Ordinal, Generation: x.Generation}
		if u, ok := d.part(k); ok && u.Status == gantry.PartOut {
			d.w.dueBy(k, time.Now().Add(time.Duration(x.In)*time.Microsecond))
		}
	}
}

// dueBy has a part asked for at a time, unless it is to be asked for well before.
func (w *work) dueBy(k gantry.PartKey, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, ok := w.clocks[k]; ok && (c.due.IsZero() || at.Before(c.due.Add(stepMax))) {
		c.due, c.exact = at, true
		w.clocks[k] = c
	}
}

// waitOf is how long a part that has not ended needs nothing.
func (w *work) waitOf(p gantry.Part) time.Duration {
	d := w.plan.Calls[p.Stage][p.Processor].Deferred
	if d == nil {
		return max(0, time.Duration(p.DueIn)*time.Microsecond)
	}
	c := w.clock(p.PartKey)
	switch {
	case p.Status == gantry.PartPlanned && p.DueIn <= 0: // there was no unit
		return time.Duration((0.5 + w.e.Rand()) * float64(unitRetry))
	case p.Status == gantry.PartPlanned:
		return max(0, time.Until(c.due))
	}
	wait := time.Until(c.until) + overdue
	step := d.step()
	if c.exact {
		step = stepMin
	}
	if !c.due.IsZero() {
		wait = min(wait, time.Until(c.due)+step)
	}
	return max(0, wait)
}

// step is how late a poll may be, so that many tickets of a task are asked for together.
func (d *Deferred) step() time.Duration { return min(stepMax, max(stepMin, d.Poll/10)) }

// goOut is a part that was given a ticket.
func (w *work) goOut(p gantry.Part, call Call, t gantry.Ticket) gantry.Part {
	d := call.Deferred
	p.Status, p.Reason = gantry.PartOut, ""
	left := cmp.Or(d.Deadline, noDeadline)
	p.Out = gantry.Outstanding{Ticket: t.ID, Limiter: call.Limiter, Left: left.Microseconds(), For: left.Microseconds()}
	if d.Callbacks {
		token, _ := w.e.Tickets.Address(gantry.Submission{Task: w.task.Task, PartKey: p.PartKey, Try: p.Submits})
		p.Out.Token = sha256.Sum256([]byte(token))
	}
	return d.asked(p, t.After)
}

// asked is a part that is out and whose service is at work: it is asked again after a while.
func (d *Deferred) asked(p gantry.Part, after time.Duration) gantry.Part {
	p.DueIn = -1
	if d.Poll > 0 && p.Out.Ticket != gantry.TicketUncalled {
		p.DueIn = max(cmp.Or(after, d.Poll), time.Millisecond).Microseconds()
	}
	if d.Heartbeat > 0 {
		p.Out.For = d.Heartbeat.Microseconds()
	}
	return p
}

// checkTicket refuses what cannot be kept.
func checkTicket(t gantry.Ticket, err error) (gantry.Ticket, error) {
	if err != nil {
		return gantry.Ticket{}, err
	}
	ok := len(t.ID) <= maxTicket && utf8.ValidString(t.ID)
	for _, c := range []byte(t.ID) {
		ok = ok && c != 0
	}
	if !ok {
		return gantry.Ticket{}, gantry.Errorf(gantry.BadResponse, CodeBadTicket, "read ticket: it is no text of at most %d bytes", maxTicket)
	}
	return t, nil
}

// stillOut keeps the ticket of an answer that could not be fetched, if it may be there at the next try: after is what
// the part is by the rules for tries. A job that is at work again is asked for as before, and that is no try.
func (w *work) stillOut(before, after gantry.Part, call Call, err error) gantry.Part {
	if gantry.CodeOf(err) == gantry.CodeNotReady {
		return call.Deferred.asked(before, gantry.RetryAfterOf(err))
	}
	if after.Status == gantry.PartPlanned && !over(err) && gantry.KindOf(err) != gantry.BadResponse {
		after.Status, after.Out = gantry.PartOut, before.Out
		after.Out.For = max(0, time.Until(w.clock(before.PartKey).until)).Microseconds()
	}
	return after
}
