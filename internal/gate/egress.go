package gate

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Policy bounds what a target may do to us. The zero value of a field is its default.
type Policy struct {
	DialTimeout time.Duration // name lookup and TCP connect; 10 s
	TLSTimeout  time.Duration // handshake; 10 s
	FirstByte   time.Duration // from the request's last byte to the whole header of the answer; as long as the call
	Idle        time.Duration // without a byte of the answer's body while it is read; 60 s
	MaxHeader   int64         // bytes of an answer's header; 64 KiB
	MaxBody     int64         // bytes of an answer's body; 2 GiB
	IdleConns   int           // connections kept between calls; 64. Calls at once are the limiter's business
	IdleKept    time.Duration // how long they are kept; 30 s
	TLS         *tls.Config   // roots and client certificates; verification and TLS 1.2 are not negotiable
	Resolver    *net.Resolver // the system's
}

const (
	readBuffer  = 32 << 10 // of each connection
	writeBuffer = 8 << 10  // of each connection: the header and the beginning of the body; see wire.ReadFrom
	max1xx      = 16       // interim answers before the real one
	h2Window    = 1 << 20  // what one HTTP/2 answer may have under way unread
)

func (p Policy) withDefaults() Policy {
	p.DialTimeout = cmp.Or(p.DialTimeout, 10*time.Second)
	p.TLSTimeout = cmp.Or(p.TLSTimeout, 10*time.Second)
	p.Idle = cmp.Or(p.Idle, 60*time.Second)
	p.MaxHeader = cmp.Or(p.MaxHeader, 64<<10)
	p.MaxBody = cmp.Or(p.MaxBody, 2<<30)
	p.IdleConns = cmp.Or(p.IdleConns, 64)
	p.IdleKept = cmp.Or(p.IdleKept, 30*time.Second)
	return p
}

// tlsConfig is the policy's own with what must hold: peers are verified and speak TLS 1.2 or later.
func (p Policy) tlsConfig() *tls.Config {
	c := &tls.Config{}
	if p.TLS != nil {
		c = p.TLS.Clone()
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	c.InsecureSkipVerify = false
	return c
}

// Egress reaches one declared target, for calls on record, under a Policy. It is a gantry.Egress.
// One thing is not in its hands: net/http writes bytes that a peer sends unasked on a kept
// connection into the standard logger of package log, so the process must throw that one away.
type Egress struct {
	policy    Policy
	name      string // the target, for texts
	scheme    string
	address   string     // host:port
	literal   netip.Addr // the host, if it is an address
	dialer    net.Dialer
	transport *http.Transport
}

var _ gantry.Egress = (*Egress)(nil)

// NewEgress makes the way to target. It opens nothing.
func NewEgress(target gantry.Target, p Policy) *Egress {
	p = p.withDefaults()
	scheme := strings.ToLower(target.Scheme)
	host := strings.Trim(target.Host, "[]")
	e := &Egress{policy: p, name: target.Key(), scheme: scheme, address: joinAddress(scheme, host, target.Port)}
	if ip, err := netip.ParseAddr(host); err == nil {
		e.literal = plainAddr(ip)
	}
	e.dialer = net.Dialer{Timeout: p.DialTimeout, Resolver: p.Resolver, ControlContext: e.control}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	e.transport = &http.Transport{ // no Proxy: those of the environment are not asked
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return e.dial(ctx, network, address)
		},
		TLSClientConfig:        p.tlsConfig(),
		TLSHandshakeTimeout:    p.TLSTimeout,
		ResponseHeaderTimeout:  p.FirstByte,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: p.MaxHeader,
		MaxIdleConns:           p.IdleConns,
		MaxIdleConnsPerHost:    p.IdleConns,
		IdleConnTimeout:        p.IdleKept,
		DisableCompression:     true,
		ReadBufferSize:         readBuffer,
		WriteBufferSize:        writeBuffer,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: h2Window, SendPingTimeout: 30 * time.Second},
	}
	return e
}

