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
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const okThree = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n123"

func TestMeterNumbers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := NewMeter(time.Now)
		ran := 0
		m.OnLastByte = func() { ran++ }
		if got := m.Snapshot(); got != (gantry.Outcome{}) {
			t.Errorf("before the start: %+v", got)
		}
		time.Sleep(3 * time.Second) // the wait for a unit
		m.Began()
		time.Sleep(time.Second)
		m.Began()
		io.Copy(io.Discard, m.CountRequest(strings.NewReader("pixels")))
		if got := m.Snapshot(); got.RespSHA != (gantry.Digest{}) || got.TTFB != 0 || got.Took != time.Second {
			t.Errorf("before the answer: %+v", got)
		}
		time.Sleep(time.Second)
		in := m.CountResponse(iotest.OneByteReader(strings.NewReader("mask")))
		io.ReadFull(in, make([]byte, 4))
		if ran != 0 {
			t.Error("OnLastByte ran before the end was read")
		}
		time.Sleep(time.Second)
		in.Read(make([]byte, 1))
		m.SetStatus(200)
		if ran != 1 {
			t.Errorf("OnLastByte ran %d times", ran)
		}
		time.Sleep(time.Hour)
		m.LastByte()
		m.Close()
		m.Close()
		want := gantry.Outcome{
			Status: 200, Sent: 3 * time.Second, TTFB: 2 * time.Second, Took: 3 * time.Second,
			ReqSize: 6, ReqSHA: sha256.Sum256([]byte("pixels")), RespSize: 4, RespSHA: sha256.Sum256([]byte("mask")),
		}
		if diff := cmp.Diff(want, m.Snapshot()); diff != "" || ran != 1 {
			t.Errorf("OnLastByte ran %d times, numbers (-want +got)\n%s", ran, diff)
		}
	})
}

// A source's object is only read: the call begins with the first byte in.
func TestMeterOfAReading(t *testing.T) {
	t.Parallel()
	m := NewMeter(time.Now)
	broken := errors.New("read: input/output error")
	in := m.CountResponse(io.MultiReader(strings.NewReader("abc"), iotest.ErrReader(broken)))
	if _, err := io.ReadAll(in); err != broken {
		t.Errorf("error %v", err)
	}
	if o := m.Snapshot(); o.RespSize != 3 || o.RespSHA != sha256.Sum256([]byte("abc")) || o.ReqSHA != sha256.Sum256(nil) || !m.HasBegun() {
		t.Errorf("%+v", o)
	}
}

func TestMeterIsFinalAfterClose(t *testing.T) {
	t.Parallel()
	m := NewMeter(time.Now)
	out, in := m.CountRequest(strings.NewReader("pixels")), m.CountResponse(strings.NewReader("mask"))
	io.ReadFull(out, make([]byte, 2))
	io.ReadFull(in, make([]byte, 1))
	m.Close()
	before := m.Snapshot()
	for _, r := range []io.Reader{out, in, &sentBody{ReadCloser: io.NopCloser(strings.NewReader("x")), meter: m, left: -1}} {
		if n, err := r.Read(make([]byte, 9)); n != 0 || err == nil {
			t.Errorf("read %d bytes after the call's end, %v", n, err)
		}
	}
	if diff := cmp.Diff(before, m.Snapshot()); diff != "" {
		t.Error(diff)
	}
}

func TestMeterFrom(t *testing.T) {
	t.Parallel()
	m := NewMeter(time.Now)
	if MeterFrom(t.Context()) != nil || MeterFrom(WithMeter(t.Context(), m)) != m {
		t.Error("the meter is not the ctx's own")
	}
}

func TestMeterUnderRace(t *testing.T) {
	t.Parallel()
	m := NewMeter(time.Now)
	var ran atomic.Int32
	m.OnLastByte = func() { ran.Add(1) }
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { io.Copy(io.Discard, m.CountRequest(strings.NewReader("ab"))) })
		all.Go(func() { io.Copy(io.Discard, m.CountResponse(strings.NewReader("ab"))) })
		all.Go(func() { m.SetStatus(200); m.Snapshot(); m.LastByte() })
	}
	all.Wait()
	if o := m.Snapshot(); ran.Load() != 1 || o.ReqSize > 16 || o.Took < 0 {
		t.Errorf("OnLastByte ran %d times, %+v", ran.Load(), o)
	}
}

// An answer without a body is complete with its header.
func TestUnitComesBackWithTheHeader(t *testing.T) {
	t.Parallel()
	for method, length := range map[string]string{"HEAD": "9", "POST": "0"} {
		to := answering(t, "HTTP/1.1 200 OK\r\nContent-Length: "+length+"\r\n\r\n", nil)
		m := NewMeter(time.Now)
		ran := 0
		m.OnLastByte = func() { ran++ }
		req, _ := http.NewRequestWithContext(WithMeter(t.Context(), m), method, to, nil)
		resp, err := egressTo(t, to, Policy{}).Transport().RoundTrip(req)
		if err != nil || ran != 1 {
			t.Fatalf("%s: %v, OnLastByte ran %d times", method, err, ran)
		}
		resp.Body.Close()
	}
}

