package gate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// net/http writes what a peer sends unasked into the standard logger, and offers no other place.
func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	goleak.VerifyTestMain(m)
}

// secret stands in every URL, header and hostile answer. No error may repeat it.
const secret = "MUSTERMANN"

// long is a deadline that no working test meets.
const long = 20 * time.Second

func targetOf(t testing.TB, raw string) gantry.Target {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return gantry.Target{Scheme: u.Scheme, Host: u.Hostname(), Port: u.Port()}
}

func egressTo(t testing.TB, raw string, p Policy) *Egress {
	t.Helper()
	e := NewEgress(targetOf(t, raw), p)
	t.Cleanup(e.Close)
	return e
}

// trial is what came of one call.
type trial struct {
	header http.Header
	body   []byte
	err    error
	out    gantry.Outcome
	left   bool // a byte of the request
}

type setting func(*http.Request)

func method(m string) setting { return func(r *http.Request) { r.Method = m } }
func key(r *http.Request)     { r.Header.Set("Idempotency-Key", "k1") }
func size(n int64) setting    { return func(r *http.Request) { r.ContentLength = n } }

// do makes one call as the gate would and holds it to what goes for all of them.
func do(ctx context.Context, t testing.TB, e *Egress, to string, body io.Reader, set ...setting) trial {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	m := NewMeter(time.Now)
	var hooks atomic.Int32
	m.OnLastByte = func() { hooks.Add(1) }
	req, err := http.NewRequestWithContext(WithMeter(ctx, m), http.MethodPost, to+"?patient="+secret, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Patient", secret)
	for _, s := range set {
		s(req)
	}
	var tr trial
	resp, err := e.Transport().RoundTrip(req)
	if tr.err = err; err == nil {
		tr.header = resp.Header
		tr.body, tr.err = io.ReadAll(resp.Body)
		if hooks.Load() != 1 {
			t.Errorf("at the answer's end OnLastByte had run %d times", hooks.Load())
		}
		resp.Body.Close()
	} else if m.HasBegun() && hooks.Load() != 1 {
		t.Errorf("after a call that broke OnLastByte had run %d times", hooks.Load())
	}
	m.Close()
	if hooks.Load() != 1 {
		t.Errorf("OnLastByte ran %d times", hooks.Load())
	}
	tr.out, tr.left = m.Snapshot(), m.HasBegun()
	if tr.err != nil && strings.Contains(tr.err.Error(), secret) {
		t.Errorf("the error quotes the request or the answer: %q", tr.err)
	}
	return tr
}

func (tr trial) want(t testing.TB, kind gantry.Kind, code gantry.Code) {
	t.Helper()
	if tr.err == nil || gantry.KindOf(tr.err) != kind || gantry.CodeOf(tr.err) != code {
		t.Errorf("got %v (%s, %s), want %s, %s", tr.err, gantry.KindOf(tr.err), gantry.CodeOf(tr.err), kind, code)
	}
}

// rawServer gives each connection to serve and closes it after.
func rawServer(t testing.TB, serve func(net.Conn, *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + l.Addr().String()
}

// readRequest reads one whole request off a raw connection.
func readRequest(br *bufio.Reader) ([]byte, error) {
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(req.Body)
}

// echo answers with the digest of what came, and counts the requests.
func echo(seen *atomic.Int32) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		h := sha256.New()
		n, _ := io.Copy(h, r.Body)
		w.Header().Set("Got-SHA", gantry.Digest(h.Sum(nil)).String())
		w.Header().Set("Got-Proto", r.Proto)
		w.Header().Set("Got-Key", r.Header.Get("Idempotency-Key"))
		w.Header().Set("Got-Encoding", r.Header.Get("Accept-Encoding"))
		w.Write(bytes.Repeat([]byte{'a'}, int(n)))
	}
}

// secureServer is an httptest server over TLS and a policy that trusts it.
func secureServer(t testing.TB, h http.Handler, set func(*httptest.Server)) (string, Policy) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if set != nil {
		set(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.URL, Policy{TLS: &tls.Config{RootCAs: roots}}
}

// resolver answers every A query with what ip gives; "" is no such name.
func resolver(ip func() string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for answerDNS(server, ip) == nil {
			}
		}()
		return client, nil
	}}
}

