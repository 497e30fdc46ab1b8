package gate

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Meter holds the numbers of one running call. A call is one request and one answer, so a Meter
// serves once, unless it is told that there may be Several. All methods may be used concurrently.
// Egress fills it for HTTP; drivers of other kinds are counted with CountRequest and CountResponse.
type Meter struct {
	// OnLastByte, if set before the call starts, runs exactly once, inside the read that gave the
	// answer's last byte, or when the call ended without one; of several requests that is Close. It
	// must not block.
	OnLastByte func()

	// alive, if set, is asked just before the first byte leaves: a process that stood still after it was let out must not send then.
	alive func() bool

	now       func() time.Time
	start     time.Time
	sent, got flow

	mu                     sync.Mutex
	begun, answered, ended time.Time
	status                 int32
	several                bool
	requests               int   // that were let out
	running                bool  // one of them is on its way
	left                   bool  // a byte of it is
	over                   bool  // OnLastByte ran
	broke                  error // what the last one ended with
}

// flow counts and hashes one direction. After sealed it takes nothing more.
type flow struct {
	mu     sync.Mutex
	n      int64
	sum    hash.Hash
	sealed bool
}

func (f *flow) add(p []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.sealed {
		f.n += int64(len(p))
		f.sum.Write(p)
	}
	return !f.sealed
}

func (f *flow) seal() {
	f.mu.Lock()
	f.sealed = true
	f.mu.Unlock()
}

func (f *flow) total() (int64, gantry.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n, gantry.Digest(f.sum.Sum(nil))
}

// NewMeter starts the meter of one call at the making of its intent.
func NewMeter(now func() time.Time) *Meter {
	return &Meter{now: now, start: now(), sent: flow{sum: sha256.New()}, got: flow{sum: sha256.New()}}
}

// madeAt sets the making of the intent back to the moment that its id holds, so that the two give the moment
// of the first byte, however long the process stood still between them. A clock that disagrees is ignored.
func (m *Meter) madeAt(t time.Time) {
	if d := m.start.Sub(t); d > 0 && d < time.Second {
		m.start = m.start.Add(-d)
	}
}

type meterKey struct{}

// WithMeter gives a ctx in which m's call runs. Cancel it when the call is over: that releases the
// connection of a driver that forgot to close an answer.
func WithMeter(ctx context.Context, m *Meter) context.Context {
	return context.WithValue(ctx, meterKey{}, m)
}

// MeterFrom gives the running call's meter; nil if there is none, and then nothing may leave.
func MeterFrom(ctx context.Context) *Meter {
	m, _ := ctx.Value(meterKey{}).(*Meter)
	return m
}

// Several allows the call more than one request, each after the one before has ended: pages, ranges,
// the pieces of an upload. Sizes and digests are then over all bodies in their order, the status is
// that of the last answer, and times run from the first byte of the first to the last byte of the last.
func (m *Meter) Several() {
	m.mu.Lock()
	m.several = true
	m.mu.Unlock()
}

// take claims the meter for a request; false if one is under way, if there was one and the call may not
// make several, and once the call is over.
func (m *Meter) take() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over || m.running || m.requests > 0 && !m.several {
		return false
	}
	m.requests++
	m.running, m.left, m.broke = true, false, nil
	return true
}

// Began marks the moment at which the first byte of the request leaves. Only the first mark counts.
func (m *Meter) Began() { m.beginAt(m.now()) }

func (m *Meter) beginAt(at time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun.IsZero() {
		m.begun = at
	}
	first := !m.left
	m.left = true
	return first
}

// notBegun takes a mark back: the write it was made for put nothing on the wire.
func (m *Meter) notBegun() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = false
	if m.requests <= 1 {
		m.begun = time.Time{}
	}
}

// hasLeft tells whether a byte of the request under way left.
func (m *Meter) hasLeft() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left
}

// broken keeps what the request under way ended with.
func (m *Meter) broken(err error) {
	m.mu.Lock()
	m.broke = err
	m.mu.Unlock()
}

// HasBegun tells whether a byte of the request left. Without one the call's result is not_sent.
func (m *Meter) HasBegun() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.begun.IsZero()
}

// Answered marks the first byte of the answer. Only the first mark counts. A call that is only
// read from began with it.
func (m *Meter) Answered() {
	at := m.now()
	m.beginAt(at)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.answered.IsZero() {
		m.answered = at
	}
}

