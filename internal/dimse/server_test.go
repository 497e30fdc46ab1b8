package dimse

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestRejections: each reason that we reject for, as bytes (PS3.8 section 9.3.4), and who is not let in.
func TestRejections(t *testing.T) {
	var refuse error
	s := serverOf(newShelf())
	s.Most, s.Timeouts = 1, brief
	s.Admit = func(context.Context, Proposal) (Terms, error) {
		return Terms{Handler: newShelf(), Accept: takeAll}, refuse
	}
	up := serve(t, s, time.Second)
	for name, c := range map[string]struct {
		change func(*associate)
		refuse error
		want   [3]byte
		code   gantry.Code
	}{
		"version":     {func(m *associate) { m.version = 2 }, nil, [3]byte{1, 2, 2}, ""},
		"application": {func(m *associate) { m.application = "1.2.840.10008.3.1.1.2" }, nil, [3]byte{1, 1, 2}, ""},
		"none at all": {func(m *associate) { m.application = "" }, nil, [3]byte{1, 1, 2}, ""},
		"calling":     {nil, &Rejection{Source: 1, Reason: 3}, [3]byte{1, 1, 3}, ""},
		"called":      {nil, &Rejection{Source: 1, Reason: 7}, [3]byte{1, 1, 7}, ""},
		"congestion":  {nil, &Rejection{Transient: true, Source: 3, Reason: 1}, [3]byte{2, 3, 1}, ""},
		"an error":    {nil, gantry.Errorf(gantry.Denied, "x", "no"), [3]byte{1, 1, 1}, ""},
		"for now":     {nil, gantry.Errorf(gantry.Unavailable, "x", "no"), [3]byte{2, 1, 1}, ""},
	} {
		refuse = c.refuse
		r := rawTo(t, up.address)
		change := c.change
		if change == nil {
			change = func(*associate) {}
		}
		r.say(request(t, change))
		if b := r.expect(pduAssociateRJ); [3]byte(b[1:]) != c.want {
			t.Errorf("%s: rejected by % x", name, b[1:])
		}
		_ = r.Close()
	}
	refuse = nil
	a := ask(t, up.address, plain())
	_, err := Request(t.Context(), dial(t, up.address), plain())
	if r, ok := errors.AsType[*Rejection](err); !ok || *r != *rejectLimit() || gantry.KindOf(err) != gantry.Unavailable {
		t.Errorf("the second of one at most: %v", err)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	eventually(t, func() bool {
		b, err := Request(t.Context(), dial(t, up.address), plain())
		return err == nil && b.Release(t.Context()) == nil
	})
	if n := len(up.logged()); n < 9 {
		t.Errorf("%d refusals are logged", n)
	}
}

func eventually(t testing.TB, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it does not come about")
}

// TestNegotiation: contexts, roles, window, identity and maximum lengths, as both sides see them.
func TestNegotiation(t *testing.T) {
	var seen Proposal
	s := serverOf(nil)
	s.Admit = func(_ context.Context, p Proposal) (Terms, error) {
		seen = p
		return Terms{Handler: newShelf(), MaxPDU: 20000, Window: 3, Accept: func(c Context) int {
			switch {
			case c.Abstract == StorageCommitment:
				return 0
			case c.Abstract == ctImage && len(c.Transfer) == 2:
				return 1
			case c.Abstract == ctImage:
				return -2
			case c.Abstract == StudyRootFind:
				return 7
			}
			return -1
		}}, nil
	}
	up := serve(t, s, time.Second)
	p := plain()
	p.Contexts = append(p.Contexts, Context{Abstract: StorageCommitment, Transfer: []string{ImplicitLE}, SCP: true}, Context{Abstract: StudyRootFind, Transfer: []string{ImplicitLE}})
	p.Window, p.MaxPDU = 5, 30000
	p.Identity = &Identity{Type: 2, Primary: []byte("who"), Secondary: []byte("pass"), Response: true}
	a := ask(t, up.address, p)
	want := []Accepted{{ID: 3, Abstract: ctImage, Transfer: ImplicitLE, SCU: true}, {ID: 7, Abstract: StorageCommitment, Transfer: ImplicitLE, SCP: true}}
	if c := a.Contexts(); len(c) != 2 || c[0] != want[0] || c[1] != want[1] {
		t.Errorf("contexts %+v", c)
	}
	if _, ok := a.Find(ctImage, ExplicitLE); ok {
		t.Error("a syntax that was not chosen is found")
	}
	if c, ok := a.Find(ctImage, ""); !ok || c != want[0] {
		t.Errorf("found %+v", c)
	}
	if q := a.Peer(); q.MaxPDU != 20000 || q.Window != 3 || q.Implementation != implementationClass || q.Version != implementationVersion || q.Address.String() != up.address {
		t.Errorf("peer %+v", q)
	}
	if seen.MaxPDU != 30000 || seen.Window != 5 || seen.Calling != "TESTER" || string(seen.Identity.Secondary) != "pass" || !seen.Contexts[3].SCP || seen.Contexts[3].SCU || seen.Contexts[0].SCU {
		t.Errorf("proposal %+v", seen)
	}
	if err := a.Release(t.Context()); err != nil {
		t.Error(err)
	}
	b := ask(t, accepting(t, func(r raw) { r.expectEnd() }, func(m *associate) {
		m.user.window = &window{invoked: 0, performed: 0}
		m.user.limited = false
	}), Params{Calling: "A", Called: "B", Contexts: plain().Contexts, Window: 4})
	if q := b.Peer(); q.Window != 4 || q.MaxPDU != assumedMaxPDU {
		t.Errorf("peer %+v", q)
	}
	p = plain()
	p.Identity = &Identity{Type: 1, Primary: []byte("who"), Response: true}
	_, err := Request(t.Context(), dial(t, accepting(t, func(r raw) { r.expectAbort(abortUser, reasonNone) })), p)
	if gantry.KindOf(err) != gantry.Denied || gantry.CodeOf(err) != CodeIdentityIgnored {
		t.Errorf("an identity that is not confirmed: %v", err)
	}
}

// counter counts how many stores run at once.
type counter struct {
	*shelf
	now, most atomic.Int32
}

func (c *counter) Store(ctx context.Context, r StoreRequest) Response {
	_, _ = io.Copy(io.Discard, r.Data)
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	time.Sleep(20 * time.Millisecond)
	return Response{}
}

// TestWindowOnTheWire: as many operations run at once as were agreed on, even for a peer that does not keep to it.
func TestWindowOnTheWire(t *testing.T) {
	for _, c := range []struct{ ours, theirs, want int }{{1, 1, 1}, {8, 3, 3}, {2, 8, 2}} {
		h := &counter{shelf: newShelf()}
		s := serverOf(nil)
		s.Admit = func(context.Context, Proposal) (Terms, error) {
			return Terms{Handler: h, Accept: takeAll, Window: c.ours}, nil
		}
		up := serve(t, s, time.Second)
		p := plain()
		p.Window = c.theirs
		a := ask(t, up.address, p)
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				if r, err := a.Store(t.Context(), storeOf(a, "1.2."+string(rune('1'+i%9)), bytes.NewReader(noise(1000)))); err != nil || r.Status != 0 {
					t.Errorf("%v %v", r, err)
				}
			})
		}
		all.Wait()
		if most := int(h.most.Load()); most != c.want {
			t.Errorf("%+v: %d at once", c, most)
		}
	}
	h := &counter{shelf: newShelf()}
	up := serve(t, serverOf(h), time.Second)
	r := greeted(t, up.address)
	for range 5 {
		r.say(pdata(pdv(3, 3, storeCommand("1.2.3")), pdv(3, 2, noise(10))))
	}
	for range 5 {
		r.status()
	}
	if h.most.Load() != 1 {
		t.Errorf("%d at once for a peer without a window", h.most.Load())
	}
	_ = r.Close()
}