func answerDNS(c net.Conn, ip func() string) error {
	var n [2]byte
	if _, err := io.ReadFull(c, n[:]); err != nil {
		return err
	}
	q := make([]byte, binary.BigEndian.Uint16(n[:]))
	if _, err := io.ReadFull(c, q); err != nil {
		return err
	}
	end := 12
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	a := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[12:end+5]...)
	if addr := ip(); addr == "" {
		a[3] |= 3
	} else if q[end+2] == 1 { // A
		a[7] = 1
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		a = append(a, netip.MustParseAddr(addr).AsSlice()...)
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
	return err
}

func TestCallIsMeasured(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32
	plain := httptest.NewServer(echo(&seen))
	t.Cleanup(plain.Close)
	h1, p1 := secureServer(t, echo(&seen), func(s *httptest.Server) { s.EnableHTTP2 = false })
	h2, p2 := secureServer(t, echo(&seen), nil)
	body := bytes.Repeat([]byte("0123456789"), 30_000)
	for _, x := range []struct {
		name, to, proto string
		p               Policy
	}{{"http", plain.URL, "HTTP/1.1", Policy{}}, {"https", h1, "HTTP/1.1", p1}, {"h2", h2, "HTTP/2.0", p2}} {
		e := egressTo(t, x.to, x.p)
		for _, declared := range []int64{int64(len(body)), -1} {
			tr := do(t.Context(), t, e, x.to+"/", io.NopCloser(bytes.NewReader(body)), size(declared), key)
			if tr.err != nil {
				t.Fatalf("%s: %v", x.name, tr.err)
			}
			o := tr.out
			if o.ReqSize != int64(len(body)) || o.ReqSHA.String() != tr.header.Get("Got-SHA") {
				t.Errorf("%s: counted %d bytes %s, the server got %s", x.name, o.ReqSize, o.ReqSHA, tr.header.Get("Got-SHA"))
			}
			if o.RespSize != int64(len(tr.body)) || o.RespSHA != sha256.Sum256(tr.body) || o.Status != 200 {
				t.Errorf("%s: answer counted as %d bytes, status %d", x.name, o.RespSize, o.Status)
			}
			if o.Sent <= 0 || o.TTFB <= 0 || o.Took < o.TTFB || o.Took > long {
				t.Errorf("%s: times %s %s %s", x.name, o.Sent, o.TTFB, o.Took)
			}
			if tr.header.Get("Got-Proto") != x.proto || tr.header.Get("Got-Key") != "k1" || tr.header.Get("Got-Encoding") != "" {
				t.Errorf("%s: the server got %v", x.name, tr.header)
			}
		}
	}
	if seen.Load() != 6 {
		t.Errorf("the servers saw %d requests", seen.Load())
	}
}

func TestNoBody(t *testing.T) {
	t.Parallel()
	length := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		length <- r.Header.Get("Content-Length") + strings.Join(r.TransferEncoding, ",") + r.Header.Get("Idempotency-Key")
	}))
	t.Cleanup(s.Close)
	e := egressTo(t, s.URL, Policy{})
	for m, want := range map[string]string{"GET": "k1", "HEAD": "k1", "OPTIONS": "k1", "POST": "0k1", "PUT": "0k1", "DELETE": "k1"} {
		tr := do(t.Context(), t, e, s.URL, nil, method(m), key)
		if got := <-length; tr.err != nil || got != want {
			t.Errorf("%s: %v, the server got length, encoding and key %q, want %q", m, tr.err, got, want)
		}
		if tr.out.ReqSize != 0 || tr.out.ReqSHA != sha256.Sum256(nil) || tr.out.RespSHA != sha256.Sum256(nil) {
			t.Errorf("%s: %+v", m, tr.out)
		}
	}
}

