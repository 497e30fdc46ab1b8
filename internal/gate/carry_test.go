package gate

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// keptTo opens a connection to an echo in a call, and keeps it.
func keptTo(t *testing.T, m *Meter) (gantry.Keepable, func()) {
	t.Helper()
	address := strings.TrimPrefix(rawServer(t, func(c net.Conn, br *bufio.Reader) { io.Copy(c, br) }), "http://")
	host, port, _ := net.SplitHostPort(address)
	e := NewEgress(gantry.Target{Scheme: "dicom", Host: host, Port: port}, Policy{})
	ctx, cancel := context.WithCancel(WithMeter(t.Context(), m))
	c, err := e.DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	k, ok := c.(gantry.Keepable)
	if !ok {
		t.Fatalf("%T cannot be kept", c)
	}
	k.Keep()
	return k, cancel
}

// exchange sends a text and waits for its echo.
func exchange(t *testing.T, c io.ReadWriter, r io.Reader) {
	t.Helper()
	b, err := io.ReadAll(r)
	if err == nil {
		_, err = c.Write(b)
	}
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, len(b)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCarry keeps a connection for three calls, each of which has its own bytes and times on record and no others.
func TestCarry(t *testing.T) {
	t.Parallel()
	first := NewMeter(time.Now)
	c, over := keptTo(t, first)
	exchange(t, c, strings.NewReader("what is agreed on before a call"))
	if first.HasBegun() {
		t.Fatal("what is agreed on is the call's first byte")
	}
	for i, body := range []string{"one", "two and more", "three"} {
		m := first
		if i > 0 {
			m = NewMeter(time.Now)
		}
		hooks := 0
		m.OnLastByte = func() { hooks++ }
		call, err := c.Carry(WithMeter(t.Context(), m))
		if err != nil || m.HasBegun() {
			t.Fatal(err, m.HasBegun())
		}
		exchange(t, c, call.Body(strings.NewReader(body)))
		call.Status(0xB000)
		call.End(nil)
		call.End(nil)
		exchange(t, c, strings.NewReader("between calls"))
		m.Close()
		o := m.Snapshot()
		if o.ReqSize != int64(len(body)) || o.ReqSHA != gantry.Digest(sha256.Sum256([]byte(body))) || o.Status != 0xB000 || o.TTFB <= 0 || o.Took < o.TTFB || hooks != 1 {
			t.Errorf("call %d: %+v, %d times", i, o, hooks)
		}
		over() // the end of the call that opened it ends it no more
	}
}

// TestCarrySeveral lets one call, also that of a processor, have several carriages, one after another.
func TestCarrySeveral(t *testing.T) {
	t.Parallel()
	m := NewMeter(time.Now)
	c, _ := keptTo(t, m)
	ctx := WithMeter(t.Context(), m)
	for range 2 {
		call, err := c.Carry(ctx)
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c, call.Body(strings.NewReader("ab")))
		if _, err := c.Carry(ctx); gantry.CodeOf(err) != CodeSecondSend {
			t.Errorf("a second carriage at once: %v", err)
		}
		call.End(nil)
	}
	m.Close()
	if o := m.Snapshot(); o.ReqSize != 4 || o.ReqSHA != gantry.Digest(sha256.Sum256([]byte("abab"))) {
		t.Errorf("%+v", o)
	}
	if _, err := c.Carry(ctx); gantry.CodeOf(err) != CodeSecondSend {
		t.Errorf("after the call's end: %v", err)
	}
}

func TestCarryRefuses(t *testing.T) {
	t.Parallel()
	c, _ := keptTo(t, NewMeter(time.Now))
	if _, err := c.Carry(t.Context()); gantry.CodeOf(err) != CodeNoRecord || gantry.KindOf(err) != gantry.Illegal {
		t.Errorf("without a call: %v", err)
	}
	other := NewMeter(time.Now)
	one, err := c.Carry(WithMeter(t.Context(), NewMeter(time.Now)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Carry(WithMeter(t.Context(), other)); gantry.CodeOf(err) != CodeSecondSend {
		t.Errorf("two calls at once: %v", err)
	}
	one.End(nil)
	two, err := c.Carry(WithMeter(t.Context(), other)) // which it did not use up
	if err != nil {
		t.Fatal(err)
	}
	two.End(errors.New("broken"))
	c.Close()
}

// TestCarryEnds counts no more bytes once the call is over.
func TestCarryEnds(t *testing.T) {
	t.Parallel()
	m := NewMeter(time.Now)
	c, _ := keptTo(t, m)
	call, err := c.Carry(WithMeter(t.Context(), m))
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	if _, err := call.Body(strings.NewReader("late")).Read(make([]byte, 4)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("read of a call that is over: %v", err)
	}
	call.End(nil)
	if m.HasBegun() {
		t.Error("a call that sent nothing has begun")
	}
}

// TestCarryControl counts control traffic on a kept connection under its key, each once.
func TestCarryControl(t *testing.T) {
	t.Parallel()
	c, _ := keptTo(t, NewMeter(time.Now))
	counts := NewControl(gantry.NewIDs(time.Now, new(zeroes)), time.Now)
	key := gantry.ControlKey{Boundary: gantry.AtSink, Limiter: 3}
	for range 2 {
		call, err := c.Carry(counts.WithControl(t.Context(), key))
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c, call.Body(strings.NewReader("echo")))
		call.End(nil)
	}
	var rows []gantry.Control
	counts.flush(t.Context(), func(_ context.Context, list []gantry.Control) error { rows = list; return nil })
	if len(rows) != 1 || rows[0].Requests != 2 || rows[0].ReqSize != 8 || rows[0].Limiter != 3 {
		t.Errorf("%+v", rows)
	}
}

type zeroes struct{}

func (*zeroes) Read(p []byte) (int, error) { return len(p), nil }
