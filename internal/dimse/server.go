package dimse

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	defaultMost = 128
	waiting     = 64                     // connections beyond twice the most, that ask or are rejected
	quietTime   = 500 * time.Millisecond // of an association that a drain ends
	drainLook   = 50 * time.Millisecond
)

// Server accepts associations.
type Server struct {
	Admit    func(ctx context.Context, p Proposal) (Terms, error) // error: *Rejection
	Most     int                                                  // associations at once; 0: 128. Above it they are rejected: local limit exceeded
	TLS      *tls.Config                                          // nil: none
	Timeouts Timeouts
	Log      func(peer netip.AddrPort, err error) // what went wrong before an association was there; may be nil
}

// Serve accepts connections until ctx ends. Then it takes no more, rejects those that come, lets operations that are under way
// come to their end within grace, aborts the rest, and returns when all have ended. It leaves no goroutine behind. It closes the
// listener. An association on which nothing happens for half a second while the server drains is aborted before grace has passed.
// The error is why the listener failed, if it did.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	h := &house{server: s, base: base, most: s.Most, conns: map[net.Conn]*Association{}}
	if h.most <= 0 {
		h.most = defaultMost
	}
	failed := make(chan error, 1)
	go func() { failed <- h.accept(l) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	h.drain(grace)
	_ = l.Close()
	if err == nil {
		<-failed
	}
	cancel()
	h.clear()
	h.under.Wait()
	return err
}

// house is a server that runs.
type house struct {
	server *Server
	base   context.Context
	most   int
	under  sync.WaitGroup

	mu       sync.Mutex
	draining bool
	closed   bool                      // nothing is taken in any more
	admitted int                       // associations
	conns    map[net.Conn]*Association // all that are open; nil while there is no association
}

// accept takes connections until the listener is closed. It waits a little after an error that may pass, such as too many open files.
func (h *house) accept(l net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			h.under.Go(func() { h.meet(conn) })
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return gantry.Errorf(gantry.Unavailable, CodeConnectionLost, "accept connection: the listener is closed")
		}
		if h.server.Log != nil {
			h.server.Log(netip.AddrPort{}, gantry.Errorf(gantry.Unavailable, CodeConnectionLost, "accept connection: %w", err))
		}
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

// enter counts a connection; false if there are too many.
func (h *house) enter(conn net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.conns) >= 2*h.most+waiting {
		return false
	}
	h.conns[conn] = nil
	return true
}

// admit counts an association; false if it would be one too many.
func (h *house) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining || h.admitted >= h.most {
		return false
	}
	h.admitted++
	return true
}

// leave gives back what admit counted.
func (h *house) leave() {
	h.mu.Lock()
	h.admitted--
	h.mu.Unlock()
}

// meet sees a connection from its beginning to its end.
func (h *house) meet(raw net.Conn) {
	defer raw.Close()
	if !h.enter(raw) {
		h.log(raw, gantry.Errorf(gantry.Unavailable, CodeLocalLimit, "accept connection: too many are open"))
		return
	}
	defer func() {
		h.mu.Lock()
		delete(h.conns, raw)
		h.mu.Unlock()
	}()
	conn, times := raw, h.server.Timeouts.orDefault()
	if h.server.TLS != nil {
		secure := tls.Server(raw, h.server.TLS)
		if err := shakeHands(h.base, secure, times.Associate); err != nil {
			h.log(raw, err)
			return
		}
		conn = secure
	}
	a := newAssociation(h.base, conn, false, times)
	begun, err := h.greet(a, raw)
	if begun {
		defer h.leave()
	}
	if err != nil {
		h.log(raw, err)
		a.cancel(err)
		a.drain()
		a.link.hangUp(true)
		return
	}
	a.read()
}

// shakeHands begins TLS.
func shakeHands(ctx context.Context, conn *tls.Conn, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return gantry.Errorf(gantry.Denied, CodeTLS, "begin TLS: the handshake did not succeed")
	}
	return nil
}

func (h *house) log(conn net.Conn, err error) {
	if h.server.Log != nil {
		h.server.Log(address(conn), err)
	}
}

