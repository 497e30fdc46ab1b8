package gate

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// callWire is the wire of one call of a driver that speaks its own protocol. It dies with the
// call's ctx, unless it is kept.
type callWire struct {
	*wire
	to    string
	meter atomic.Pointer[Meter] // of the call that it carries; nil between calls
	stop  func() bool
}

func (c *callWire) Read(p []byte) (int, error) {
	n, err := c.wire.Read(p)
	if m := c.meter.Load(); n > 0 && m != nil {
		m.Answered()
	}
	return n, err
}

// Close ends the call.
func (c *callWire) Close() error {
	c.stop()
	err := c.wire.Close()
	if m := c.meter.Load(); m != nil {
		m.LastByte()
	}
	return err
}

var _ gantry.Keepable = (*callWire)(nil)

// Keep lets the connection outlive the call that it was opened in.
func (c *callWire) Keep() {
	c.stop()
	m := c.meter.Swap(nil)
	if m == nil {
		return
	}
	c.wire.disarm()
	m.Several()
	m.LastByte() // of what may be several requests: the call goes on
}

// Carry has what follows be that of the call that runs in ctx. The call's first byte is the next one that is written, and the
// first of its answer the next one that is read.
func (c *callWire) Carry(ctx context.Context) (gantry.Carriage, error) {
	m := meterFor(ctx)
	if m == nil {
		return nil, gantry.Errorf(gantry.Illegal, CodeNoRecord, "send to %s: the call is not on record", c.to)
	}
	m.Several()
	if !m.take() {
		return nil, gantry.Errorf(gantry.Illegal, CodeSecondSend, "send to %s: the call on record is over, or is being sent", c.to)
	}
	if !c.meter.CompareAndSwap(nil, m) {
		m.LastByte()
		return nil, gantry.Errorf(gantry.Illegal, CodeSecondSend, "send to %s: the connection carries a call", c.to)
	}
	c.wire.arm(m)
	return &carriage{wire: c, meter: m, alone: MeterFrom(ctx) == nil}, nil
}

// carriage is one call on a kept connection.
type carriage struct {
	wire  *callWire
	meter *Meter
	alone bool // control traffic: nobody else closes its meter
}

// Body counts what is read of r.
func (c *carriage) Body(r io.Reader) io.Reader { return carried{r, c.meter} }

// Status keeps the protocol's own status.
func (c *carriage) Status(code int) { c.meter.SetStatus(code) }

// End ends it.
func (c *carriage) End(err error) {
	if !c.wire.meter.CompareAndSwap(c.meter, nil) {
		return
	}
	c.wire.wire.disarm()
	if err != nil {
		c.meter.broken(err)
	}
	if c.alone {
		c.meter.Close()
	} else {
		c.meter.LastByte()
	}
}

// carried counts a body. The first byte's moment is that of the connection.
type carried struct {
	r io.Reader
	m *Meter
}

func (c carried) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if !c.m.sent.add(p[:n]) {
		return 0, io.ErrClosedPipe
	}
	return n, err
}
