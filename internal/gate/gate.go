package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Session is what a gate needs of the process that it stands in: how to write the record, how to
// get a unit and a start of a limit, and whether the process still holds its lease.
type Session interface {
	Commit(ctx context.Context, w *gantry.Write) error
	Acquire(ctx context.Context, limiter int32, priority int16) (release func(), err error)
	// Saw is told what each call that had its unit showed of its target, before the unit goes back if the
	// target refused.
	Saw(limiter int32, x gantry.Showing)
	Hold(ctx context.Context, limiter int32, priority int16, patience time.Duration) (giveBack func(out bool), err error)
	Alive() bool
}

// Gate lets calls out. It may be used concurrently.
type Gate struct {
	// Ended, if set before the first call, is told of each call once its outcome is on record, with the
	// ctx that the call was made with. It must not block.
	Ended func(context.Context, gantry.Intent, gantry.Outcome)

	session Session
	ids     *gantry.IDs
	now     func() time.Time
}

// New makes the gate of one session.
func New(s Session, ids *gantry.IDs, now func() time.Time) *Gate {
	return &Gate{session: s, ids: ids, now: now}
}

// Call makes one call, in the order that costs least and leaves no gap in the record: the intent is
// committed; a unit and a start of the target's limit are waited for; lease, deadline and
// cancellation are looked at again; send runs; the unit goes back at the answer's last byte; seal
// makes the outputs durable and says what is to be committed along with the outcome.
//
// The error is ErrFenced if the task is lost, else send's or seal's. A call that was given up before
// its first byte has the outcome not_sent. seal may be nil. A call that keeps its unit takes it before the
// intent, and gives it back after the outcome is committed; without one it is ErrNoUnit and not recorded.
func (g *Gate) Call(ctx context.Context, spec gantry.CallSpec, send func(context.Context) error, seal func(context.Context, error) (*gantry.Write, error)) error {
	in := spec.Intent
	in.ID = g.ids.New()
	m := NewMeter(g.now)
	m.madeAt(in.ID.Time())
	if in.Boundary != gantry.AtProcessor || in.Op == gantry.OpCollect {
		m.Several() // pages and pieces; where an answer is, and then the answer
	}
	giveBack, err := g.keep(ctx, spec)
	if err != nil {
		return err
	}
	defer giveBack(false)
	kept := g.now()
	fail.Point("before_intent")
	if err := g.session.Commit(ctx, intended(&in, spec.Plan)); err != nil {
		if spec.Unit == gantry.UnitKept {
			g.session.Saw(in.Limiter, gantry.Showing{Began: kept}) // it may have been the probe of a breaker
		}
		return notRecorded(ctx, err)
	}
	fail.Point("after_intent")
	err = g.send(ctx, spec, m, send)
	m.Close()
	fail.Point("after_response")
	out := outcome(&in, m, err)
	if err == nil && spec.Holds != nil {
		if err = spec.Holds(out); err != nil {
			out = outcome(&in, m, err)
		}
	}
	w := &gantry.Write{}
	if seal != nil {
		sealed, serr := seal(ctx, err)
		if err == nil && serr != nil {
			err = serr
			out.Kind, out.Code = gantry.KindOf(serr), gantry.CodeOf(serr)
		}
		if sealed != nil {
			w = sealed
		}
	}
	w.Lease, w.Outcome, w.Marks = in.Lease, out, out.Digested(w.Marks)
	fail.Point("before_outcome")
	// The call was made: its record is written whatever became of ctx meanwhile.
	cerr := g.session.Commit(context.WithoutCancel(ctx), w)
	giveBack(goesOut(w)) // also if nobody knows whether it landed: less than there is may be used, never more
	if cerr != nil {
		return notRecorded(context.WithoutCancel(ctx), cerr)
	}
	fail.Point("after_outcome")
	if g.Ended != nil {
		g.Ended(ctx, in, *out)
	}
	return err
}

// intended is what is committed before a call.
func intended(in *gantry.Intent, plan []gantry.Part) *gantry.Write {
	if len(plan) == 0 {
		return &gantry.Write{Intent: in}
	}
	return &gantry.Write{Lease: in.Lease, Intent: in, Plan: plan}
}

func notRecorded(ctx context.Context, err error) error {
	if errors.Is(err, gantry.ErrFenced) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", gantry.ErrNotRecorded, err)
}

func (g *Gate) send(ctx context.Context, spec gantry.CallSpec, m *Meter, send func(context.Context) error) (err error) {
	outer := ctx
	release, err := g.acquire(ctx, spec)
	if err != nil {
		return err
	}
	defer release()
	began := g.now()
	defer func() {
		if spec.Intent.Op != gantry.OpCallback { // nothing was sent
			g.session.Saw(spec.Intent.Limiter, showing(outer, began, g.now(), m, err))
		}
	}()
	m.OnLastByte = func() {
		if !m.refused() {
			release() // else once the fleet knows: a call that began now would be refused too
		}
	}
	fail.Point("after_unit")
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if !g.session.Alive() {
		return gantry.ErrFenced
	}
	if spec.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, spec.Timeout, gantry.Errorf(gantry.Timeout, "", "no answer within %s", spec.Timeout))
		defer cancel()
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
	}
	m.alive = g.session.Alive
	err = send(WithMeter(ctx, m))
	if err != nil && !m.HasBegun() && !g.session.Alive() {
		return gantry.ErrFenced
	}
	// What the driver saw as a broken call may be our own deadline; what it classified stands.
	_, classified := errors.AsType[*gantry.Error](err)
	if cause := context.Cause(ctx); err != nil && !classified && cause != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return cause
	}
	return err
}

func outcome(in *gantry.Intent, m *Meter, err error) *gantry.Outcome {
	out := m.Snapshot()
	out.ID, out.Task, out.Limiter = in.ID, in.Task, in.Limiter
	if err != nil {
		out.Result, out.Kind, out.Code = gantry.ResultFailed, gantry.KindOf(err), gantry.CodeOf(err)
		if !m.HasBegun() {
			out.Result = gantry.ResultNotSent
		}
		if errors.Is(err, gantry.ErrFenced) {
			out.Code = gantry.CodeFenced
		}
	}
	return &out
}

// Local counts what a driver without a socket, such as a folder's, reads and writes.
func Local(ctx context.Context, r io.ReadCloser, request bool) io.ReadCloser {
	m := MeterFrom(ctx)
	if m == nil {
		return r
	}
	m.Began()
	counted := m.CountResponse(r)
	if request {
		counted = m.CountRequest(r)
	}
	return struct {
		io.Reader
		io.Closer
	}{counted, r}
}