// joinAddress gives host:port in lower case, the port being the scheme's own if there is none.
func joinAddress(scheme, host, port string) string {
	switch {
	case port == "" && scheme == "http":
		port = "80"
	case port == "" && scheme == "https":
		port = "443"
	}
	return strings.ToLower(net.JoinHostPort(host, port))
}

// Transport gives the RoundTripper for the target. A request goes out at most once, whatever
// becomes of its connection; a redirect is an error; an error is a *gantry.Error without a byte of
// the answer, except that a cancelled ctx's and the request body's own come out as they are. A
// request with neither a Meter nor a Control in its ctx is Illegal with code no_record.
func (e *Egress) Transport() http.RoundTripper { return door{e} }

// Close closes the connections that no call uses.
func (e *Egress) Close() { e.transport.CloseIdleConnections() }

// DialContext opens a TCP connection to the target for a call of another protocol. It marks the
// call's first bytes both ways, and its last one when it is closed, which the end of ctx does too. The connection is a
// gantry.Keepable.
func (e *Egress) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	m := meterFor(ctx)
	host, port, err := net.SplitHostPort(address)
	if m == nil {
		return nil, e.noRecord()
	}
	if err != nil || joinAddress("", host, port) != e.address || !strings.HasPrefix(network, "tcp") {
		return nil, gantry.Errorf(gantry.Illegal, CodeUndeclaredTarget, "dial: the address is not the declared target %s", e.name)
	}
	if !m.take() {
		return nil, e.secondSend()
	}
	w, err := e.dial(ctx, network, address)
	if err != nil {
		t := newTrip(ctx, m, e.name)
		defer t.end()
		err = t.classify(err)
		m.broken(err)
		return nil, err
	}
	w.arm(m)
	c := &callWire{wire: w, to: e.name}
	c.meter.Store(m)
	c.stop = context.AfterFunc(ctx, func() { w.Close() })
	return c, nil
}

func (e *Egress) dial(ctx context.Context, network, address string) (*wire, error) {
	c, err := e.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &wire{Conn: c}, nil
}

// control sees each address that a name led to, just before it is connected to: what is checked
// is what is used.
func (e *Egress) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || e.forbidden(plainAddr(at.Addr())) {
		return gantry.Errorf(gantry.Illegal, CodeForbiddenAddress, "dial %s: it is at an address that no target may have", e.name)
	}
	return nil
}

