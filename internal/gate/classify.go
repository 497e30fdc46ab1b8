package gate

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"net/textproto"
	"sync/atomic"
	"syscall"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Codes of calls that did not go through.
const (
	CodeNoRecord          gantry.Code = "no_record"          // Illegal: no running call in ctx
	CodeSecondSend        gantry.Code = "second_send"        // Illegal: the call had its request
	CodeUndeclaredTarget  gantry.Code = "undeclared_target"  // Illegal: the request is for somebody else
	CodeForbiddenAddress  gantry.Code = "forbidden_address"  // Illegal: metadata, link-local, no host
	CodeBadRequest        gantry.Code = "bad_request"        // Illegal: a header or method that HTTP does not have
	CodeBodyLength        gantry.Code = "body_length"        // Illegal: the body is not as long as declared
	CodeTLS               gantry.Code = "tls"                // Denied: the peer is not who it should be, or too old
	CodeDNS               gantry.Code = "dns"                // Transient: the name was not resolved
	CodeConnectionRefused gantry.Code = "connection_refused" // Transient
	CodeConnectionReset   gantry.Code = "connection_reset"   // Transient
	CodeConnectionClosed  gantry.Code = "connection_closed"  // Transient: before the answer's header was whole
	CodeConnectionLost    gantry.Code = "connection_lost"    // Transient: in another way
	CodeUnreachable       gantry.Code = "unreachable"        // Transient: no route
	CodeShortBody         gantry.Code = "short_body"         // Transient: the answer's body was cut
	CodeDialTimeout       gantry.Code = "dial_timeout"       // Timeout, by phase
	CodeTLSTimeout        gantry.Code = "tls_timeout"
	CodeHeaderTimeout     gantry.Code = "header_timeout"
	CodeIdleTimeout       gantry.Code = "idle_timeout"
	CodeTimeout           gantry.Code = "timeout"          // Timeout: the call's own, while sending or reading a body
	CodeRedirect          gantry.Code = "redirect"         // BadResponse
	CodeUnsolicited       gantry.Code = "unsolicited"      // BadResponse: there before the request was
	CodeMalformedAnswer   gantry.Code = "malformed_answer" // BadResponse: not HTTP, or a header over its limit
)

// The phases of a trip, in their order. A trip never goes back.
const (
	phaseDialing   int32 = iota
	phaseSecuring        // TLS handshake
	phaseSending         // has a connection
	phaseWaiting         // the request is written
	phaseAnswering       // a byte of the answer came
	phaseReading         // its header is whole
)

// trip is one request on its way: how far it came and what went wrong first.
type trip struct {
	meter   *Meter
	to      string
	parent  context.Context
	ctx     context.Context
	cancel  context.CancelCauseFunc
	phase   atomic.Int32
	http2   atomic.Bool
	wire    atomic.Pointer[wire]
	interim atomic.Int32
	verdict atomic.Pointer[gantry.Error] // what we broke it off for
	input   atomic.Pointer[error]        // the request body's own
	over    atomic.Bool
}

func newTrip(ctx context.Context, m *Meter, to string) *trip {
	t := &trip{meter: m, to: to, parent: ctx}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	return t
}

func (t *trip) at(phase int32) {
	for was := t.phase.Load(); was < phase && !t.phase.CompareAndSwap(was, phase); was = t.phase.Load() {
	}
}

// fail breaks the trip off. The first reason stands.
func (t *trip) fail(err *gantry.Error) {
	t.verdict.CompareAndSwap(nil, err)
	t.cancel(err)
}

// inputFailed keeps the error of the request's body, unless the trip's end was its cause.
func (t *trip) inputFailed(err error) {
	if t.ctx.Err() == nil {
		t.input.CompareAndSwap(nil, &err)
	}
}

// end is the end of the request. It frees what the trip holds.
func (t *trip) end() {
	if !t.over.Swap(true) { // the meter may be with the call's next request by now
		t.meter.LastByte()
	}
	t.cancel(nil)
}

// trace follows the trip through net/http.
func (t *trip) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		TLSHandshakeStart:    func() { t.at(phaseSecuring) },
		GotConn:              t.connected,
		WroteHeaders:         t.wroteHeader,
		WroteRequest:         t.wroteRequest,
		Got1xxResponse:       t.got1xx,
		GotFirstResponseByte: t.gotFirstByte,
	}
}

// connected arms the connection. One more after a byte has left would be a second send, and fails
// the trip.
func (t *trip) connected(info httptrace.GotConnInfo) {
	if t.meter.hasLeft() {
		t.fail(gantry.Errorf(gantry.Transient, CodeConnectionLost, "send to %s: the connection broke after the request left", t.to))
		return
	}
	t.at(phaseSending)
	c := info.Conn
	if secure, ok := c.(*tls.Conn); ok {
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			t.http2.Store(true) // carries many requests: no telling whose bytes these are
			return
		}
		c = secure.NetConn()
	}
	if w, ok := c.(*wire); ok {
		w.arm(t.meter)
		t.wire.Store(w)
	}
}

