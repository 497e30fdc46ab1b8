package gate

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// tape is a connection that keeps what is written to it, write by write, and breaks after most bytes.
type tape struct {
	net.Conn
	writes []int
	got    bytes.Buffer
	most   int
}

func (t *tape) Write(p []byte) (int, error) {
	n := min(len(p), t.most-t.got.Len())
	t.writes = append(t.writes, n)
	t.got.Write(p[:n])
	if n < len(p) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}

// empty gives nothing for ever.
type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, nil }

// TestWireSendsInFewWrites gives bodies that come in small pieces, and bodies that break: what was read is
// sent, in writes of the send buffer's size, and the error is told.
func TestWireSendsInFewWrites(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("pixels. "), 100<<10) // 800 KiB: three buffers and a part
	broken := errors.New("the disk is gone")
	for _, c := range []struct {
		name   string
		r      io.Reader
		most   int
		sent   int
		writes int
		err    error
	}{
		{"small reads", iotest.OneByteReader(bytes.NewReader(body[:sendSize+1])), 1 << 30, sendSize + 1, 2, nil},
		{"whole", bytes.NewReader(body), 1 << 30, len(body), 4, nil},
		{"end together with bytes", iotest.DataErrReader(bytes.NewReader(body)), 1 << 30, len(body), 4, nil},
		{"nothing", bytes.NewReader(nil), 1 << 30, 0, 0, nil},
		{"broken body", io.MultiReader(bytes.NewReader(body[:10]), iotest.ErrReader(broken)), 1 << 30, 10, 1, broken},
		{"no progress", io.MultiReader(bytes.NewReader(body[:10]), empty{}), 1 << 30, 10, 1, io.ErrNoProgress},
		{"broken connection", bytes.NewReader(body), sendSize + 5, sendSize + 5, 2, io.ErrClosedPipe},
	} {
		conn := &tape{most: c.most}
		w := &wire{Conn: conn}
		n, err := w.ReadFrom(c.r)
		if n != int64(c.sent) || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || len(conn.writes) != c.writes {
			t.Errorf("%s: %d bytes in %d writes, %v; want %d in %d, %v", c.name, n, len(conn.writes), err, c.sent, c.writes, c.err)
		}
		if !bytes.Equal(conn.got.Bytes(), body[:c.sent]) {
			t.Errorf("%s: other bytes were sent", c.name)
		}
	}
}

// lapsing is a session whose lease runs out after it was asked so many times.
type lapsing struct {
	desk
	asked, after int
}

func (l *lapsing) Alive() bool {
	l.asked++
	return l.asked <= l.after
}

// TestLeaseLapsesBeforeTheFirstByte: a process that stands still between its unit and the first byte, until others have both its
// tasks and its units, sends nothing any more. Asked once alone, before the call is let out, it sends.
func TestLeaseLapsesBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	for after, want := range map[int]int32{1: 0, 1000: 1} {
		var seen atomic.Int32
		s := httptest.NewServer(echo(&seen))
		t.Cleanup(s.Close)
		e := egressTo(t, s.URL, Policy{})
		var out *gantry.Outcome
		l := &lapsing{after: after}
		g := New(l, gantry.NewIDs(time.Now, zeros{}), time.Now)
		g.Ended = func(_ context.Context, _ gantry.Intent, o gantry.Outcome) { out = &o }
		err := g.Call(t.Context(), gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtProcessor}}, func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, nil)
			if err != nil {
				return err
			}
			resp, err := e.Transport().RoundTrip(req)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		}, nil)
		if errors.Is(err, gantry.ErrFenced) != (want == 0) || seen.Load() != want || out == nil || (out.Result == gantry.ResultNotSent) != (want == 0) {
			t.Errorf("alive %d times: %v; the service saw %d requests; outcome %+v", after, err, seen.Load(), out)
		}
	}
}
