package dimse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// moody is a listener whose first attempts fail as they do when too many files are open.
type moody struct {
	net.Listener
	fails int
}

func (m *moody) Accept() (net.Conn, error) {
	if m.fails--; m.fails >= 0 {
		return nil, errors.New("too many open files")
	}
	return m.Listener.Accept()
}

// TestListenerThatRecovers: errors that may pass are waited out, and said.
func TestListenerThatRecovers(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serverOf(newShelf())
	var mu sync.Mutex
	said := 0
	s.Log = func(peer netip.AddrPort, err error) {
		mu.Lock()
		defer mu.Unlock()
		if said++; peer.IsValid() || gantry.KindOf(err) != gantry.Unavailable {
			t.Errorf("%v %v", peer, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, &moody{l, 3}, time.Second) }()
	works(t, l.Addr().String())
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if mu.Lock(); said != 3 {
		t.Errorf("said %d times", said)
	}
	mu.Unlock()
}

// TestAbortOfOursWithinData: a handler that reads is told, and what came in part is not taken.
func TestAbortOfOursWithinData(t *testing.T) {
	h := newShelf()
	up := serve(t, serverOf(h), 50*time.Millisecond)
	r := greeted(t, up.address)
	r.say(pdata(pdv(3, 3, storeCommand("1.2.3"))))
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		for {
			if _, err := r.Write(pdata(pdv(3, 0, make([]byte, 1000)))); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	time.Sleep(50 * time.Millisecond)
	if err := up.stop(); err != nil {
		t.Error(err)
	}
	<-sending
	if err := <-h.ends; gantry.CodeOf(err) != CodeAborted {
		t.Errorf("ended with %v", err)
	}
	if _, ok := h.sum("1.2.3"); ok {
		t.Error("a part was taken for the whole")
	}
}

// TestDeadlineOfAnOperation ends the association, for the message has no end, and is told as what it is.
func TestDeadlineOfAnOperation(t *testing.T) {
	h := newShelf()
	up := serve(t, serverOf(h), time.Second)
	a := ask(t, up.address, plain())
	at, _ := a.Find(ctImage, ExplicitLE)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := a.send(ctx, message{context: at.ID, command: storeCommand("1.2.3"), data: endless{}})
	if err == nil {
		t.Error("data without an end were sent")
	}
	<-a.Done()
	if err := a.send(ctx, message{context: at.ID, command: echoCommand()}); gantry.CodeOf(err) != CodeAborted && gantry.KindOf(err) != gantry.Timeout {
		t.Errorf("%v", err)
	}
	<-h.ends
	b := ask(t, up.address, plain())
	b.sending <- struct{}{} // a message is on its way
	if err := b.send(ctx, message{context: at.ID, command: echoCommand()}); gantry.KindOf(err) != gantry.Timeout || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := b.Release(ctx); gantry.CodeOf(err) != CodeAborted {
		t.Errorf("released while a message is on its way: %v", err)
	}
	<-b.sending
	if err := b.Release(t.Context()); gantry.CodeOf(err) != CodeAborted {
		t.Errorf("released after the end: %v", err)
	}
}

// TestReleaseDoesNotWaitForever for an operation that does not end: it waits as long as for data.
func TestReleaseDoesNotWaitForever(t *testing.T) {
	h := newShelf()
	h.gate = make(chan struct{})
	s := serverOf(h)
	s.Timeouts = brief
	up := serve(t, s, time.Second)
	r := greeted(t, up.address)
	r.say(pdata(pdv(3, 3, storeCommand("1.2.3")), pdv(3, 2, noise(10))), control(pduReleaseRQ, 0, 0, 0))
	r.expect(pduReleaseRP)
	r.expectEnd()
	close(h.gate)
	if err := <-h.ends; err != nil {
		t.Errorf("%v", err)
	}
}

// TestSkippedData: a handler that does not want the data, or a part of them, leaves the association as it is.
func TestSkippedData(t *testing.T) {
	up := serve(t, serverOf(picky{newShelf()}), time.Second)
	a := ask(t, up.address, plain())
	for _, n := range []int{0, 10, 1 << 20} {
		if r, err := a.Store(t.Context(), storeOf(a, "1.2.3", bytes.NewReader(noise(n)))); err != nil || r.Status != StatusOutOfResources {
			t.Errorf("%d bytes: %v %v", n, r, err)
		}
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// picky reads a few bytes and refuses.
type picky struct{ *shelf }

func (picky) Store(_ context.Context, r StoreRequest) Response {
	_, _ = io.CopyN(io.Discard, r.Data, 5)
	return Response{Status: StatusOutOfResources}
}

// TestTextsOfRejections are for people; none is of bytes that a peer sent.
func TestTextsOfRejections(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range []*Rejection{rejectNoReason(), rejectApplication(), rejectVersion(), rejectLimit(), {Source: 1, Reason: 3}, {Source: 1, Reason: 7},
		{Transient: true, Source: 3, Reason: 1}, {Source: 9, Reason: 9}} {
		if s := r.Error(); seen[s] || len(s) < 20 {
			t.Errorf("%q", s)
		} else {
			seen[s] = true
		}
	}
}
