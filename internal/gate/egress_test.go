package gate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

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