func (t *trip) wroteHeader() {
	if t.http2.Load() {
		t.meter.Began()
	}
}

func (t *trip) wroteRequest(info httptrace.WroteRequestInfo) {
	if info.Err == nil {
		t.at(phaseWaiting)
	}
}

func (t *trip) gotFirstByte() {
	t.meter.Answered()
	t.at(phaseAnswering)
	if w := t.wire.Load(); w != nil && !w.fresh() {
		t.fail(gantry.Errorf(gantry.BadResponse, CodeUnsolicited, "read the answer of %s: it came before the request", t.to))
	}
}

// got1xx bounds the interim answers; net/http bounds the header of each.
func (t *trip) got1xx(int, textproto.MIMEHeader) error {
	if t.interim.Add(1) <= max1xx {
		return nil
	}
	err := gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "read the answer of %s: more than %d interim answers", t.to, max1xx)
	t.fail(err)
	return err
}

// failure is what broke the trip from our side, if anything did.
func (t *trip) failure() error {
	if in := t.input.Load(); in != nil {
		return *in
	}
	if v := t.verdict.Load(); v != nil {
		return v
	}
	return nil
}

// classify says what an error of the transport means. Its text is our own: those of net/http
// quote answers and addresses.
func (t *trip) classify(err error) error {
	if own := t.failure(); own != nil {
		return own
	}
	switch t.parent.Err() {
	case context.Canceled:
		return context.Canceled
	case context.DeadlineExceeded:
		return t.timeout()
	}
	if own, ok := errors.AsType[*gantry.Error](err); ok {
		return own
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsTimeout {
		return gantry.Errorf(gantry.Transient, CodeDNS, "dial %s: name not resolved", t.to)
	}
	if broken := t.network(err); broken != nil {
		return broken
	}
	return t.protocol()
}

// network knows the errors of sockets; nil for others.
func (t *trip) network(err error) error {
	lost := func(code gantry.Code, text string) error {
		return gantry.Errorf(gantry.Transient, code, "%s %s: %s", t.doing(), t.to, text)
	}
	if w := t.wire.Load(); w != nil && errors.Is(err, net.ErrClosed) {
		if first := w.broke.Load(); first != nil {
			err = *first
		}
	}
	var timed interface{ Timeout() bool }
	var op *net.OpError
	switch reading := t.phase.Load() == phaseReading; {
	case errors.Is(err, syscall.ECONNREFUSED):
		return lost(CodeConnectionRefused, "connection refused")
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return lost(CodeConnectionReset, "connection reset")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return lost(CodeUnreachable, "no route")
	case errors.As(err, &timed) && timed.Timeout():
		return t.timeout()
	case reading && errors.Is(err, io.ErrUnexpectedEOF):
		return lost(CodeShortBody, "the answer is cut short")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return lost(CodeConnectionClosed, "connection closed")
	case errors.As(err, &op) && op.Op != "remote error": // that is a TLS alert
		return lost(CodeConnectionLost, "connection lost")
	}
	return nil
}

// protocol names an error that is none of sockets by where it happened.
func (t *trip) protocol() error {
	switch phase := t.phase.Load(); {
	case phase == phaseDialing:
		return gantry.Errorf(gantry.Illegal, CodeBadRequest, "send to %s: the request is not valid HTTP", t.to)
	case phase == phaseSecuring:
		return gantry.Errorf(gantry.Denied, CodeTLS, "dial %s: the TLS handshake or the peer's certificate was not accepted", t.to)
	case phase >= phaseAnswering && !t.http2.Load():
		return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "read the answer of %s: it is not valid HTTP, or its header is over the limit", t.to)
	}
	return gantry.Errorf(gantry.Transient, CodeConnectionLost, "%s %s: connection lost", t.doing(), t.to)
}

func (t *trip) timeout() error {
	code := CodeTimeout
	switch t.phase.Load() {
	case phaseDialing:
		code = CodeDialTimeout
	case phaseSecuring:
		code = CodeTLSTimeout
	case phaseWaiting, phaseAnswering:
		code = CodeHeaderTimeout
	}
	return gantry.Errorf(gantry.Timeout, code, "%s %s: %w", t.doing(), t.to, context.DeadlineExceeded)
}

// doing is the verb for an error's text.
func (t *trip) doing() string {
	switch t.phase.Load() {
	case phaseDialing, phaseSecuring:
		return "dial"
	case phaseSending:
		return "send to"
	}
	return "read the answer of"
}
