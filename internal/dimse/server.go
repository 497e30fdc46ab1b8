package dimse

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	defaultMost = 128
	waiting     = 64                     // connections beyond twice the most, that ask or are rejected
	quietTime   = 500 * time.Millisecond // of an association that a drain ends
	drainLook   = 50 * time.Millisecond
	usual       = 64 << 10 // bytes that a request seldom exceeds
	largeAtOnce = 8        // requests over that are read at once, so that many do not hold much
)

// Server accepts associations.
type Server struct {
	Admit    func(ctx context.Context, p Proposal) (Terms, error) // error: *Rejection
	Most     int                                                  // associations at once; 0: 128. Above it they are rejected: local limit exceeded
	TLS      *tls.Config                                          // nil: none
	Timeouts Timeouts
	Log      func(peer netip.AddrPort, err error) // what went wrong before an association was there; may be nil
}

// Serve accepts connections until ctx ends. Then it takes no more, rejects those that come, lets operations that are under way
// come to their end within grace, aborts the rest, and returns when all have ended. It leaves no goroutine behind. It closes the
// listener. An association on which nothing happens for half a second while the server drains is aborted before grace has passed.
// The error is why the listener failed, if it did.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	h := &house{server: s, base: base, most: s.Most, conns: map[net.Conn]*Association{}, large: make(chan struct{}, largeAtOnce)}
	if h.most <= 0 {
		h.most = defaultMost
	}
	failed := make(chan error, 1)
	go func() { failed <- h.accept(l) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	h.drain(grace)
	_ = l.Close()
	if err == nil {
		<-failed
	}
	cancel()
	h.clear()
	h.under.Wait()
	return err
}

// house is a server that runs.
type house struct {
	server *Server
	base   context.Context
	most   int
	large  chan struct{} // holds a token for each large request that is being read
	under  sync.WaitGroup

	mu       sync.Mutex
	draining bool
	closed   bool                      // nothing is taken in any more
	admitted int                       // associations
	conns    map[net.Conn]*Association // all that are open; nil while there is no association
}

// accept takes connections until the listener is closed. It waits a little after an error that may pass, such as too many open files.
func (h *house) accept(l net.Listener) error {
	pause := 5 * time.Millisecond
	for {
		conn, err := l.Accept()
		if err == nil {
			pause = 5 * time.Millisecond
			h.under.Go(func() { h.meet(conn) })
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return gantry.Errorf(gantry.Unavailable, CodeConnectionLost, "accept connection: the listener is closed")
		}
		if h.server.Log != nil {
			h.server.Log(netip.AddrPort{}, gantry.Errorf(gantry.Unavailable, CodeConnectionLost, "accept connection: %w", err))
		}
		time.Sleep(pause)
		pause = min(2*pause, time.Second)
	}
}

// enter counts a connection; false if there are too many.
func (h *house) enter(conn net.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.conns) >= 2*h.most+waiting {
		return false
	}
	h.conns[conn] = nil
	return true
}

// admit counts an association; false if it would be one too many.
func (h *house) admit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining || h.admitted >= h.most {
		return false
	}
	h.admitted++
	return true
}

// leave gives back what admit counted.
func (h *house) leave() {
	h.mu.Lock()
	h.admitted--
	h.mu.Unlock()
}

// meet sees a connection from its beginning to its end.
func (h *house) meet(raw net.Conn) {
	defer raw.Close()
	if !h.enter(raw) {
		h.log(raw, gantry.Errorf(gantry.Unavailable, CodeLocalLimit, "accept connection: too many are open"))
		return
	}
	defer func() {
		h.mu.Lock()
		delete(h.conns, raw)
		h.mu.Unlock()
	}()
	conn, times := raw, h.server.Timeouts.orDefault()
	if h.server.TLS != nil {
		secure := tls.Server(raw, h.server.TLS)
		if err := shakeHands(h.base, secure, times.Associate); err != nil {
			h.log(raw, err)
			partFrom(raw)
			return
		}
		conn = secure
	}
	a := newAssociation(h.base, conn, false, times)
	begun, err := h.greet(a, raw)
	if begun {
		defer h.leave()
	}
	if err != nil {
		h.log(raw, err)
		a.cancel(err)
		a.drain()
		a.link.hangUp(true)
		return
	}
	a.read()
}

// partFrom waits a little for the peer to close, so that what was sent last, such as an alert of TLS, is not lost with what the peer sent.
func partFrom(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	_ = conn.SetReadDeadline(time.Now().Add(linger))
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, maxAssociate))
}

func (h *house) log(conn net.Conn, err error) {
	if h.server.Log != nil {
		h.server.Log(address(conn), err)
	}
}

// drain lets what is under way end within grace and aborts the rest.
func (h *house) drain(grace time.Duration) {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	end := time.Now().Add(grace)
	for {
		late := !time.Now().Before(end)
		left := h.established()
		for _, a := range left {
			if late || a.quiet(quietTime) {
				h.under.Go(a.Abort)
			}
		}
		if late || len(left) == 0 {
			return
		}
		time.Sleep(min(drainLook, time.Until(end)))
	}
}

// established are the associations that are open.
func (h *house) established() []*Association {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Association
	for _, a := range h.conns {
		if a != nil {
			all = append(all, a)
		}
	}
	return all
}

// clear takes nothing in any more, closes connections that no association came of, and aborts what is left.
func (h *house) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for conn, a := range h.conns {
		if a == nil {
			_ = conn.Close()
			continue
		}
		h.under.Go(a.Abort)
	}
}
