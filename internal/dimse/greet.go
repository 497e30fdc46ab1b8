package dimse

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// greet reads an association request and answers it; it says whether the association counts as admitted. After an error nothing is
// left but to wait for the connection's end.
func (h *house) greet(a *Association, raw net.Conn) (admitted bool, err error) {
	a.link.fire(evtIncoming)
	a.link.mu.Lock()
	a.link.cut = time.Now().Add(a.link.times.Associate)
	a.link.mu.Unlock()
	m, err := a.asked(h.large)
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
	terms, no := h.judge(a.ctx, p, a.link.times.Associate)
	if no != nil {
		h.leave()
		return false, a.turnDown(no)
	}
	ac, accepted, window := answerTo(m, p, terms)
	pdu, err := ac.encode()
	if err != nil {
		h.leave()
		terms.Handler.Ended(err)
		return false, a.turnDown(rejectNoReason())
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

// asked reads an A-ASSOCIATE-RQ (Sta2). It waits for a token of large before it reads a large one.
func (a *Association) asked(large chan struct{}) (*associate, error) {
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
	body, err := a.requestBody(h.length, large)
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

// requestBody reads what follows a request's header.
func (a *Association) requestBody(n uint32, large chan struct{}) ([]byte, error) {
	if n > usual {
		late := time.NewTimer(a.link.times.Associate)
		defer late.Stop()
		select {
		case large <- struct{}{}:
			defer func() { <-large }()
		case <-late.C:
			return nil, os.ErrDeadlineExceeded
		}
	}
	body, err := readBody(a.in, n)
	a.rest -= uint32(len(body))
	return body, err
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

// judge says on which terms a request is accepted, or how it is rejected. The peer waits for it no longer than for any answer.
func (h *house) judge(ctx context.Context, p Proposal, wait time.Duration) (Terms, *Rejection) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
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