func TestRefusedBeforeItLeaves(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32
	s := httptest.NewServer(echo(&seen))
	t.Cleanup(s.Close)
	e := egressTo(t, s.URL, Policy{})
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://"))
	for name, x := range map[string]struct {
		to   string
		code gantry.Code
		set  setting
	}{
		"other port":       {"http://127.0.0.1:1/", CodeUndeclaredTarget, nil},
		"no port":          {"http://127.0.0.1/", CodeUndeclaredTarget, nil},
		"other host":       {"http://localhost:" + port + "/", CodeUndeclaredTarget, nil},
		"mapped host":      {"http://[::ffff:127.0.0.1]:" + port + "/", CodeUndeclaredTarget, nil},
		"other scheme":     {"https://127.0.0.1:" + port + "/", CodeUndeclaredTarget, nil},
		"other Host field": {s.URL, CodeUndeclaredTarget, func(r *http.Request) { r.Host = "other.test" }},
		"other URL":        {"http://127.0.0.1:1/", CodeUndeclaredTarget, func(r *http.Request) { r.Host = "127.0.0.1:" + port }},
		"opaque":           {s.URL, CodeUndeclaredTarget, func(r *http.Request) { r.URL.Opaque = "//other.test/x" }},
		"connect":          {s.URL, CodeBadRequest, method("CONNECT")},
		"trace":            {s.URL, CodeBadRequest, method("TRACE")},
		"split header":     {s.URL, CodeBadRequest, func(r *http.Request) { r.Header.Set("X-A", secret+"\r\nX-B: 1") }},
		"bad method":       {s.URL, CodeBadRequest, method("PO ST")},
	} {
		body := &closeCounter{Reader: strings.NewReader("x")}
		set := x.set
		if set == nil {
			set = key
		}
		tr := do(t.Context(), t, e, x.to, body, set)
		if tr.want(t, gantry.Illegal, x.code); tr.left || body.closed.Load() == 0 {
			t.Errorf("%s: left %v, body closed %d times", name, tr.left, body.closed.Load())
		}
	}
	if seen.Load() != 0 {
		t.Errorf("the server saw %d requests", seen.Load())
	}
}

type closeCounter struct {
	io.Reader
	closed atomic.Int32
}

func (c *closeCounter) Close() error { c.closed.Add(1); return nil }

func TestNoRecordNoCall(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32
	s := httptest.NewServer(echo(&seen))
	t.Cleanup(s.Close)
	e := egressTo(t, s.URL, Policy{})
	client := http.Client{Transport: e.Transport()}
	_, err := client.Post(s.URL, "text/plain", strings.NewReader("x"))
	trial{err: err}.want(t, gantry.Illegal, CodeNoRecord)
	_, err = e.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	trial{err: err}.want(t, gantry.Illegal, CodeNoRecord)
	if seen.Load() != 0 {
		t.Error("a request went out")
	}
	m := NewMeter(time.Now)
	req, _ := http.NewRequestWithContext(WithMeter(t.Context(), m), "POST", s.URL, strings.NewReader("x"))
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, err = client.Do(req)
	trial{err: err}.want(t, gantry.Illegal, CodeSecondSend)
	if seen.Load() != 1 {
		t.Errorf("the server saw %d requests of one call", seen.Load())
	}
}

func TestRedirectIsAnError(t *testing.T) {
	t.Parallel()
	var other atomic.Int32
	elsewhere := httptest.NewServer(echo(&other))
	t.Cleanup(elsewhere.Close)
	for _, code := range []int{300, 301, 302, 303, 307, 308} {
		for _, cross := range []bool{false, true} {
			var here atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				here.Add(1)
				to := "/again?" + secret
				if cross {
					to = elsewhere.URL + to
				}
				http.Redirect(w, r, to, code)
			}))
			e := egressTo(t, s.URL, Policy{})
			tr := do(t.Context(), t, e, s.URL, strings.NewReader("pixels"))
			if tr.want(t, gantry.BadResponse, CodeRedirect); tr.out.Status != int32(code) {
				t.Errorf("status %d, want %d", tr.out.Status, code)
			}
			client := http.Client{Transport: e.Transport()}
			req, _ := http.NewRequestWithContext(WithMeter(t.Context(), NewMeter(time.Now)), "POST", s.URL, strings.NewReader("pixels"))
			_, err := client.Do(req)
			if (trial{err: err}).want(t, gantry.BadResponse, CodeRedirect); here.Load() != 2 {
				t.Errorf("%d: %d requests for two calls", code, here.Load())
			}
			e.Close()
			s.Close()
		}
	}
	if other.Load() != 0 {
		t.Errorf("the other host got %d requests", other.Load())
	}
}

// Not parallel: it sets the environment. The name is one that net/http would use a proxy for.
func TestProxyOfEnvironmentIsIgnored(t *testing.T) {
	var seen, proxied atomic.Int32
	s := httptest.NewServer(echo(&seen))
	t.Cleanup(s.Close)
	proxy := httptest.NewServer(echo(&proxied))
	t.Cleanup(proxy.Close)
	for _, v := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(v, proxy.URL)
	}
	named := strings.Replace(s.URL, "127.0.0.1", "model.test", 1)
	e := egressTo(t, named, Policy{Resolver: resolver(func() string { return "127.0.0.1" })})
	if tr := do(t.Context(), t, e, named, strings.NewReader("x")); tr.err != nil || seen.Load() != 1 || proxied.Load() != 0 {
		t.Errorf("%v: target %d requests, proxy %d", tr.err, seen.Load(), proxied.Load())
	}
}

