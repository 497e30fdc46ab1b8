package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/line"
)

// Store is the engine's side of the database.
type Store interface {
	Originals(ctx context.Context, task gantry.TaskID) ([]gantry.Arrival, error)
	Items(ctx context.Context, task gantry.TaskID) ([]gantry.Item, error)
	Parts(ctx context.Context, task gantry.TaskID, leg int16) ([]gantry.Part, error)
	Children(ctx context.Context, parent gantry.TaskID) ([]gantry.ChildTask, error)
	MemberItems(ctx context.Context, child gantry.TaskID) (owner gantry.TaskID, items []gantry.Item, err error)
}

// Session is the engine's side of the process that it runs in.
type Session interface {
	Commit(ctx context.Context, w *gantry.Write) error
	Stopping() <-chan struct{}
}

// Caller makes recorded calls; package gate implements it.
type Caller interface {
	Call(ctx context.Context, spec gantry.CallSpec, send func(context.Context) error, seal func(context.Context, error) (*gantry.Write, error)) error
}

// Plans finds the pipeline version of a task, with its drivers opened.
type Plans interface {
	Plan(ctx context.Context, id int32) (*Plan, error)
}

// Plan is a pipeline version that can be run.
type Plan struct {
	*gantry.Pipeline
	ID      int32
	Sources []Source
	Calls   [][]Call // by stage, then as in the stage's list
	Sinks   []Sink
	Archive func(context.Context) (gantry.Expecting, int32, error) // opens the one that is asked how many there are, and gives its limiter; nil: none is
	States  map[gantry.State]int32                                 // the limiters of states that have one
	Order   func(context.Context) (gantry.Order, error)            // which tasks go first, as it is now; nil: as they come
}

// Call is one processor as a stage uses it.
type Call struct {
	Name      string
	Limiter   int32
	Timeout   time.Duration
	Units     int // how many calls at once its target allows; 0: no limit
	Processor gantry.Processor
	Deferred  *Deferred // of a service that answers later; nil: Process is called
}

// Sink is one sink of a plan.
type Sink struct {
	Name    string
	Index   int16 // among the pipeline's sinks, for the record; -1 for one that took their place
	Limiter int32
	Sink    gantry.Sink
	Rejoin  bool // what was taken apart is delivered together again
	// Count wraps what the sink reads, for drivers whose bytes no egress counts; nil otherwise.
	Count func(ctx context.Context, r body) body
}

// Options of an engine.
type Options struct {
	Store     Store
	Session   Session
	Caller    Caller
	Blobs     gantry.Blobs
	Plans     Plans
	Tickets   Tickets // needed where a plan has a service that answers later
	Rand      func() float64
	Namespace [16]byte         // of the UIDs of results: the same in the whole deployment
	Now       func() time.Time // nil: time.Now
	// Acquire waits for a unit of a state's limit; nil if no plan has any.
	Acquire func(ctx context.Context, limiter int32, priority int16) (release func(), err error)
	// Units says how many units a limit has now, below 0 without one, if it is known; nil: as the plan says.
	Units   func(limiter int32) (units int, ok bool)
	Scratch string // a folder for caches that may be lost at any time
	Log     *slog.Logger
	// Passage finds where tasks go that are moved to a pipeline; nil where none may go elsewhere. An error says
	// why this task cannot.
	Passage func(ctx context.Context, to string, task gantry.TaskID) (gantry.Passage, error)
	// Scanned tells whether the DICOM bytes at a location passed the scanner in this process, and with which warning; nil: it knows of none.
	Scanned func(location string) (warning gantry.Code, ok bool)
	// Arrived gives, once, what a task was made from, by its public id, if this process made it a moment ago and has it in mind; nil:
	// it has nothing in mind.
	Arrived func(task string) (gantry.Arrival, bool)
	// Shared finds a source that several pipelines share, by its version; nil where there is none.
	Shared func(ctx context.Context, version int32) (Source, error)
	// Delivered gives what a sink took of one delivery of a task, by the record: the digests of the items of each call that ended well. It is
	// asked about sinks that are gantry.Lasting; nil: nothing is known, and everything is delivered.
	Delivered func(ctx context.Context, task gantry.TaskID, leg, delivery, sink int16) ([]gantry.Digest, error)
	// Confirmations is needed where a plan has a sink that confirms what was delivered.
	Confirmations Confirmations
}

