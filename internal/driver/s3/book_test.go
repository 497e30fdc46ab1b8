package s3

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// book is a ledger that several watches have one after the other.
type book struct {
	*memory
	mu     sync.Mutex
	up     gantry.TakeUp
	sweeps []gantry.Sweep
	failed []error
	parts  []string       // that failed, and with a plus those that worked
	times  map[string]int // that an object was announced and taken
}

func newBook() *book { return &book{memory: newMemory(), times: map[string]int{}} }

func (b *book) Progress(context.Context) (gantry.TakeUp, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.up, nil
}

func (b *book) Keep(p gantry.TakeUp) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.up = p
}

func (b *book) Swept(s gantry.Sweep) { // nothing is forgotten: it has a database
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweeps = append(b.sweeps, s)
}

func (b *book) Failed(part string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed, b.parts = append(b.failed, err), append(b.parts, part)
}

func (b *book) Worked(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.parts); n == 0 || b.parts[n-1] != "+"+part {
		b.parts = append(b.parts, "+"+part)
	}
}

// came gives what was told of parts.
func (b *book) came() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.parts)
}

func (b *book) missed() (n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sweeps {
		n += s.Missed
	}
	return n
}

// announcing makes an announce that counts what was taken.
func (b *book) announcing(take func(context.Context, gantry.Object) error) func(context.Context, gantry.Object) error {
	return b.noting(func(ctx context.Context, o gantry.Object) error {
		if take != nil {
			if err := take(ctx, o); err != nil {
				return err
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.times[o.Ref]++
		return nil
	})
}

func (b *book) taken() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.times)
}

func (b *book) has(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.times[key] > 0
}

func (b *book) done() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.up.Taken && !b.up.Backlog
}

// hall makes a bucket of n old keys on a server, and a source of it that is listed in pages of 100.
func hall(t *testing.T, n int) (*shelf, *source) {
	t.Helper()
	sh := &shelf{young: map[string]bool{}}
	for i := range n {
		sh.keys = append(sh.keys, fmt.Sprintf("k%05d", i))
	}
	s := serveSource(t, sh.ServeHTTP)
	s.page, s.few, s.sweep, s.poll = 100, 2, time.Hour, 5*time.Millisecond
	return sh, s
}

// insert puts a key in its place.
func (s *shelf) insert(key string, young bool) {
	s.set(func() {
		at, _ := slices.BinarySearch(s.keys, key)
		s.keys, s.young[key] = slices.Insert(s.keys, at, key), young
	})
}

// during runs a watch until f returns.
func during(t *testing.T, s *source, b *book, take func(context.Context, gantry.Object) error, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.WatchFrom(ctx, b, b.announcing(take)) }()
	f()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("watch: %v", err)
	}
}

// until waits for something.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}
