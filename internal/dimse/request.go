package dimse

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Request asks for an association on conn, which it closes if that fails; ctx bounds the asking, not what comes after. Errors: Denied
// with a code of rejection where asking again is of no use, Unavailable where the peer says that it is busy, Transient where the
// connection broke or was aborted, Timeout, BadResponse for nonsense, Illegal for params that cannot be asked for.
func Request(ctx context.Context, conn net.Conn, p Params) (*Association, error) {
	rq, err := p.request()
	var pdu []byte
	if err == nil {
		pdu, err = rq.encode()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	if t, ok := conn.(*tls.Conn); ok {
		if err := shakeHands(ctx, t, p.Timeouts.orDefault().Associate); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	a := newAssociation(ctx, conn, true, p.Timeouts)
	a.peer.Calling, a.peer.Called = p.Calling, p.Called
	a.link.fire(evtAssociate)
	a.link.mu.Lock()
	a.link.cut = time.Now().Add(a.link.times.Associate)
	a.link.mu.Unlock()
	stop := context.AfterFunc(ctx, func() {
		a.Abort()
		a.link.hangUp(true)
	})
	accepted, window, err := a.ask(rq, pdu)
	if !stop() {
		err = gantry.Errorf(gantry.Transient, CodeAborted, "request association: %w", context.Cause(ctx))
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			err = gantry.Errorf(gantry.Timeout, CodeArtim, "request association: %w", context.DeadlineExceeded)
		}
	}
	if err != nil {
		a.cancel(err)
		a.link.hangUp(true)
		return nil, err
	}
	a.peer.Window = window
	a.establish(accepted, limitOf(p.MaxPDU), 1)
	go a.read()
	return a, nil
}

// ask sends the request and reads the answer.
func (a *Association) ask(rq *associate, pdu []byte) ([]Accepted, int, error) {
	a.link.out.Lock()
	a.link.fire(evtConnected)
	err := a.link.write(pdu)
	a.link.out.Unlock()
	if err != nil {
		return nil, 0, err
	}
	h, err := readHeader(a.in, a.scratch[:])
	if err != nil {
		return nil, 0, a.unanswered(err)
	}
	e, f := h.event(), h.check(noLimit)
	if f != nil {
		e = evtInvalid
	}
	switch do := a.link.fire(e); {
	case do == aa8 && f == nil:
		return nil, 0, a.reply(faultf(reasonUnexpected, CodeUnexpectedPDU, "request association: answered by a PDU of another kind"))
	case do == aa8:
		return nil, 0, a.reply(f)
	}
	body, err := readBody(a.in, h.length)
	if err != nil {
		return nil, 0, a.unanswered(err)
	}
	switch h.kind {
	case pduAssociateRJ:
		return nil, 0, decodeReject(body).failure()
	case pduAbort:
		return nil, 0, abortedBy(body[2], body[3])
	}
	ac, f := decodeAssociate(pduAssociateAC, body)
	if f != nil {
		a.link.fire(evtInvalid)
		return nil, 0, a.reply(f)
	}
	a.peer.learn(ac)
	accepted, window, err := agreed(rq, ac)
	if err == nil {
		return accepted, window, nil
	}
	if f, ok := errors.AsType[*fault](err); ok {
		a.link.fire(evtInvalid)
		return nil, 0, a.reply(f)
	}
	a.link.abort(evtAbort, err, abortUser, reasonNone, linger)
	return nil, 0, err
}

// reply aborts for an answer that makes no sense.
func (a *Association) reply(f *fault) error {
	a.link.breakOff(f.err, abortProvider, f.reason, linger)
	return f.err
}

// unanswered is the error of a request whose answer did not come.
func (a *Association) unanswered(err error) error {
	if timeout(err) {
		cause := gantry.Errorf(gantry.Timeout, CodeArtim, "request association: no answer came")
		a.link.abort(evtAbort, cause, abortUser, reasonNone, linger)
		return cause
	}
	if alert(err) { // of TLS 1.3, where the peer sees our certificate after our handshake
		return gantry.Errorf(gantry.Denied, CodeTLS, "request association: the peer does not take our certificate")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return gantry.Errorf(gantry.Transient, CodeConnectionClosed, "request association: the peer closed the connection")
	}
	return gantry.Errorf(gantry.Transient, CodeConnectionLost, "request association: the connection broke")
}

// readBody reads n bytes that a header announced. What is held grows with what comes.
func readBody(r io.Reader, n uint32) ([]byte, error) {
	var b bytes.Buffer
	got, err := b.ReadFrom(io.LimitReader(r, int64(n)))
	if err == nil && got < int64(n) {
		err = io.ErrUnexpectedEOF
	}
	return b.Bytes(), err
}
