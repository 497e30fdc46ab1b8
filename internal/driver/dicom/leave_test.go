package dicom

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
)

// idling is a sender with n associations that nobody uses.
func idling(t *testing.T, address string, n int) *sender {
	t.Helper()
	s := newSender(drivertest.Egress(t), peering{address: address, calling: "GANTRY", called: "PACS", most: n})
	var lines []*line
	for range n {
		l, err := s.borrow(t.Context(), pairEcho)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	for _, l := range lines {
		s.giveBack(l)
	}
	return s
}

// Every association that nobody uses is released; one that is in use ends when it is given back.
func TestLeave(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	s := idling(t, a.address, 4)
	used, err := s.borrow(t.Context(), pairEcho)
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	ends := func(n int) func() bool {
		return func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.ends) == n }
	}
	eventually(t, "not all ended", ends(3))
	if r, err := used.Echo(t.Context()); err != nil || r.Status != dimse.StatusSuccess {
		t.Errorf("the one in use: %+v, %v", r, err)
	}
	s.giveBack(used)
	eventually(t, "the last has not ended", ends(4))
	for _, err := range a.ends {
		if err != nil {
			t.Errorf("one was not released: %v", err)
		}
	}
}

// muted carries connections to an address, until nothing comes through any more.
func muted(t *testing.T, address string) (at string, mute func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var silent atomic.Bool
	var g sync.WaitGroup
	carry := func(to, from net.Conn) {
		defer to.Close()
		buffer := make([]byte, 4096)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if silent.Load() {
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	g.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d, err := net.Dial("tcp", address)
			if err != nil {
				c.Close()
				return
			}
			g.Go(func() { carry(d, c) })
			g.Go(func() { carry(c, d) })
		}
	})
	t.Cleanup(func() { l.Close(); g.Wait() })
	return l.Addr().String(), func() { silent.Store(true) }
}

// A peer that does not answer is left all the same, in the time that one takes, however many associations there are.
func TestLeaveSilentPeer(t *testing.T) {
	t.Parallel()
	a := archiveAt(t, &archive{}, nil)
	at, mute := muted(t, a.address)
	s := idling(t, at, 4)
	mute()
	began := time.Now()
	s.close()
	if took := time.Since(began); took > 2*releaseWithin {
		t.Errorf("it took %s", took)
	}
	if len(s.free) != 0 {
		t.Errorf("%d are kept", len(s.free))
	}
}
