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

// link is what operations need of the association that they run on.
type link interface {
	send(ctx context.Context, m message) error
	Abort()
	Contexts() []Accepted
	Find(abstract, transfer string) (Accepted, bool)
}

// exchange is the operations of one association: those that were asked of the peer and wait for it, and those that the peer asks for.
type exchange struct {
	link       link
	response   time.Duration
	invoking   chan struct{} // holds one for each operation that the peer has not answered
	performing chan struct{} // holds one for each operation that the handler works on
	running    sync.WaitGroup
	over       chan struct{} // closed at the end

	mu       sync.Mutex
	handler  Handler
	last     uint16 // message ID
	waiting  map[uint16]*call
	works    map[uint16]context.CancelFunc // by the peer's message ID
	ended    bool
	err      error // why it ended
	panicked bool
}

// newExchange makes the operations of an association on which at most invoke operations are asked of the peer at once, and perform
// of us; h may be nil.
func newExchange(l link, invoke, perform int, t Timeouts, h Handler) *exchange {
	return &exchange{
		link: l, response: cmp.Or(t.Response, defaultResponse), handler: h,
		invoking: make(chan struct{}, max(invoke, 1)), performing: make(chan struct{}, max(perform, 1)), over: make(chan struct{}),
		waiting: map[uint16]*call{}, works: map[uint16]context.CancelFunc{},
	}
}

func (x *exchange) handle(h Handler) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.handler = h
}

// end wakes all who wait, lets the handler come to its end, and tells it. It is called once, after the last dispatch, with why the
// association ended; nil is a release.
func (x *exchange) end(err error) {
	x.mu.Lock()
	x.ended, x.err = true, err
	for _, cancel := range x.works {
		cancel()
	}
	close(x.over)
	x.mu.Unlock()
	x.running.Wait()
	if x.handler == nil {
		return
	}
	if x.panicked {
		err = errors.Join(gantry.Errorf(gantry.Permanent, CodePanic, "answer an operation: the handler panicked"), err)
	}
	defer func() { _ = recover() }() // the association has ended already, and nobody is left to be told
	x.handler.Ended(err)
}

// why is the error of those who wait when the association ends.
func (x *exchange) why() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err == nil {
		return gantry.Errorf(gantry.Transient, CodeEarlyEnd, "wait for a response: the association was released")
	}
	return classified(x.err)
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
func (x *exchange) begin(ctx context.Context, operation uint16) (*call, error) {
	select {
	case x.invoking <- struct{}{}:
	case <-x.over:
		return nil, x.why()
	case <-ctx.Done():
		return nil, cause(ctx)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.last++; x.last == 0 || x.waiting[x.last] != nil; x.last++ {
	}
	c := &call{id: x.last, operation: operation, answers: make(chan answer, 1), gone: make(chan struct{})}
	x.waiting[c.id] = c
	return c, nil
}

// drop forgets an operation that was not sent whole.
func (x *exchange) drop(c *call) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waiting[c.id] == c {
		delete(x.waiting, c.id)
		<-x.invoking
	}
}

// ask sends a request. If that fails, what the peer has answered already says more than the error.
func (x *exchange) ask(ctx context.Context, to Accepted, c *call, request *command, data io.Reader) error {
	request.id, request.data = c.id, data != nil
	err := x.link.send(ctx, message{context: to.ID, command: request.encode(), data: data})
	if err == nil || len(c.answers) > 0 {
		return nil
	}
	x.drop(c)
	if ctx.Err() != nil {
		return cause(ctx)
	}
	return classified(err)
}

// await waits for a response. Who gives up leaves its place in the window to the response, which may come yet.
func (x *exchange) await(ctx context.Context, c *call) (answer, error) {
	timer := time.NewTimer(x.response)
	defer timer.Stop()
	select {
	case a := <-c.answers:
		return a, a.err
	case <-ctx.Done():
		close(c.gone)
		return answer{}, cause(ctx)
	case <-timer.C:
		x.link.Abort()
		return answer{}, gantry.Errorf(gantry.Timeout, CodeNoResponse, "wait for a response: none within %s", x.response)
	case <-x.over:
	}
	select {
	case a := <-c.answers: // it came before the end
		return a, a.err
	default:
		return answer{}, x.why()
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
func (x *exchange) dispatch(ctx context.Context, m message) error {
	c, err := decodeCommand(m.command)
	switch {
	case err != nil:
		return err
	case c.response():
		return x.answered(ctx, c, m)
	case c.field == fieldCancel:
		x.cancelled(c.respondedTo)
		return nil
	}
	return x.perform(ctx, c, m)
}

// answered hands a response to who waits for it.
func (x *exchange) answered(ctx context.Context, c *command, m message) error {
	final := c.status.Class() != Pending
	x.mu.Lock()
	to := x.waiting[c.respondedTo]
	if to == nil || to.operation != c.operation() || !final && to.operation != fieldFind {
		x.mu.Unlock()
		return gantry.Errorf(gantry.BadResponse, CodeUnexpected, "take a response: it answers no operation under way")
	}
	if final {
		delete(x.waiting, to.id)
		<-x.invoking
	}
	x.mu.Unlock()
	a := answer{command: c}
	if !final {
		var err error
		if a, err = x.match(c, m); err != nil {
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
func (x *exchange) match(c *command, m message) (answer, error) {
	a := answer{command: c}
	if m.data == nil {
		return a, nil
	}
	b, err := io.ReadAll(io.LimitReader(m.data, maxDataset+1))
	if err != nil {
		return a, err
	}
	to, _ := x.context(m.context)
	a.data, a.err = decodeDataset(b, to.Transfer)
	return a, nil
}

// context finds an accepted context by its ID.
func (x *exchange) context(id byte) (Accepted, bool) {
	for _, a := range x.link.Contexts() {
		if a.ID == id {
			return a, true
		}
	}
	return Accepted{}, false
}