func (brokenConn) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// The server answers from the header alone, and then reads on or does not.
func TestAnswerBeforeTheBodyIsRead(t *testing.T) {
	t.Parallel()
	for _, reads := range []bool{false, true} {
		done := make(chan struct{})
		to := rawServer(t, func(c net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			io.WriteString(c, okThree)
			if reads {
				hang(c)
			}
			<-done
		})
		body := &closeCounter{Reader: endless{}}
		tr := do(t.Context(), t, egressTo(t, to, Policy{}), to, body, size(1<<30))
		close(done)
		if tr.err != nil || string(tr.body) != "123" || tr.out.ReqSize >= 1<<30 {
			t.Errorf("%q, %v, %d bytes out", tr.body, tr.err, tr.out.ReqSize)
		}
		if tr.out.ReqSHA != sha256.Sum256(make([]byte, tr.out.ReqSize)) {
			t.Errorf("the digest is not that of the %d bytes sent", tr.out.ReqSize)
		}
	}
}

// Cut off in the middle, the record still says what was sent: all that arrived and at most a
// buffer more.
func TestCutRequestIsCounted(t *testing.T) {
	t.Parallel()
	const taken = 300_000
	to := rawServer(t, func(c net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err == nil {
			io.CopyN(io.Discard, req.Body, taken)
			reset(c)
		}
	})
	body := make([]byte, 64<<20)
	for i := range body {
		body[i] = byte(i >> 10)
	}
	tr := do(t.Context(), t, egressTo(t, to, Policy{}), to, bytes.NewReader(body))
	tr.want(t, gantry.Transient, CodeConnectionReset)
	o := tr.out
	if o.ReqSize < taken || o.ReqSize >= int64(len(body)) || o.ReqSHA != sha256.Sum256(body[:o.ReqSize]) {
		t.Errorf("%d bytes on record, %d arrived", o.ReqSize, taken)
	}
	if o.RespSHA != (gantry.Digest{}) || o.TTFB != 0 || o.Status != 0 {
		t.Errorf("an answer on record: %+v", o)
	}
}

// A driver may look at the header and close, or forget the answer: its connection is freed, and
// the leak check of the package sees it if not.
func TestAnswerNotRead(t *testing.T) {
	t.Parallel()
	for _, closes := range []bool{true, false} {
		gone := make(chan struct{})
		to := rawServer(t, func(c net.Conn, br *bufio.Reader) {
			readRequest(br)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			flood("x")(c)
			close(gone)
		})
		ctx, cancel := context.WithCancel(t.Context())
		m := NewMeter(time.Now)
		ran := 0
		m.OnLastByte = func() { ran++ }
		req, _ := http.NewRequestWithContext(WithMeter(ctx, m), "GET", to, nil)
		resp, err := egressTo(t, to, Policy{}).Transport().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if closes {
			resp.Body.Close()
			if _, err := resp.Body.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose || ran != 1 {
				t.Errorf("read after close: %v, OnLastByte ran %d times", err, ran)
			}
		}
		m.Close()
		cancel()
		<-gone
		if o := m.Snapshot(); ran != 1 || o.RespSize != 0 || o.RespSHA != sha256.Sum256(nil) {
			t.Errorf("OnLastByte ran %d times, %+v", ran, o)
		}
	}
}

// The cap holds for memory too: answers are never gathered on our side.
func TestEndlessAnswerStaysSmall(t *testing.T) {
	var before, after runtime.MemStats
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for piece := make([]byte, 64<<10); ; {
			if _, err := w.Write(piece); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	m := NewMeter(time.Now)
	req, _ := http.NewRequestWithContext(WithMeter(t.Context(), m), "GET", s.URL, nil)
	runtime.ReadMemStats(&before)
	resp, err := egressTo(t, s.URL, Policy{MaxBody: 64 << 20}).Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	runtime.ReadMemStats(&after)
	trial{err: err}.want(t, gantry.BadResponse, gantry.CodeTooLarge)
	if grown := after.TotalAlloc - before.TotalAlloc; n != 64<<20 || grown > 4<<20 {
		t.Errorf("read %d bytes, allocated %d", n, grown)
	}
}

// TestMadeAt counts from the moment that the intent's id holds, unless that clock is another one.
func TestMadeAt(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	for _, c := range []struct{ before, sent time.Duration }{{0, 0}, {3 * time.Millisecond, 3 * time.Millisecond}, {-time.Millisecond, 0}, {time.Hour, 0}} {
		m := NewMeter(func() time.Time { return now })
		m.madeAt(now.Add(-c.before))
		m.Began()
		if got := m.Snapshot().Sent; got != c.sent {
			t.Errorf("made %s before: sent after %s", c.before, got)
		}
	}
}