// greet reads an association request and answers it; it says whether the association counts as admitted. After an error nothing is
// left but to wait for the connection's end.
func (h *house) greet(a *Association, raw net.Conn) (admitted bool, err error) {
	a.link.fire(evtIncoming)
	a.link.mu.Lock()
	a.link.cut = time.Now().Add(a.link.times.Associate)
	a.link.mu.Unlock()
	m, err := a.asked()
	if err != nil {
		return false, err
	}
	a.link.machine.refuse = m.version&1 == 0
	a.link.fire(evtRQ)
	if a.link.machine.refuse {
		return false, a.turnDown(rejectVersion())
	}
	if m.application != applicationContext {
		return false, a.turnDown(rejectApplication())
	}
	if !h.admit() {
		return false, a.turnDown(rejectLimit())
	}
	p := proposal(a.peer, m)
	terms, no := h.judge(a.ctx, p)
	if no != nil {
		return true, a.turnDown(no)
	}
	ac, accepted, window := answerTo(m, p, terms)
	pdu, err := ac.encode()
	if err != nil {
		terms.Handler.Ended(err)
		return true, a.turnDown(rejectNoReason())
	}
	a.peer = p.Peer
	a.peer.Window = window
	a.Handle(terms.Handler)
	if h, ok := terms.Handler.(Attending); ok {
		h.Attend(a)
	}
	a.establish(accepted, limitOf(terms.MaxPDU), window)
	h.mu.Lock()
	h.conns[raw] = a
	h.mu.Unlock()
	a.link.out.Lock()
	defer a.link.out.Unlock()
	if a.link.fire(evtAccept) != ae7 {
		return true, nil // aborted by a drain; the reader finds out
	}
	if err := a.link.write(pdu); err != nil {
		a.link.fail(err)
	}
	return true, nil
}

// asked reads an A-ASSOCIATE-RQ (Sta2).
func (a *Association) asked() (*associate, error) {
	h, err := readHeader(a.in, a.scratch[:])
	if err != nil {
		return nil, a.unasked(err)
	}
	a.rest = h.length
	f := h.check(noLimit)
	if f == nil && h.kind != pduAssociateRQ {
		f = faultf(reasonUnexpected, CodeUnexpectedPDU, "accept association: another PDU than a request for one")
	}
	if f != nil {
		e := h.event()
		if h.check(noLimit) != nil {
			e = evtInvalid
		}
		if a.link.fire(e) == aa1 {
			a.link.breakOff(f.err, abortUser, reasonNone, a.link.times.Release)
		}
		return nil, f.err
	}
	body, err := readBody(a.in, h.length)
	a.rest -= uint32(len(body))
	if err != nil {
		return nil, a.unasked(err)
	}
	m, f := decodeAssociate(pduAssociateRQ, body)
	if f != nil {
		a.link.fire(evtInvalid)
		a.link.breakOff(f.err, abortUser, reasonNone, a.link.times.Release)
		return nil, f.err
	}
	return m, nil
}

// unasked is the error of a connection on which no whole request came.
func (a *Association) unasked(err error) error {
	if timeout(err) {
		a.link.fire(evtExpired)
		return gantry.Errorf(gantry.Timeout, CodeArtim, "accept association: none was asked for in time")
	}
	a.link.fire(evtClosed)
	return gantry.Errorf(gantry.Transient, CodeConnectionClosed, "accept association: the connection ended before one was asked for")
}

// judge says on which terms a request is accepted, or how it is rejected.
func (h *house) judge(ctx context.Context, p Proposal) (Terms, *Rejection) {
	terms, err := h.server.Admit(ctx, p)
	if r, ok := errors.AsType[*Rejection](err); ok {
		return Terms{}, r
	}
	if err != nil {
		r := rejectNoReason()
		r.Transient = gantry.KindOf(err).Retryable()
		return Terms{}, r
	}
	return terms, nil
}

// turnDown sends a rejection.
func (a *Association) turnDown(r *Rejection) error {
	a.link.fire(evtReject) // of the user's; in Sta13, after the provider's, it changes nothing
	a.link.mu.Lock()
	a.link.shorten(a.link.times.Release)
	a.link.mu.Unlock()
	a.link.out.Lock()
	defer a.link.out.Unlock()
	if err := a.link.write(encodeReject(r)); err != nil {
		return err
	}
	return r
}

// drain lets what is under way end within grace and aborts the rest.
func (h *house) drain(grace time.Duration) {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	end := time.Now().Add(grace)
	for {
		late := !time.Now().Before(end)
		left := h.established()
		for _, a := range left {
			if late || a.quiet(quietTime) {
				h.under.Go(a.Abort)
			}
		}
		if late || len(left) == 0 {
			return
		}
		time.Sleep(min(drainLook, time.Until(end)))
	}
}

// established are the associations that are open.
func (h *house) established() []*Association {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Association
	for _, a := range h.conns {
		if a != nil {
			all = append(all, a)
		}
	}
	return all
}

// clear takes nothing in any more, closes connections that no association came of, and aborts what is left.
func (h *house) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for conn, a := range h.conns {
		if a == nil {
			_ = conn.Close()
			continue
		}
		h.under.Go(a.Abort)
	}
}
