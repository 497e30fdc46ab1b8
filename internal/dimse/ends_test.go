package dimse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	ctImage = "1.2.840.10008.5.1.4.1.1.2"
	jpegLS  = "1.2.840.10008.1.2.4.80"
)

// brief are timeouts of a test whose peer is silent on purpose.
var brief = Timeouts{Associate: 300 * time.Millisecond, Idle: 300 * time.Millisecond, Data: 300 * time.Millisecond, Release: 300 * time.Millisecond}

// shelf is a handler that keeps digests.
type shelf struct {
	mu     sync.Mutex
	sums   map[string][32]byte
	status Status
	gate   chan struct{} // if set, Store waits for it after it has read the data
	read   atomic.Int32  // how often Store has read the data
	ends   chan error
}

func newShelf() *shelf { return &shelf{sums: map[string][32]byte{}, ends: make(chan error, 20000)} }

func (s *shelf) Store(ctx context.Context, r StoreRequest) Response {
	h := sha256.New()
	if _, err := io.Copy(h, r.Data); err != nil {
		return Response{Status: StatusProcessing}
	}
	s.read.Add(1)
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sums[r.Instance] = [32]byte(h.Sum(nil))
	return Response{Status: s.status}
}

func (s *shelf) Commit(context.Context, Commitment) Response { return Response{Status: StatusSuccess} }
func (s *shelf) Reported(context.Context, Commitment) Response {
	return Response{Status: StatusSuccess}
}
func (s *shelf) Ended(err error) { s.ends <- err }

// clear forgets what was stored.
func (s *shelf) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sums)
}

func (s *shelf) sum(instance string) ([32]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.sums[instance]
	return v, ok
}

// takeAll accepts the first transfer syntax of every context.
func takeAll(Context) int { return 0 }

// serving is a server that a test has started.
type serving struct {
	address string
	stop    func() error // ends it as a signal would, and waits
	logged  func() []error
}

// serve starts a server and stops it, at the latest, at the end of the test; nothing of it may be left then.
func serve(t testing.TB, s *Server, grace time.Duration) *serving {
	t.Helper()
	before := goleak.IgnoreCurrent()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var logged []error
	s.Log = func(_ netip.AddrPort, err error) {
		mu.Lock()
		defer mu.Unlock()
		logged = append(logged, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, grace) }()
	out := &serving{address: l.Addr().String()}
	out.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	out.logged = func() []error {
		mu.Lock()
		defer mu.Unlock()
		return append([]error(nil), logged...)
	}
	t.Cleanup(func() {
		if err := out.stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
	return out
}

// serverOf admits everybody to a handler.
func serverOf(h Handler) *Server {
	return &Server{Admit: func(context.Context, Proposal) (Terms, error) { return Terms{Handler: h, Accept: takeAll}, nil }}
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func plain() Params {
	return Params{Calling: "TESTER", Called: "GANTRY", Contexts: []Context{
		{Abstract: Verification, Transfer: []string{ImplicitLE}},
		{Abstract: ctImage, Transfer: []string{ExplicitLE, ImplicitLE}},
		{Abstract: ctImage, Transfer: []string{jpegLS}},
	}}
}

// ask opens an association that is aborted at the end of the test if it is still there.
func ask(t testing.TB, address string, p Params) *Association {
	t.Helper()
	a, err := Request(t.Context(), dial(t, address), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Abort(); <-a.Done() })
	return a
}

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func storeOf(a *Association, instance string, data io.Reader) StoreRequest {
	at, _ := a.Find(ctImage, ExplicitLE)
	return StoreRequest{Context: at, Class: ctImage, Instance: instance, Data: data}
}

func TestStoreBetweenOwnEnds(t *testing.T) {
	for _, sizes := range [][2]int{{0, 0}, {4 << 10, 1 << 20}, {1 << 20, 4 << 10}, {1 << 25, 1 << 25}} {
		h := newShelf()
		s := serve(t, &Server{Admit: func(_ context.Context, p Proposal) (Terms, error) {
			if p.Calling != "TESTER" || p.Called != "GANTRY" || len(p.Contexts) != 3 || p.Implementation != implementationClass {
				t.Errorf("proposal: %+v", p)
			}
			return Terms{Handler: h, Accept: takeAll, MaxPDU: sizes[0]}, nil
		}}, time.Second)
		p := plain()
		p.MaxPDU = sizes[1]
		a := ask(t, s.address, p)
		if r, err := a.Echo(t.Context()); err != nil || r.Status != StatusSuccess {
			t.Fatalf("echo: %v %v", r, err)
		}
		for i, n := range []int{0, 2, 500, 512, 514, 1000, 4082, 4084, 4096, 65536, 131072 - 6, 131072, 262144, 1048570, 1048576, 3_000_002} {
			data := noise(n)
			instance := "1.2." + string(rune('1'+i%9)) + "." + string(rune('1'+i/9))
			r, err := a.Store(t.Context(), storeOf(a, instance, bytes.NewReader(data)))
			if err != nil || r.Status != StatusSuccess {
				t.Fatalf("store of %d bytes: %v %v", n, r, err)
			}
			if got, _ := h.sum(instance); got != sha256.Sum256(data) {
				t.Errorf("%d bytes came as others", n)
			}
		}
		if err := a.Release(t.Context()); err != nil {
			t.Errorf("release: %v", err)
		}
		if err := <-h.ends; err != nil {
			t.Errorf("the handler was told %v", err)
		}
		a.Abort()
		if _, err := a.Echo(t.Context()); err == nil {
			t.Error("echo after release")
		}
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}
}