// Engine runs the effects of one session. It may be used concurrently.
type Engine struct {
	Options
	cpu    *semaphore.Weighted // scans at once
	cached atomic.Int64        // blocks of originals in memory

	mu      sync.Mutex
	flight  map[int32]*line.Room     // by limiter: parts between their intent and their outcome
	shelves map[gantry.TaskID]*shelf // of children that run here, by parent
}

// New makes the engine of one session.
func New(o Options) *Engine {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Engine{Options: o, cpu: semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))), flight: map[int32]*line.Room{},
		shelves: map[gantry.TaskID]*shelf{}}
}

// effects say what is done on entering a state. Each reports the event that leads on.
var effects = map[gantry.State]func(*work, context.Context) (gantry.Event, error){
	gantry.Queued:     (*work).leaveQueue,
	gantry.Extracting: (*work).extract,
	gantry.Ingesting:  (*work).ingest,
	gantry.Inferring:  (*work).infer,
	gantry.Responding: (*work).respond,
}

// planPause is how long a task waits whose pipeline could not be read.
const planPause = time.Second

// errStop ends an effect because the process is asked to stop: nothing failed.
var errStop = errors.New("stopping")

// parked ends an effect that has nothing to do before a time.
type parked struct {
	after time.Duration
	heard int32 // as in gantry.Transition
}

func (p parked) Error() string { return fmt.Sprintf("nothing to do for %s", p.after) }

// ended ends the task for good: whatever may be tried again was, part by part.
type ended struct{ error }

// Unwrap gives the reason.
func (e ended) Unwrap() error { return e.error }

// Begin takes up a task that was claimed. The function it gives runs the effect of the task's state
// and says which transition follows, or a zero one if the lease is lost.
func (e *Engine) Begin(t gantry.Task) (step func(context.Context, gantry.Task) gantry.Transition, end func()) {
	s, leave := e.shelfOf(t)
	w := &work{e: e, task: t, shelf: s}
	return w.step, func() { leave(); w.close() }
}

func (w *work) step(ctx context.Context, t gantry.Task) gantry.Transition {
	w.enterStep(ctx, t)
	var event gantry.Event
	err := w.load(ctx)
	if err == nil && ctx.Err() == nil {
		event, err = w.effect(ctx)
	}
	if err == nil && event == "" {
		err = context.Cause(ctx)
	}
	if unread := w.certain(); unread != nil && gantry.KindOf(err) == gantry.Illegal {
		err = unread // the verdict may be on what was not read
	}
	if err == nil {
		tr := w.ordered(ctx, w.leave(event))
		tr.Found = w.found
		return tr
	}
	return w.settle(ctx, err)
}

