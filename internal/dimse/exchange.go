package dimse

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// defaultResponse is how long a response is waited for if Timeouts do not say.
const defaultResponse = 5 * time.Minute

// carrier is what operations need of the association that they run on.
type carrier interface {
	send(ctx context.Context, m message) error
	run(do func(ctx context.Context)) error
	Abort()
	Contexts() []Accepted
	Find(abstract, transfer string) (Accepted, bool)
}

// operations are those of one association: those that were asked of the peer and wait for it, and those that the peer asks for.
type operations struct {
	carrier  carrier
	response time.Duration
	contexts []Accepted
	invoking chan struct{} // holds one for each operation that the peer has not answered
	over     chan struct{} // closed at the end

	mu       sync.Mutex
	handler  Handler
	last     uint16 // message ID
	waiting  map[uint16]*call
	works    map[uint16]context.CancelFunc // by the peer's message ID
	done     bool
	err      error // why the association ended
	panicked bool
}

// open makes ready for operations on c, of which the peer is asked for at most window at once.
func (o *operations) open(c carrier, window int, response time.Duration) {
	o.carrier, o.response, o.contexts = c, cmp.Or(response, defaultResponse), c.Contexts()
	o.invoking, o.over = make(chan struct{}, max(window, 1)), make(chan struct{})
	o.waiting, o.works = map[uint16]*call{}, map[uint16]context.CancelFunc{}
}

func (o *operations) handle(h Handler) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler = h
}

// wake has all who wait give up, once nothing comes any more, with why the association ended; nil is a release.
func (o *operations) wake(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.done {
		o.done, o.err = true, err
		close(o.over)
	}
}

// end wakes all who wait, and tells the handler. It is called once, when nothing comes and no handler runs any more, with why the
// association ended; nil is a release.
func (o *operations) end(err error) {
	o.wake(err)
	if o.handler == nil {
		return
	}
	if o.panicked {
		err = errors.Join(gantry.Errorf(gantry.Permanent, CodePanic, "answer an operation: the handler panicked"), err)
	}
	defer func() { _ = recover() }() // the association has ended already, and nobody is left to be told
	o.handler.Ended(err)
}

// why is the error of those who wait when the association ends.
func (o *operations) why() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return gantry.Errorf(gantry.Transient, CodeEarlyEnd, "wait for a response: the association was released")
	}
	return classified(o.err)
}

// classified is err as an error of ours.
func classified(err error) error {
	if _, ok := errors.AsType[*gantry.Error](err); ok {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &gantry.Error{Kind: gantry.Timeout, Err: err}
	}
	return &gantry.Error{Kind: gantry.Transient, Err: err}
}

// call is an operation that the peer was asked for.
type call struct {
	id        uint16
	operation uint16
	answers   chan answer   // room for one
	gone      chan struct{} // closed when nobody waits any more
}

// answer is a response, or what was wrong with its data set.
type answer struct {
	command *command
	data    Dataset
	err     error
}

// begin waits until the window has room, and gives the operation a message ID.
func (o *operations) begin(ctx context.Context, operation uint16) (*call, error) {
	select {
	case o.invoking <- struct{}{}:
	case <-o.over:
		return nil, o.why()
	case <-ctx.Done():
		return nil, cause(ctx)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.last++; o.last == 0 || o.waiting[o.last] != nil; o.last++ {
	}
	c := &call{id: o.last, operation: operation, answers: make(chan answer, 1), gone: make(chan struct{})}
	o.waiting[c.id] = c
	return c, nil
}

// drop forgets an operation that was not sent whole.
func (o *operations) drop(c *call) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.waiting[c.id] == c {
		delete(o.waiting, c.id)
		<-o.invoking
	}
}

// ask sends a request. If that fails, what the peer has answered already says more than the error.
func (o *operations) ask(ctx context.Context, to Accepted, c *call, request *command, data io.Reader) error {
	request.id, request.data = c.id, data != nil
	err := o.carrier.send(ctx, message{context: to.ID, command: request.encode(), data: data})
	if err == nil || len(c.answers) > 0 {
		return nil
	}
	o.drop(c)
	if ctx.Err() != nil {
		return cause(ctx)
	}
	return classified(err)
}

// await waits for a response. Who gives up leaves its place in the window to the response, which may come yet.
func (o *operations) await(ctx context.Context, c *call) (answer, error) {
	timer := time.NewTimer(o.response)
	defer timer.Stop()
	select {
	case a := <-c.answers:
		return a, a.err
	case <-ctx.Done():
		close(c.gone)
		return answer{}, cause(ctx)
	case <-timer.C:
		o.carrier.Abort()
		return answer{}, gantry.Errorf(gantry.Timeout, CodeNoResponse, "wait for a response: none within %s", o.response)
	case <-o.over:
	}
	select {
	case a := <-c.answers: // it came before the end
		return a, a.err
	default:
		return answer{}, o.why()
	}
}

func cause(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return classified(ctx.Err())
	}
	return context.Cause(ctx)
}

// dispatch takes a message that came in. It returns when the message's data set was read as far as it is wanted. An error means that
// the association cannot go on. One is called at a time.
func (o *operations) dispatch(ctx context.Context, m message) error {
	c, err := decodeCommand(m.command)
	switch {
	case err != nil:
		return err
	case c.response():
		return o.answered(ctx, c, m)
	case c.field == fieldCancel:
		o.cancelled(c.respondedTo)
		return nil
	}
	return o.perform(c, m)
}

// answered hands a response to who waits for it.
func (o *operations) answered(ctx context.Context, c *command, m message) error {
	final := c.status.Class() != Pending
	o.mu.Lock()
	to := o.waiting[c.respondedTo]
	if to == nil || to.operation != c.operation() || !final && to.operation != fieldFind {
		o.mu.Unlock()
		return gantry.Errorf(gantry.BadResponse, CodeUnexpected, "take a response: it answers no operation under way")
	}
	if final {
		delete(o.waiting, to.id)
		<-o.invoking
	}
	o.mu.Unlock()
	a := answer{command: c}
	if !final {
		var err error
		if a, err = o.match(c, m); err != nil {
			return err
		}
	}
	select {
	case to.answers <- a:
	case <-to.gone:
	case <-ctx.Done():
	}
	return nil
}

// match reads what was found. An identifier that makes no sense is told to who asked; an error is one of the association.
func (o *operations) match(c *command, m message) (answer, error) {
	a := answer{command: c}
	if m.data == nil {
		return a, nil
	}
	b, err := io.ReadAll(io.LimitReader(m.data, maxDataset+1))
	if err != nil {
		return a, err
	}
	to, _ := o.context(m.context)
	a.data, a.err = decodeDataset(b, to.Transfer)
	return a, nil
}

// context finds an accepted context by its ID.
func (o *operations) context(id byte) (Accepted, bool) {
	for _, a := range o.contexts {
		if a.ID == id {
			return a, true
		}
	}
	return Accepted{}, false
}
