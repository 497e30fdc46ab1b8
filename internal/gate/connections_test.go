package gate

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A server that takes a request on a kept connection and hangs up without a word: net/http would
// send it again on a new one.
func TestNoSilentSecondSend(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name, method string
		body         func() io.Reader
		size         int64
	}{
		{"POST", "POST", func() io.Reader { return strings.NewReader("pixels") }, 6},
		{"PUT", "PUT", func() io.Reader { return bytes.NewReader([]byte("pixels")) }, 6},
		{"POST without body", "POST", func() io.Reader { return nil }, 0},
		{"POST with no body", "POST", func() io.Reader { return http.NoBody }, 0},
		{"GET", "GET", func() io.Reader { return nil }, 0},
		{"HEAD", "HEAD", func() io.Reader { return http.NoBody }, 0},
		{"DELETE", "DELETE", func() io.Reader { return nil }, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			var requests, conns atomic.Int32
			to := rawServer(t, func(c net.Conn, br *bufio.Reader) {
				conns.Add(1)
				for {
					if _, err := readRequest(br); err != nil {
						return
					}
					if requests.Add(1) == 2 {
						return
					}
					io.WriteString(c, okThree)
				}
			})
			e := egressTo(t, to, Policy{})
			if tr := do(t.Context(), t, e, to, strings.NewReader("first")); tr.err != nil {
				t.Fatal(tr.err)
			}
			tr := do(t.Context(), t, e, to, x.body(), method(x.method), key)
			if tr.want(t, gantry.Transient, CodeConnectionClosed); !tr.left || tr.out.ReqSize != x.size {
				t.Errorf("left %v, %d bytes", tr.left, tr.out.ReqSize)
			}
			if requests.Load() != 2 || conns.Load() != 1 {
				t.Errorf("two calls were %d requests on %d connections", requests.Load(), conns.Load())
			}
			if tr := do(t.Context(), t, e, to, strings.NewReader("third")); tr.err != nil || requests.Load() != 3 {
				t.Errorf("a later call: %v, %d requests", tr.err, requests.Load())
			}
		})
	}
}

func TestConnectionsAreKept(t *testing.T) {
	t.Parallel()
	var conns atomic.Int32
	to := rawServer(t, func(c net.Conn, br *bufio.Reader) {
		conns.Add(1)
		for {
			if _, err := readRequest(br); err != nil {
				return
			}
			io.WriteString(c, okThree)
		}
	})
	e := egressTo(t, to, Policy{})
	for range 5 {
		if tr := do(t.Context(), t, e, to, strings.NewReader("pixels")); tr.err != nil {
			t.Fatal(tr.err)
		}
	}
	if conns.Load() != 1 {
		t.Errorf("5 calls took %d connections", conns.Load())
	}
}

// What lay on a kept connection before the request is not its answer. Which of the two ends, to
// net/http, is a matter of luck: it sees the bytes first and drops the connection, or we do.
func TestAnswerFromBeforeTheRequest(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	w := &wire{Conn: a}
	trip := newTrip(t.Context(), NewMeter(time.Now), "t")
	defer trip.end()
	trip.wire.Store(w)
	w.arm(trip.meter)
	go io.WriteString(b, "HTTP/1.1 200 OK\r\n\r\n")
	w.Read(make([]byte, 64))
	trip.gotFirstByte()
	trial{err: trip.classify(nil)}.want(t, gantry.BadResponse, CodeUnsolicited)

	other := newTrip(t.Context(), NewMeter(time.Now), "t")
	defer other.end()
	other.wire.Store(w)
	w.arm(other.meter)
	go func() { io.ReadFull(b, make([]byte, 3)); io.WriteString(b, "HTTP/1.1 200 OK\r\n\r\n") }()
	io.WriteString(w, "GET")
	w.Read(make([]byte, 64))
	if other.gotFirstByte(); other.failure() != nil {
		t.Errorf("an answer in its time: %v", other.failure())
	}
}

// Each answer brings a second one along. Nobody may take that for his own.
func TestTwoAnswersToOneRequest(t *testing.T) {
	t.Parallel()
	to := rawServer(t, func(c net.Conn, br *bufio.Reader) {
		for {
			body, err := readRequest(br)
			if err != nil {
				return
			}
			answer := "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + string(body)
			io.WriteString(c, answer+answer)
		}
	})

	e := egressTo(t, to, Policy{})
	for i := range 200 {
		id := string([]byte{'a' + byte(i%26), 'a' + byte(i/26), 'x'})
		if tr := do(t.Context(), t, e, to, strings.NewReader(id)); tr.err == nil && string(tr.body) != id {
			t.Fatalf("call %s got the answer to %s", id, tr.body)
		}
	}

}

// Should net/http ever send again by a way not known here, the call at least does not pass.
func TestSecondConnectionFails(t *testing.T) {
	t.Parallel()
	trip := newTrip(t.Context(), NewMeter(time.Now), "t")
	defer trip.end()
	trip.connected(httptrace.GotConnInfo{Conn: &wire{}})
	trip.connected(httptrace.GotConnInfo{Conn: &wire{}}) // nothing had left on the first
	if trip.failure() != nil {
		t.Fatal(trip.failure())
	}
	trip.meter.Began()
	trip.connected(httptrace.GotConnInfo{Conn: &wire{}})
	trial{err: trip.classify(nil)}.want(t, gantry.Transient, CodeConnectionLost)
	if trip.ctx.Err() == nil {
		t.Error("the second send goes on")
	}
}

// A broken connection is not a request that left.
type brokenConn struct{ net.Conn }

func TestNothingWrittenIsNotBegun(t *testing.T) {
	t.Parallel()
	m := NewMeter(time.Now)
	w := &wire{Conn: brokenConn{}}
	w.arm(m)
	if _, err := w.Write([]byte("POST")); err == nil || m.HasBegun() {
		t.Errorf("%v, begun %v", err, m.HasBegun())
	}
}