// TestDrain: a server that ends lets what is under way come to its end, rejects who comes, and aborts who does nothing.
func TestDrain(t *testing.T) {
	h := newShelf()
	h.gate = make(chan struct{})
	s := serverOf(h)
	s.Most = 8
	up := serve(t, s, 20*time.Second)
	idle := greeted(t, up.address)
	busy := ask(t, up.address, plain())
	stored := make(chan error, 1)
	go func() {
		r, err := busy.Store(t.Context(), storeOf(busy, "1.2.3", bytes.NewReader(noise(1000))))
		if err == nil && r.Status != StatusSuccess {
			err = errors.New("not taken")
		}
		stored <- err
	}()
	eventually(t, func() bool { return h.read.Load() == 1 })
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- up.stop() }()
	time.Sleep(50 * time.Millisecond)
	_, err := Request(t.Context(), dial(t, up.address), plain())
	if r, ok := errors.AsType[*Rejection](err); !ok || *r != *rejectLimit() {
		t.Errorf("who comes: %v", err)
	}
	idle.expectAbort(abortUser, reasonNone)
	close(h.gate)
	if err := <-stored; err != nil {
		t.Errorf("what was under way: %v", err)
	}
	if err := busy.Release(t.Context()); err != nil {
		t.Errorf("release: %v", err)
	}
	if err := <-ended; err != nil || time.Since(began) > 15*time.Second {
		t.Errorf("ended with %v after %s", err, time.Since(began))
	}
	if _, err := net.Dial("tcp", up.address); err == nil {
		t.Error("the listener is open")
	}
}

