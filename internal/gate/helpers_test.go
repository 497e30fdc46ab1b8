package gate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
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

func key(r *http.Request) { r.Header.Set("Idempotency-Key", "k1") }

func size(n int64) setting { return func(r *http.Request) { r.ContentLength = n } }

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
