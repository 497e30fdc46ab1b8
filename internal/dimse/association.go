package dimse

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Association is an association that is open. Its methods may be called concurrently; operations beyond the agreed window
// wait.
type Association struct {
	link link
	ops  operations

	peer     Peer
	accepted []Accepted // in the order of their IDs
	limit    uint32     // bytes of a P-DATA-TF that we take
	chunk    int        // bytes of a P-DATA-TF that we send

	// The reader's: whoever reads a message's data set is the reader until that has ended.
	in       *bufio.Reader
	rest     uint32 // bytes of the current PDU that have not been read
	fragment fragment
	scratch  [16]byte

	sending chan struct{} // holds a token while a message is sent
	pack    packer        // guarded by sending

	slots  chan struct{} // holds a token for each operation of the peer that is under way
	under  sync.WaitGroup
	within atomic.Bool  // a message has begun to come
	last   atomic.Int64 // when a message or an operation of the peer ended, in ns since 1970

	ctx    context.Context
	cancel context.CancelCauseFunc
	err    error // why it ended; may be read once done is closed
	done   chan struct{}
}

// newAssociation is an association on a connection; nothing has been said on it.
func newAssociation(ctx context.Context, conn net.Conn, requestor bool, times Timeouts) *Association {
	a := &Association{done: make(chan struct{}), sending: make(chan struct{}, 1)}
	a.link = link{conn: conn, times: times.orDefault(), machine: machine{state: sta1, requestor: requestor}}
	a.in = bufio.NewReaderSize(&a.link, readBuffer)
	a.ctx, a.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	a.peer.Address, a.peer.TLS = address(conn), tlsState(conn)
	return a
}

func address(conn net.Conn) netip.AddrPort {
	if t, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

func tlsState(conn net.Conn) *tls.ConnectionState {
	if t, ok := conn.(*tls.Conn); ok {
		s := t.ConnectionState()
		return &s
	}
	return nil
}

// establish makes the association what the answer agreed on. The next thing is to read messages.
func (a *Association) establish(accepted []Accepted, limit uint32, window int) {
	a.accepted, a.limit = accepted, limit
	a.chunk = maxWrite
	if a.peer.MaxPDU != 0 {
		a.chunk = int(min(a.peer.MaxPDU, maxWrite))
	}
	a.slots = make(chan struct{}, window)
	a.last.Store(time.Now().UnixNano())
	a.link.mu.Lock()
	a.link.cut = time.Time{}
	a.link.mu.Unlock()
	a.opened()
}

// Peer says who is at the other end.
func (a *Association) Peer() Peer { return a.peer }

// Contexts are those that were accepted, in the order of their IDs.
func (a *Association) Contexts() []Accepted { return append([]Accepted(nil), a.accepted...) }

// Find gives an accepted context of an abstract syntax with this transfer syntax, or with any if transfer is empty; false if there is none.
func (a *Association) Find(abstract, transfer string) (Accepted, bool) {
	for _, c := range a.accepted {
		if c.Abstract == abstract && (transfer == "" || c.Transfer == transfer) {
			return c, true
		}
	}
	return Accepted{}, false
}

// has says whether a context was accepted.
func (a *Association) has(id byte) bool {
	for _, c := range a.accepted {
		if c.ID == id {
			return true
		}
	}
	return false
}

// Release ends the association in order and closes the connection (PS3.8 section 7.2). A message that is being sent goes first;
// operations that wait for their responses are the caller's affair. If the peer does not answer in time, or ctx ends, the
// association is aborted. The error is why the association ended; nil after a release, whoever asked for it.
func (a *Association) Release(ctx context.Context) error {
	select {
	case a.sending <- struct{}{}:
		if _, err := a.link.say(evtRelease, control(pduReleaseRQ, 0, 0, 0)); err != nil {
			a.link.fail(err)
		}
		<-a.sending
	case <-ctx.Done():
		a.Abort()
	case <-a.done:
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		a.Abort()
		<-a.done
	}
	return a.err
}

// Abort ends it at once: the peer is told, reads and operations fail. It is safe after Release and may be called again. Done is
// closed when the peer has closed the connection or a second has passed, and what its operations run here has returned.
func (a *Association) Abort() {
	cause := gantry.Errorf(gantry.Transient, CodeAborted, "association aborted by us")
	a.link.abort(evtAbort, cause, abortUser, reasonNone, min(linger, a.link.times.Release))
	a.cancel(cause)
}

// Done is closed when the association has ended, however that was.
func (a *Association) Done() <-chan struct{} { return a.done }

// run calls do in a goroutine of its own: an operation that the peer invoked is under way until it returns. It waits while as many as the
// window allows are under way, and does not call do but gives an error if the association ends meanwhile. A release by the peer is answered,
// and a server's drain waits, until none is under way. do's ctx ends with the association. Only dispatch calls it.
func (a *Association) run(do func(ctx context.Context)) error {
	select {
	case a.slots <- struct{}{}:
	case <-a.ctx.Done():
		return context.Cause(a.ctx)
	}
	a.under.Go(func() {
		defer func() {
			a.last.Store(time.Now().UnixNano())
			<-a.slots
		}()
		do(a.ctx)
	})
	return nil
}

// settle waits until no operation of the peer is under way; none begins any more, for it is the reader that calls it.
func (a *Association) settle() {
	late := time.NewTimer(a.link.times.Data)
	defer late.Stop()
	for range cap(a.slots) {
		select {
		case a.slots <- struct{}{}:
		case <-a.ctx.Done():
			return
		case <-late.C:
			return
		}
	}
}

// quiet says whether nothing is under way, and has not been for d.
func (a *Association) quiet(d time.Duration) bool {
	return !a.within.Load() && len(a.slots) == 0 && a.since() > d
}

// finish ends the association when nothing can come any more.
func (a *Association) finish() {
	a.link.mu.Lock()
	a.err = a.link.cause
	a.link.mu.Unlock()
	cause := a.err
	if cause == nil {
		cause = gantry.Errorf(gantry.Transient, CodeEarlyEnd, "association is released")
	}
	a.cancel(cause)
	a.link.hangUp(a.err != nil)
	a.ending(a.err)
	a.under.Wait()
	a.ended(a.err)
	close(a.done)
}