// TestGraceEnds: what does not come to its end within grace is aborted, and its handler is told by its context.
func TestGraceEnds(t *testing.T) {
	h := newShelf()
	h.gate = make(chan struct{})
	up := serve(t, serverOf(h), 100*time.Millisecond)
	a := ask(t, up.address, plain())
	stored := make(chan error, 1)
	go func() {
		_, err := a.Store(t.Context(), storeOf(a, "1.2.3", bytes.NewReader(noise(1000))))
		stored <- err
	}()
	waiting := rawTo(t, up.address)
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	if err := up.stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	if err := <-stored; gantry.CodeOf(err) != CodeAborted {
		t.Errorf("the operation: %v", err)
	}
	if err := <-h.ends; gantry.CodeOf(err) != CodeAborted {
		t.Errorf("the handler was told %v", err)
	}
	waiting.expectEnd()
}

// TestListenerThatFails ends the server.
func TestListenerThatFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := serverOf(nil).Serve(t.Context(), l, time.Second); gantry.KindOf(err) != gantry.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestManyAssociations opens 10,000 one after another, and many at once: neither memory nor goroutines grow.
func TestManyAssociations(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 500
	}
	h := newShelf()
	s := serverOf(h)
	s.Most = 64
	up := serve(t, s, time.Second)
	one := func(t testing.TB) error {
		c, err := net.Dial("tcp", up.address)
		if err != nil {
			return err
		}
		a, err := Request(t.Context(), c, plain())
		if err != nil {
			return err
		}
		if _, err := a.Store(t.Context(), storeOf(a, "1.2.3", bytes.NewReader(noise(1000)))); err != nil {
			return err
		}
		return a.Release(t.Context())
	}
	if err := one(t); err != nil {
		t.Fatal(err)
	}
	before, routines := heap(), runtime.NumGoroutine()
	for range n {
		if err := one(t); err != nil {
			t.Fatal(err)
		}
		if err := <-h.ends; err != nil {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("%d bytes more are held", grown)
	}
	if now := runtime.NumGoroutine(); now > routines+20 {
		t.Errorf("%d goroutines, %d before", now, routines)
	}
	var all sync.WaitGroup
	var done, rejected atomic.Int32
	for range 300 {
		all.Go(func() {
			switch err := one(t); {
			case err == nil:
				done.Add(1)
			case gantry.CodeOf(err) == CodeLocalLimit, gantry.KindOf(err) == gantry.Transient:
				rejected.Add(1)
			default:
				t.Errorf("%v", err)
			}
		})
	}
	all.Wait()
	if done.Load() < 64 || done.Load()+rejected.Load() != 300 {
		t.Errorf("%d done, %d rejected", done.Load(), rejected.Load())
	}
	works(t, up.address)
}