// effect runs that of the task's state, under a unit of the state's limit if the pipeline has one.
func (w *work) effect(ctx context.Context) (gantry.Event, error) {
	if w.halting() {
		return "", errStop
	}
	leave, err := w.enterState(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	return effects[w.task.State](w, ctx)
}

// leave makes the transition of an event.
func (w *work) leave(event gantry.Event) gantry.Transition {
	t := w.task
	to, err := t.State.Next(event)
	if err != nil {
		return w.end(gantry.Abandon, gantry.Errorf(gantry.Illegal, "", "%w", err))
	}
	tr := gantry.Transition{Lease: t.Lease, From: t.State, To: to, Stage: t.Stage, Within: w.plan.Timeouts.Of(to)}
	switch {
	case event == gantry.Next:
		tr.Stage, tr.Within = t.Stage+1, 0 // the time is for all stages together
	case to.Final():
		tr.Change = gantry.End
		if event == gantry.Filter {
			tr.Code, tr.Kind, tr.Detail = gantry.CodeFiltered, gantry.Illegal, "the pipeline's when does not hold"
		}
	}
	return tr
}

// settle says what becomes of a task whose effect did not complete.
func (w *work) settle(ctx context.Context, err error) gantry.Transition {
	t := w.task
	tr := gantry.Transition{Lease: t.Lease, From: t.State, To: t.State, Stage: t.Stage}
	p, isParked := errors.AsType[parked](err)
	children, isWait := errors.AsType[waits](err)
	moved, isMoved := errors.AsType[*gantry.Moved](context.Cause(ctx))
	switch {
	case errors.Is(err, gantry.ErrFenced), errors.Is(context.Cause(ctx), gantry.ErrFenced):
		return gantry.Transition{}
	case errors.Is(context.Cause(ctx), gantry.ErrCancelled):
		return w.end(gantry.Cancel, gantry.ErrCancelled)
	case isMoved:
		return w.moveOn(moved.To, gantry.Permanent, gantry.CodeMoved, "by "+moved.By)
	case errors.Is(context.Cause(ctx), gantry.ErrPaused):
		tr.Change = gantry.Pause
		return tr
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return w.fail(ctx, gantry.Errorf(gantry.Timeout, gantry.CodeStateTimeout, "not done with %s in time", t.State))
	case errors.Is(err, errStop), ctx.Err() != nil:
		tr.Change = gantry.Release
		return tr
	case isParked:
		tr.Change, tr.After, tr.Heard = gantry.Park, p.after, p.heard
		if until, ok := ctx.Deadline(); ok {
			tr.After = max(0, min(tr.After, time.Until(until))) // then it fails
		}
		return tr
	case isWait:
		tr.Change, tr.Divide, tr.Within = gantry.Wait, children.divide, children.within
		return tr
	}
	kind := gantry.KindOf(err)
	_, final := errors.AsType[ended](err)
	if w.plan == nil && kind.Retryable() { // the database is away: nothing of the task failed, and nobody knows how often it may
		tr.Change, tr.After = gantry.Park, planPause
		return tr
	}
	if final || w.plan == nil || !w.plan.Retry.MayRetry(kind, int(t.Attempt)+1) {
		return w.fail(ctx, err)
	}
	tr.Change, tr.Kind, tr.Code, tr.Detail = gantry.Retry, kind, gantry.CodeOf(err), detail(err)
	tr.After = w.plan.Retry.Pause(int(t.Attempt)+1, w.e.Rand(), gantry.RetryAfterOf(err))
	return tr
}

// end makes the transition to a final state that is not success.
func (w *work) end(event gantry.Event, err error) gantry.Transition {
	t := w.task
	to, nerr := t.State.Next(event)
	if nerr != nil {
		to = gantry.Failed
	}
	return gantry.Transition{Lease: t.Lease, From: t.State, To: to, Stage: t.Stage, Change: gantry.End,
		Kind: gantry.KindOf(err), Code: gantry.CodeOf(err), Detail: detail(err)}
}

// detail is an error's text for the record, bounded, and fit for a text column.
func detail(err error) string {
	s := []byte(err.Error())
	if len(s) > 500 {
		s = s[:500]
	}
	for i, c := range s {
		if c < ' ' || c == 0x7f {
			s[i] = ' '
		}
	}
	return string(bytesToValid(s))
}

func (w *work) leaveQueue(context.Context) (gantry.Event, error) { return gantry.Start, nil }

// stopping tells whether the process is asked to stop.
func (e *Engine) stopping() bool {
	select {
	case <-e.Session.Stopping():
		return true
	default:
		return false
	}
}

// halting tells whether the task is to begin nothing new: the process stops, or the pipeline was paused.
func (w *work) halting() bool {
	select {
	case <-w.held:
		return true
	default:
		return w.e.stopping()
	}
}

// room bounds the parts between intent and outcome to 2.5 times the target's units: enough that the
// next is ready when a unit comes back, few enough that a crash leaves few intents behind. Less urgent parts do not
// count: what is held up by them would wait for a second call.
func (e *Engine) room(limiter int32) *line.Room {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.flight[limiter]
	if r == nil {
		r = line.NewRoom()
		e.flight[limiter] = r
	}
	return r
}

// places is how many there are in the room of a call's target, which has as many units as it has now.
func (e *Engine) places(c Call) int {
	units := c.Units
	if units == 0 {
		units = -1
	}
	if e.Units != nil {
		if n, ok := e.Units(c.Limiter); ok {
			units = n
		}
	}
	if units < 0 {
		return maxRoom
	}
	return min(maxRoom, max(2, units*5/2))
}

// maxRoom is how many parts of any target may be between their intent and their outcome.
const maxRoom = 256
