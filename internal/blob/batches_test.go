package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What waits while one batch is synced is the next batch, with one sync for all.
func TestBatches(t *testing.T) {
	f := faults{hold: make(chan struct{}), held: make(chan struct{}, 100)}
	o := testOptions(t.TempDir())
	o.SegmentSize = 8 << 20
	d := openTest(t, o, f.install)
	results := make(chan error, 33)
	send := func(seed uint64) {
		s := stage(t, d, body(20<<10, seed), -1)
		go func() {
			where, err := s.Commit(context.Background())
			if err == nil {
				err = d.Verify(context.Background(), where, s.SHA())
			}
			results <- err
		}()
	}
	send(0)
	<-f.held // the writer is in its first sync
	for i := range 32 {
		send(uint64(i + 1))
	}
	// Not parallel: the goroutines counted are this test's own.
	for stacks := make([]byte, 1<<20); strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "blob.(*Dir).pack(") < 33; {
		runtime.Gosched()
	}
	f.mu.Lock()
	hold := f.hold
	f.hold = nil
	f.mu.Unlock()
	close(hold)
	for range 33 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	// One for the first, one for those that waited; a goroutine on its way into the queue may need its own.
	if f.syncs > 16 {
		t.Errorf("%d syncs for 33 commits", f.syncs)
	}
	t.Logf("%d syncs for 33 commits", f.syncs)
}

// While a batch is at the disk a second writer takes what comes; before that it has no segment.
func TestSecondWriter(t *testing.T) {
	t.Parallel()
	f := faults{held: make(chan struct{}, 1)}
	d := openTest(t, testOptions(t.TempDir()), f.install)
	commit := func(ctx context.Context, seed uint64) location {
		where, err := stage(t, d, body(20<<10, seed), -1).Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		l, err := parseLocation(where)
		if err != nil || d.Verify(ctx, where, gantry.Digest(sha256.Sum256(body(20<<10, seed)))) != nil {
			t.Fatalf("%s: %v", where, err)
		}
		return l
	}
	var one location
	for i := range uint64(20) {
		l := commit(t.Context(), i)
		if i > 0 && l.segment != one.segment {
			t.Fatalf("segments %v and %v, though nothing was at the disk", one.segment, l.segment)
		}
		one = l
	}
	hold := make(chan struct{})
	release := sync.OnceFunc(func() { close(hold) })
	defer release()
	f.mu.Lock()
	f.hold = hold
	f.mu.Unlock()
	first := make(chan error, 1)
	s := stage(t, d, body(20<<10, 100), -1)
	go func() {
		_, err := s.Commit(context.Background())
		first <- err
	}()
	<-f.held
	f.mu.Lock()
	f.hold = nil
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if l := commit(ctx, 101); l.segment == one.segment {
		t.Error("it waited for the first writer's segment")
	}
	d.writers[1].drop()
	d.writers[1].size = 1 << 60 // no disk has room for it
	second := make(chan error, 1)
	s = stage(t, d, body(20<<10, 102), -1)
	go func() {
		where, err := s.Commit(context.Background())
		if l, _ := parseLocation(where); err == nil && l.segment != one.segment {
			err = errors.New("it lies in another segment than the first's")
		}
		second <- err
	}()
	for stacks := make([]byte, 1<<20); len(second) == 0 && !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "blob.(*writer).pass("); {
		time.Sleep(time.Millisecond)
	}
	release()
	if err := <-second; err != nil {
		t.Errorf("no room for a second segment: %v", err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// A batch that fails fails for everybody in it.
func TestFailedBatchFailsAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir), func(e *env) {
		e.sync = func(*os.File) error { return syscall.EIO }
	})
	var wg sync.WaitGroup
	for i := range 20 {
		s := stage(t, d, body(20<<10, uint64(i)), -1)
		wg.Go(func() {
			if where, err := s.Commit(t.Context()); err == nil {
				t.Errorf("%s was acknowledged without a sync", where)
			}
		})
	}
	wg.Wait()
	allFree(t, d)
}

func TestCommitCancelled(t *testing.T) {
	t.Parallel()
	f := faults{hold: make(chan struct{}), held: make(chan struct{}, 100)}
	dir := t.TempDir()
	d := openTest(t, testOptions(dir), f.install)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, size := range []int{10, 20 << 10, unknownMost + 1} {
		if _, err := stage(t, d, body(size, 1), -1).Commit(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("size %d with an ended context: %v", size, err)
		}
	}
	// One is being synced and one is queued when their context ends; the third goes on.
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 2)
	first, second := stage(t, d, body(20<<10, 2), -1), stage(t, d, body(20<<10, 3), -1)
	go func() { _, err := first.Commit(ctx); results <- err }()
	<-f.held
	go func() { _, err := second.Commit(ctx); results <- err }()
	cancel()
	for range 2 {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled commit: %v", err)
		}
	}
	f.mu.Lock()
	hold := f.hold
	f.hold = nil
	f.mu.Unlock()
	close(hold)
	if where := commit(t, d, body(20<<10, 4)); !bytes.Equal(readBack(t, d, where), body(20<<10, 4)) {
		t.Error("other bytes")
	}
	d.Close() // the other writer may still be at what was cancelled
	allFree(t, d)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

// A request whose context ended in the queue is answered and leaves no record.
func TestBatchLeavesOutEnded(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	d.Close() // the test is the writer from here on
	w := newWriter(d, 1<<20)
	defer w.drop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &request{ctx: ctx, body: []byte("x"), done: make(chan error, 1)}
	if left := w.batch(r); left != nil {
		t.Error("the request was given back")
	}
	if err := <-r.done; !errors.Is(err, context.Canceled) {
		t.Errorf("answer %v", err)
	}
	if w.seg.end != block {
		t.Errorf("the segment ends at %d", w.seg.end)
	}
}
