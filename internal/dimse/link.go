package dimse

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	readBuffer = 32 << 10               // what is read behind a header; the rest of a PDU goes straight to where it belongs
	abortWait  = 200 * time.Millisecond // for a write under way to end before an abort
	linger     = time.Second            // after an abort of ours, for the peer to close
)

// Defaults of Timeouts.
func (t Timeouts) orDefault() Timeouts {
	set := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	set(&t.Associate, 30*time.Second)
	set(&t.Idle, 5*time.Minute)
	set(&t.Data, time.Minute)
	set(&t.Response, 5*time.Minute)
	set(&t.Release, 10*time.Second)
	return t
}

// link is an association's connection with the state machine that rules it.
type link struct {
	conn  net.Conn
	times Timeouts
	wait  time.Duration // of the next read; 0: no end. The reader's own

	out  sync.Mutex // held while PDUs are written; taken before mu
	torn bool       // a write broke off, perhaps within a PDU: nothing may follow. Guarded by out

	mu      sync.Mutex
	machine machine
	cut     time.Time // no read or write waits beyond it; zero: none
	cause   error     // why the association ends, if not by a release
}

// Read waits as long as wait says. Only the reader calls it.
func (l *link) Read(p []byte) (int, error) {
	l.mu.Lock()
	err := l.conn.SetReadDeadline(l.until(l.wait))
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return l.conn.Read(p)
}

// until is the end of a wait that begins now. mu is held.
func (l *link) until(wait time.Duration) time.Time {
	at := l.cut
	if wait > 0 {
		if end := time.Now().Add(wait); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at
}

// shorten has every wait end after d at the latest, those that have begun too. mu is held.
func (l *link) shorten(d time.Duration) {
	l.cut = time.Now().Add(d)
	_ = l.conn.SetReadDeadline(l.cut) // a connection that is closed already says so to its reader
}

// write sends whole PDUs in one write. out is held.
func (l *link) write(b []byte) error {
	if l.torn {
		return gantry.Errorf(gantry.Transient, CodeConnectionLost, "write PDU: an earlier write broke off")
	}
	l.mu.Lock()
	err := l.conn.SetWriteDeadline(l.until(l.times.Data))
	l.mu.Unlock()
	if err == nil {
		_, err = l.conn.Write(b)
	}
	if err == nil {
		return nil
	}
	l.torn = true
	if timeout(err) {
		return gantry.Errorf(gantry.Timeout, CodeData, "write PDU: the peer takes no more")
	}
	return gantry.Errorf(gantry.Transient, CodeConnectionLost, "write PDU: the connection broke")
}

// fire lets an event happen.
func (l *link) fire(e evt) act {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machine.fire(e)
}

// say fires an event of ours and, if it may happen now, sends a PDU; the answer to it, or the end of the connection, is waited
// for by the reader, for as long as a release takes.
func (l *link) say(e evt, pdu []byte) (act, error) {
	l.mu.Lock()
	do := l.machine.fire(e)
	if do != actNone {
		l.shorten(l.times.Release)
	}
	l.mu.Unlock()
	if do == actNone {
		return do, nil
	}
	l.out.Lock()
	defer l.out.Unlock()
	return do, l.write(pdu)
}

// fail keeps why the association ends and gives the reader a little time to find out more, such as an abort that came.
func (l *link) fail(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause = cause
	}
	l.shorten(linger)
}

// abort fires an event of ours that leads to an abort, if it may happen now, and does what breakOff does.
func (l *link) abort(e evt, cause error, source, reason byte, wait time.Duration) {
	switch l.fire(e) {
	case aa1, aa8:
		l.breakOff(cause, source, reason, wait)
	}
}

// breakOff sends an A-ABORT, unless an earlier write broke off, and has the reader wait no longer than wait for the peer to close.
func (l *link) breakOff(cause error, source, reason byte, wait time.Duration) {
	l.mu.Lock()
	if l.cause == nil {
		l.cause = cause
	}
	l.shorten(wait)
	_ = l.conn.SetWriteDeadline(time.Now().Add(min(wait, abortWait)))
	l.mu.Unlock()
	l.out.Lock()
	defer l.out.Unlock()
	if !l.torn {
		_ = l.write(encodeAbort(source, reason)) // a peer that cannot be told finds out
	}
}

// repeat tells a peer that goes on after the end that there is no association (AA-7).
func (l *link) repeat() {
	l.out.Lock()
	defer l.out.Unlock()
	if !l.torn {
		_ = l.write(encodeAbort(abortProvider, reasonUnexpected)) // the same
	}
}

// now is the machine's state.
func (l *link) now() sta {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machine.state
}

// why is the reason of an end that somebody else brought about.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return l.cause
	}
	return gantry.Errorf(gantry.Transient, CodeEarlyEnd, "use association: it has ended")
}

// hangUp closes the connection; after a break without waiting for the peer's TLS.
func (l *link) hangUp(broken bool) {
	if t, ok := l.conn.(*tls.Conn); ok && broken {
		_ = t.NetConn().Close()
		return
	}
	_ = l.conn.Close()
}

func timeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}