// SetStatus keeps the protocol's own status, such as 200.
func (m *Meter) SetStatus(code int) {
	m.mu.Lock()
	m.status = int32(code)
	m.mu.Unlock()
}

// LastByte marks the answer's last byte, or the end of a request that got none, and runs OnLastByte
// unless more requests may follow. Only the first mark of each request counts.
func (m *Meter) LastByte() { m.end(false) }

// Close ends the call if nothing else did, and makes the numbers final: a body that is still being
// sent is cut where it is, and an answer is read no further.
func (m *Meter) Close() {
	m.end(true)
	m.sent.seal()
	m.got.seal()
}

func (m *Meter) end(final bool) {
	at := m.now()
	m.mu.Lock()
	if m.ended.IsZero() || m.several && m.running && !m.over {
		m.ended = at
	}
	m.running = false
	run := !m.over && (final || !m.several)
	m.over = m.over || run
	m.mu.Unlock()
	if run && m.OnLastByte != nil {
		m.OnLastByte()
	}
}

// Snapshot gives the call's numbers: Status, Sent, TTFB, Took, sizes and digests; all else is zero.
// A call that never began has no times and no digests, one without an answer no TTFB and no RespSHA;
// Took then runs to the moment it was given up. ReqSize and ReqSHA are what was handed to the
// connection: when it broke, its last 256 KiB may not have arrived.
func (m *Meter) Snapshot() gantry.Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := gantry.Outcome{Status: m.status}
	if m.begun.IsZero() {
		return o
	}
	end := m.ended
	if end.IsZero() {
		end = m.now()
	}
	o.Sent, o.Took = m.begun.Sub(m.start), max(0, end.Sub(m.begun))
	o.ReqSize, o.ReqSHA = m.sent.total()
	if !m.answered.IsZero() {
		o.TTFB = max(0, m.answered.Sub(m.begun))
		o.RespSize, o.RespSHA = m.got.total()
	}
	return o
}

// CountRequest counts what is read from r as the request's body. The call begins with its first
// byte. Not for HTTP, which Egress counts.
func (m *Meter) CountRequest(r io.Reader) io.Reader { return &requestReader{r, m} }

type requestReader struct {
	r io.Reader
	m *Meter
}

func (r *requestReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		if !r.m.sent.add(p[:n]) {
			return 0, io.ErrClosedPipe
		}
		r.m.Began()
		fail.Point("while_sending")
	}
	return n, err
}

// CountResponse counts what is read from r as the answer's body. Its end or error ends the call.
// Not for HTTP, which Egress counts.
func (m *Meter) CountResponse(r io.Reader) io.Reader { return &responseReader{r, m} }

type responseReader struct {
	r io.Reader
	m *Meter
}

func (r *responseReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.m.Answered()
		fail.Point("while_receiving")
		if !r.m.got.add(p[:n]) {
			return 0, io.ErrClosedPipe
		}
	}
	if err != nil {
		r.m.LastByte()
	}
	return n, err
}

// sentBody is a request's body on its way out: counted, held to its declared length, and its own
// errors told apart from those of the network.
type sentBody struct {
	io.ReadCloser
	meter  *Meter
	left   int64 // what Content-Length still promises; -1 if it is not known
	failed func(error)
	closed atomic.Bool
}

// Read looks for the end before it gives the last declared byte: what it finds there, an error or
// more bytes, must be known while the peer still waits for that byte.
func (b *sentBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.left > 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left > 0 {
		n, err = b.hold(n, err)
	}
	if err != nil && err != io.EOF && !b.closed.Load() {
		b.failed(err)
	}
	if !b.meter.sent.add(p[:n]) {
		return 0, io.ErrClosedPipe
	}
	return n, err
}

// hold keeps a body to its declared length.
func (b *sentBody) hold(n int, err error) (int, error) {
	b.left -= int64(n)
	if b.left > 0 {
		if err == io.EOF {
			err = gantry.Errorf(gantry.Illegal, CodeBodyLength, "read the request's body: %d bytes fewer than declared", b.left)
		}
		return n, err
	}
	if err == nil {
		_, err = io.ReadFull(b.ReadCloser, make([]byte, 1))
	}
	if err == nil {
		err = gantry.Errorf(gantry.Illegal, CodeBodyLength, "read the request's body: it is longer than declared")
	}
	if err != io.EOF {
		return 0, err
	}
	return n, io.EOF
}

// Close closes the driver's body. What a read returns after it is not the body's own error.
func (b *sentBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}
