package dimse

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSilentAndSlowPeers: nobody can stay longer than the timeouts allow.
func TestSilentAndSlowPeers(t *testing.T) {
	h := newShelf()
	s := serverOf(h)
	s.Timeouts = brief
	up := serve(t, s, time.Second)
	began := time.Now()
	t.Run("silent", func(t *testing.T) {
		for name, b := range map[string][]byte{"nothing": nil, "a header": request(t)[:6], "half a request": request(t)[:100]} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := rawTo(t, up.address)
				r.say(b)
				r.expectEnd()
			})
		}
		t.Run("drop by drop", func(t *testing.T) {
			t.Parallel()
			r := rawTo(t, up.address)
			go func() {
				for _, b := range request(t) {
					if _, err := r.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(20 * time.Millisecond)
				}
			}()
			r.expectEnd()
		})
	})
	if d := time.Since(began); d < brief.Associate || d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	for code, b := range map[gantry.Code][]byte{
		CodeIdle: nil, CodeData: storeHalf(),
	} {
		r := greeted(t, up.address)
		r.say(b)
		r.expectAbort(abortUser, reasonNone)
		if err := <-h.ends; gantry.CodeOf(err) != code || gantry.KindOf(err) != gantry.Timeout {
			t.Errorf("%s: ended with %v", code, err)
		}
	}
	within := greeted(t, up.address)
	within.say(pdata(pdv(1, controlCommand|controlLast, echoCommand()))[:20])
	within.expectAbort(abortUser, reasonNone)
	if err := <-h.ends; gantry.CodeOf(err) != CodeData {
		t.Errorf("ended with %v", err)
	}
}

func storeHalf() []byte {
	return slices.Concat(pdata(pdv(3, controlCommand|controlLast, storeCommand("1.2.3"))), pdata(pdv(3, 0, noise(10))))
}

// TestLargeRequests: few of them are read at once, and others do not wait for them.
func TestLargeRequests(t *testing.T) {
	s := serverOf(newShelf())
	s.Timeouts = brief
	s.Timeouts.Associate = 2 * time.Second
	up := serve(t, s, time.Second)
	large := request(t, func(m *associate) {
		for i := range m.contexts {
			m.contexts[i].transfer = slices.Repeat(m.contexts[i].transfer[:1], 250)
		}
		m.user.identity = &Identity{Type: 5, Primary: make([]byte, 60_000)}
	})
	if len(large) < usual {
		t.Fatalf("%d bytes", len(large))
	}
	var slow []raw
	for range largeAtOnce {
		r := rawTo(t, up.address)
		r.say(large[:100])
		slow = append(slow, r)
	}
	time.Sleep(100 * time.Millisecond)
	works(t, up.address)
	r := rawTo(t, up.address)
	r.say(large)
	_ = r.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := r.Read(make([]byte, 1)); n != 0 || !timeout(err) {
		t.Errorf("a large request is answered while %d others are read: %d %v", largeAtOnce, n, err)
	}
	_ = slow[0].Close()
	r.expect(pduAssociateAC)
	for _, r := range append(slow[1:], r) {
		_ = r.Close()
	}
}

// TestPatienceWithOperations: while an operation of the peer is under way, it is not the peer who is idle.
func TestPatienceWithOperations(t *testing.T) {
	h := newShelf()
	h.gate = make(chan struct{})
	s := serverOf(h)
	s.Timeouts = brief
	up := serve(t, s, time.Second)
	a := ask(t, up.address, plain())
	time.AfterFunc(3*brief.Idle, func() { close(h.gate) })
	if r, err := a.Store(t.Context(), storeOf(a, "1.2.3", bytes.NewReader(noise(10)))); err != nil || r.Status != StatusSuccess {
		t.Errorf("%v %v", r, err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBackPressure: data that nobody takes stay where they are.
func TestBackPressure(t *testing.T) {
	h := &idler{shelf: newShelf(), gate: make(chan struct{})}
	s := serverOf(h)
	up := serve(t, s, time.Second)
	r := greeted(t, up.address)
	before := heap()
	r.say(pdata(pdv(3, controlCommand|controlLast, storeCommand("1.2.3"))))
	_ = r.SetWriteDeadline(time.Now().Add(time.Second))
	sent := 0
	chunk := pdata(pdv(3, 0, noise(100_000)))
	for sent < 1<<30 {
		n, err := r.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 64<<20 {
		t.Errorf("%d bytes went to somebody who reads none", sent)
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("%d bytes are held", grown)
	}
	_ = r.Close()
	close(h.gate)
	<-h.ends
}

// idler reads no data until its gate opens.
type idler struct {
	*shelf
	gate chan struct{}
}

func (i *idler) Store(ctx context.Context, r StoreRequest) Response {
	<-i.gate
	return i.shelf.Store(ctx, r)
}
