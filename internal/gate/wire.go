package gate

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The states of a wire while it carries a request.
const (
	wireIdle  int32 = iota
	wireArmed       // given to a request that has written nothing
	wireWrote       // the request is on its way
	wireFresh       // bytes came in after that
)

// wire is a connection that knows when a request's first byte leaves, and whether what comes in
// came after it. An answer that lay there before the request is not the answer to it.
type wire struct {
	net.Conn
	state atomic.Int32
	meter atomic.Pointer[Meter]
	broke atomic.Pointer[error] // the first error, which those of a closed connection hide
}

func (w *wire) note(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		w.broke.CompareAndSwap(nil, &err)
	}
}

func (w *wire) arm(m *Meter) {
	w.meter.Store(m)
	w.state.Store(wireArmed)
}

// disarm leaves the wire to no call.
func (w *wire) disarm() {
	w.meter.Store(nil)
	w.state.Store(wireIdle)
}

func (w *wire) fresh() bool { return w.state.Load() == wireFresh }

// Write sets its marks before it writes, as the answer may be quicker than the return.
func (w *wire) Write(p []byte) (int, error) {
	if !w.state.CompareAndSwap(wireArmed, wireWrote) {
		n, err := w.Conn.Write(p)
		w.note(err)
		return n, err
	}
	m := w.meter.Swap(nil)
	if m == nil { // disarmed at this moment
		return w.Conn.Write(p)
	}
	if m.alive != nil && !m.alive() {
		w.Conn.Close()
		return 0, gantry.ErrFenced
	}
	first := m.beginAt(m.now())
	n, err := w.Conn.Write(p)
	fail.Point("after_first_byte")
	w.note(err)
	if n == 0 && first {
		m.notBegun()
	}
	return n, err
}

// maxEmpty is how many reads of a body may give nothing, one after another.
const maxEmpty = 100

// sendSize is what is read of a body before it is written, in bytes: each write wakes the peer.
const sendSize = 256 << 10

var sendBuffers = sync.Pool{New: func() any { return new([sendSize]byte) }}

// ReadFrom sends what r gives, in few writes. net/http hands it what of a body does not fit beside
// the header.
func (w *wire) ReadFrom(r io.Reader) (n int64, err error) {
	buf := sendBuffers.Get().(*[sendSize]byte)
	defer sendBuffers.Put(buf)
	for err == nil {
		k := 0
		for empty := 0; k < len(buf) && err == nil; empty++ {
			var got int
			if got, err = r.Read(buf[k:]); got > 0 {
				k, empty = k+got, 0
			} else if err == nil && empty > maxEmpty {
				err = io.ErrNoProgress
			}
		}
		if k == 0 {
			break
		}
		sent, werr := w.Write(buf[:k])
		n += int64(sent)
		if werr != nil {
			return n, werr
		}
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.note(err)
	if n > 0 {
		w.state.CompareAndSwap(wireWrote, wireFresh)
	}
	return n, err
}