func TestForbiddenAddresses(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]bool{
		"127.0.0.1": false, "::1": false, "10.0.0.9": false, "192.168.1.1": false, "fd12::1": false, "8.8.8.8": false,
		"169.254.169.254": true, "::ffff:169.254.169.254": true, "64:ff9b::a9fe:a9fe": true, "fd00:ec2::254": true,
		"169.254.170.2": true, "100.100.100.200": true, "169.254.7.7": true, "fe80::1%eth0": true, "fe80::5": true,
		"0.0.0.0": true, "0.1.2.3": true, "::": true, "::ffff:0.0.0.0": true, "224.0.0.1": true, "ff02::1": true, "255.255.255.255": true,
	} {
		e := NewEgress(gantry.Target{Scheme: "http", Host: "model.test"}, Policy{})
		if got := e.forbidden(plainAddr(netip.MustParseAddr(ip))); got != want {
			t.Errorf("%s: forbidden %v", ip, got)
		}
	}
	device := NewEgress(gantry.Target{Scheme: "http", Host: "169.254.7.7"}, Policy{})
	if device.forbidden(netip.MustParseAddr("169.254.7.7")) || !device.forbidden(netip.MustParseAddr("169.254.7.8")) {
		t.Error("a link-local target must be declared by its own address")
	}
}

// A name may lead anywhere, and elsewhere the next time.
func TestForbiddenAtDial(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"169.254.169.254", "[::ffff:a9fe:a9fe]", "0.0.0.0", "model.test"} {
		to := "http://" + host + ":80"
		e := egressTo(t, to, Policy{Resolver: resolver(func() string { return "169.254.1.1" })})
		tr := do(t.Context(), t, e, to, strings.NewReader("x"))
		if tr.want(t, gantry.Illegal, CodeForbiddenAddress); tr.left {
			t.Errorf("%s: something left", host)
		}
	}
	var seen atomic.Int32
	s := httptest.NewServer(echo(&seen))
	t.Cleanup(s.Close)
	var moved atomic.Bool
	named := strings.Replace(s.URL, "127.0.0.1", "model.test", 1)
	e := egressTo(t, named, Policy{Resolver: resolver(func() string {
		if moved.Load() {
			return "169.254.169.254"
		}
		return "127.0.0.1"
	})})
	if tr := do(t.Context(), t, e, named, strings.NewReader("x")); tr.err != nil {
		t.Fatal(tr.err)
	}
	moved.Store(true)
	e.Close()
	do(t.Context(), t, e, named, strings.NewReader("x")).want(t, gantry.Illegal, CodeForbiddenAddress)
}

func TestDialContext(t *testing.T) {
	t.Parallel()
	s := rawServer(t, func(c net.Conn, br *bufio.Reader) { io.Copy(c, br) })
	address := strings.TrimPrefix(s, "http://")
	host, port, _ := net.SplitHostPort(address)
	e := NewEgress(gantry.Target{Scheme: "dicom", Host: host, Port: port}, Policy{})
	for _, x := range [][2]string{{"tcp", "127.0.0.1:1"}, {"tcp", "localhost:" + port}, {"tcp", "127.0.0.1"}, {"udp", address}, {"unix", address}} {
		_, err := e.DialContext(WithMeter(t.Context(), NewMeter(time.Now)), x[0], x[1])
		trial{err: err}.want(t, gantry.Illegal, CodeUndeclaredTarget)
	}
	ctx, cancel := context.WithCancel(t.Context())
	m := NewMeter(time.Now)
	var hooks int
	m.OnLastByte = func() { hooks++ }
	c, err := e.DialContext(WithMeter(ctx, m), "tcp", address)
	if err != nil || m.HasBegun() {
		t.Fatal(err, m.HasBegun())
	}
	io.WriteString(c, "ping")
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil || !m.HasBegun() {
		t.Fatal(err, m.HasBegun())
	}
	cancel() // also ends a read that nothing answers
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after the call's end: %v", err)
	}
	c.Close()
	if o := m.Snapshot(); hooks != 1 || o.TTFB <= 0 || o.Took < o.TTFB {
		t.Errorf("OnLastByte %d times, %+v", hooks, o)
	}
	_, err = e.DialContext(WithMeter(t.Context(), m), "tcp", address)
	trial{err: err}.want(t, gantry.Illegal, CodeSecondSend)
}