// forbidden tells whether an address is never a target: one that means no host, one of a cloud's
// metadata service, and a link-local one that was not declared as such.
func (e *Egress) forbidden(ip netip.Addr) bool {
	switch ip.String() {
	case "169.254.169.254", "fd00:ec2::254", "fd20:ce::254", // instance metadata: AWS, Azure, Google and others
		"169.254.170.2", "169.254.170.23", "fd00:ec2::23", // credentials of AWS tasks and pods
		"100.100.100.200", "192.0.0.192", "168.63.129.16": // Alibaba, Oracle, Azure's wire server
		return true
	}
	if ip.IsLinkLocalUnicast() {
		return ip != e.literal
	}
	thisNetwork := ip.Is4() && ip.As4()[0] == 0 // RFC 1122 section 3.2.1.3
	return ip.IsUnspecified() || thisNetwork || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// plainAddr takes off what hides an address: a zone, IPv4 mapped into IPv6, and IPv4 behind the
// well-known NAT64 prefix (RFC 6052).
func plainAddr(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	if b := ip.As16(); ip.Is6() && netip.MustParsePrefix("64:ff9b::/96").Contains(ip) {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}

// door is the RoundTripper of an Egress.
type door struct{ *Egress }

// RoundTrip sends one request; see Egress.Transport.
func (d door) RoundTrip(req *http.Request) (*http.Response, error) {
	m := meterFor(req.Context())
	if err := d.admit(m, req); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	t := newTrip(req.Context(), m, d.name)
	resp, err := d.transport.RoundTrip(t.prepare(req))
	if resp != nil {
		m.SetStatus(resp.StatusCode)
		if err = t.failure(); err == nil {
			err = d.refuseAnswer(resp)
		}
	}
	if err != nil {
		if resp != nil {
			resp.Body.Close()
		}
		defer t.end()
		err = t.classify(err)
		m.broken(err)
		return nil, err
	}
	t.at(phaseReading)
	resp.Request = req
	resp.Body = newAnswerBody(resp.Body, t, d.policy)
	if resp.ContentLength == 0 || req.Method == http.MethodHead {
		t.end()
	}
	return resp, nil
}

// admit says why a request may not leave, if so, and claims the meter.
func (d door) admit(m *Meter, req *http.Request) error {
	if m == nil {
		return d.noRecord()
	}
	if d.scheme != "http" && d.scheme != "https" || req.URL == nil || req.URL.Scheme != d.scheme ||
		req.URL.Opaque != "" || !d.isTarget(req.URL) || req.Host != "" && !d.isTarget(&url.URL{Host: req.Host}) {
		return gantry.Errorf(gantry.Illegal, CodeUndeclaredTarget, "send: the request is not for the declared target %s", d.name)
	}
	if req.Method == http.MethodConnect || req.Method == http.MethodTrace {
		return gantry.Errorf(gantry.Illegal, CodeBadRequest, "send to %s: the method is not for data", d.name)
	}
	if !m.take() {
		return d.secondSend()
	}
	return nil
}

func (d door) isTarget(u *url.URL) bool {
	return joinAddress(d.scheme, u.Hostname(), u.Port()) == d.address
}

// refuseAnswer judges an answer by its header.
func (d door) refuseAnswer(resp *http.Response) error {
	switch code := resp.StatusCode; {
	case code == http.StatusSwitchingProtocols:
		return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "read the answer of %s: it switches protocols", d.name)
	case (code == http.StatusFound || code == http.StatusSeeOther) && resp.Request.Method == http.MethodGet && gantry.MayBeElsewhere(resp.Request.Context()):
		return nil
	case code >= 300 && code < 400 && code != http.StatusNotModified:
		return gantry.Errorf(gantry.BadResponse, CodeRedirect, "read the answer of %s: a redirect, status %d", d.name, code)
	case resp.ContentLength > d.policy.MaxBody && resp.Request.Method != http.MethodHead:
		return tooLarge(d.name, d.policy.MaxBody)
	}
	return nil
}

func (e *Egress) noRecord() error {
	return gantry.Errorf(gantry.Illegal, CodeNoRecord, "send to %s: the call is not on record", e.name)
}

func (e *Egress) secondSend() error {
	return gantry.Errorf(gantry.Illegal, CodeSecondSend, "send to %s: the call on record was sent already, or is being sent", e.name)
}

// prepare makes the request that the transport gets: one that is traced, counted, and that
// net/http cannot send again. It does so by itself, on a reused connection that broke, if there
// is no body or a GetBody and either the method is safe or it finds an Idempotency-Key. So there
// is always a body that cannot be had twice; where an empty one would change what is sent, the
// key is spelt in lower case, which is the same header to the peer but not to net/http.
func (t *trip) prepare(req *http.Request) *http.Request {
	out := req.WithContext(httptrace.WithClientTrace(t.ctx, t.trace()))
	out.GetBody = nil
	empty := req.Body == nil || req.Body == http.NoBody
	if empty && !safeMethod(req.Method) {
		out.Header = respellKeys(out.Header)
		return out
	}
	body := &sentBody{ReadCloser: req.Body, meter: t.meter, left: -1, failed: t.inputFailed}
	if empty {
		body.ReadCloser = http.NoBody
	} else if req.ContentLength > 0 {
		body.left = req.ContentLength
	}
	out.Body = body
	return out
}

// safeMethod tells the methods that net/http sends again by themselves. With those an empty body
// leaves no trace in the request.
func safeMethod(m string) bool {
	return m == "" || m == http.MethodGet || m == http.MethodHead || m == http.MethodOptions
}

func respellKeys(h http.Header) http.Header {
	h = h.Clone()
	for _, key := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if v, ok := h[key]; ok {
			delete(h, key)
			h[strings.ToLower(key)] = v
		}
	}
	return h
}
