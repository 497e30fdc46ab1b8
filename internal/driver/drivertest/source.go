package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Inbox is a source under test and ways to change what is in it. Names are slash-separated.
type Inbox struct {
	Source gantry.Source
	Put    func(name string, body []byte) error // adds or replaces an object at once
	Remove func(name string) error
}

// Source runs what every source must do. open makes an empty inbox; its pauses should be short.
func Source(t *testing.T, open func(t *testing.T) Inbox) {
	t.Helper()
	suite(t, open, sourceCases())
}

func sourceCases() []testCase[Inbox] {
	return []testCase[Inbox]{
		{"announces what is there and what comes", sourceAnnounces},
		{"announces again what was not taken", sourceAgain},
		{"announces again what was replaced", sourceReplaced},
		{"gives an object one sequencer", sourceSequencer},
		{"ends when cancelled", sourceEnds},
		{"ends while it announces", sourceEndsBusy},
		{"knows what is gone", sourceGone},
		{"reads side by side", sourceSideBySide},
	}
}

// watching is a Watch that runs.
type watching struct {
	cancel context.CancelFunc
	done   chan error
	came   chan gantry.Object
}

// watch starts a Watch. take judges each object before it is sent to came.
func (in Inbox) watch(ctx context.Context, take func(context.Context, gantry.Object) error) *watching {
	ctx, cancel := context.WithCancel(ctx)
	w := &watching{cancel: cancel, done: make(chan error, 1), came: make(chan gantry.Object, 1000)}
	go func() {
		w.done <- in.Source.Watch(ctx, func(ctx context.Context, o gantry.Object) error {
			err := take(ctx, o)
			if err == nil {
				w.came <- o
			}
			return err
		})
	}()
	return w
}

func takeAll(context.Context, gantry.Object) error { return nil }

// next waits for an object of a name, passing over others.
func (w *watching) next(ctx context.Context, name string) (gantry.Object, error) {
	for {
		select {
		case o := <-w.came:
			if o.Name == name {
				return o, nil
			}
		case err := <-w.done:
			w.done <- err
			return gantry.Object{}, fmt.Errorf("the watch ended while %s was awaited: %w", name, err)
		case <-ctx.Done():
			return gantry.Object{}, fmt.Errorf("%s was not announced", name)
		}
	}
}

// stop ends the Watch and says if it ended otherwise than it should.
func (w *watching) stop() error {
	w.cancel()
	if err := <-w.done; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled Watch gave %w", err)
	}
	return nil
}

func (in Inbox) putAll(bodies map[string][]byte) error {
	for name, b := range bodies {
		if err := in.Put(name, b); err != nil {
			return err
		}
	}
	return nil
}

// read compares an object with what it should be.
func (in Inbox) read(ctx context.Context, o gantry.Object, want []byte) error {
	r, err := in.Source.Open(ctx, o.Ref)
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: read %d bytes, want %d (or the bytes differ)", o.Name, len(got), len(want))
	}
	if o.Size != int64(len(want)) {
		return fmt.Errorf("%s: announced with %d bytes, has %d", o.Name, o.Size, len(want))
	}
	return nil
}

func sourceAnnounces(ctx context.Context, in Inbox) error {
	before := map[string][]byte{"a.dcm": random(1000, 1), "sub/b.dcm": random(2<<20, 2), "empty.dcm": {}}
	after := map[string][]byte{"c.dcm": random(10, 3), "new/deep/d.dcm": random(20, 4)}
	names := map[string]string{"a.dcm": "a.dcm", "sub/b.dcm": "b.dcm", "empty.dcm": "empty.dcm", "c.dcm": "c.dcm", "new/deep/d.dcm": "d.dcm"}
	if err := in.putAll(before); err != nil {
		return err
	}
	var mu sync.Mutex
	got := map[string]gantry.Object{}
	w := in.watch(ctx, func(_ context.Context, o gantry.Object) error {
		mu.Lock()
		defer mu.Unlock()
		got[o.Name] = o
		return nil
	})
	for i, batch := range []map[string][]byte{before, after} {
		if i > 0 {
			if err := in.putAll(batch); err != nil {
				return err
			}
		}
		for len(batch) > 0 {
			select {
			case o := <-w.came:
				for path, body := range batch {
					if names[path] != o.Name {
						continue
					}
					if err := in.read(ctx, o, body); err != nil {
						return err
					}
					delete(batch, path)
				}
			case <-ctx.Done():
				return fmt.Errorf("%d objects were not announced", len(batch))
			}
		}
	}
	if err := w.stop(); err != nil {
		return err
	}
	refs := map[string]bool{}
	mu.Lock()
	defer mu.Unlock()
	for _, o := range got {
		if refs[o.Ref] || o.Ref == "" || o.Sequencer == "" {
			return fmt.Errorf("%s has no ref or sequencer of its own: %+v", o.Name, o)
		}
		refs[o.Ref] = true
	}
	return nil
}

func sourceAgain(ctx context.Context, in Inbox) error {
	if err := in.Put("a.dcm", []byte("x")); err != nil {
		return err
	}
	var tries atomic.Int64
	w := in.watch(ctx, func(context.Context, gantry.Object) error {
		if tries.Add(1) < 3 {
			return gantry.Errorf(gantry.Unavailable, "", "no room")
		}
		return nil
	})
	if _, err := w.next(ctx, "a.dcm"); err != nil {
		return err
	}
	return w.stop()
}

func sourceReplaced(ctx context.Context, in Inbox) error {
	if err := in.Put("a.dcm", []byte("first")); err != nil {
		return err
	}
	w := in.watch(ctx, takeAll)
	first, err := w.next(ctx, "a.dcm")
	if err != nil {
		return err
	}
	if err := in.Put("a.dcm", []byte("other")); err != nil {
		return err
	}
	for {
		o, err := w.next(ctx, "a.dcm")
		if err != nil {
			return err
		}
		if o.Sequencer == first.Sequencer {
			continue // the first again
		}
		if o.Ref != first.Ref {
			return fmt.Errorf("the ref of an object changed with its bytes")
		}
		return errors.Join(in.read(ctx, o, []byte("other")), w.stop())
	}
}

// sourceSequencer: nothing changed, so another Watch says the same of it.
func sourceSequencer(ctx context.Context, in Inbox) error {
	if err := in.Put("a.dcm", []byte("x")); err != nil {
		return err
	}
	var seen []gantry.Object
	for range 2 {
		w := in.watch(ctx, takeAll)
		o, err := w.next(ctx, "a.dcm")
		if err := errors.Join(err, w.stop()); err != nil {
			return err
		}
		seen = append(seen, o)
	}
	if seen[0] != seen[1] {
		return fmt.Errorf("an object that did not change was announced as %+v and %+v", seen[0], seen[1])
	}
	return nil
}

func sourceEnds(ctx context.Context, in Inbox) error {
	ctx2, cancel := context.WithCancel(ctx)
	cancel()
	if err := in.watch(ctx2, takeAll).stop(); err != nil {
		return err
	}
	return in.watch(ctx, takeAll).stop()
}

// sourceEndsBusy: Watch waits for its calls of announce before it returns.
func sourceEndsBusy(ctx context.Context, in Inbox) error {
	for i := range 20 {
		if err := in.Put(fmt.Sprintf("%d.dcm", i), []byte("x")); err != nil {
			return err
		}
	}
	began, returned := make(chan struct{}, 1), make(chan struct{})
	var late atomic.Int64
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- in.Source.Watch(calling, func(ctx context.Context, o gantry.Object) error {
			select {
			case began <- struct{}{}:
			default:
			}
			<-ctx.Done()
			select { // a call that takes a while to end
			case <-returned:
				late.Add(1)
			case <-time.After(100 * time.Millisecond):
			}
			return ctx.Err()
		})
		close(returned)
	}()
	select {
	case <-began:
	case <-ctx.Done():
		return errors.New("nothing was announced")
	}
	err := (&watching{cancel: cancel, done: done}).stop()
	<-time.After(150 * time.Millisecond) // those that were not waited for show by now
	if n := late.Load(); n != 0 {
		return fmt.Errorf("the watch returned while %d calls of announce ran", n)
	}
	return err
}

func sourceGone(ctx context.Context, in Inbox) error {
	if err := in.Put("a.dcm", []byte("x")); err != nil {
		return err
	}
	w := in.watch(ctx, takeAll)
	o, err := w.next(ctx, "a.dcm")
	if err := errors.Join(err, w.stop(), in.Remove("a.dcm")); err != nil {
		return err
	}
	for _, ref := range []string{o.Ref, "never/was.dcm"} {
		r, err := in.Source.Open(ctx, ref)
		if r != nil {
			r.Close()
		}
		if err := wantKind(err, gantry.NotFound, gantry.CodeSourceGone); err != nil {
			return err
		}
	}
	return nil
}

func sourceSideBySide(ctx context.Context, in Inbox) error {
	body := random(1<<20, 1)
	if err := in.Put("a.dcm", body); err != nil {
		return err
	}
	w := in.watch(ctx, takeAll)
	o, err := w.next(ctx, "a.dcm")
	if err := errors.Join(err, w.stop()); err != nil {
		return err
	}
	errs := make([]error, 4)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = in.read(ctx, o, body) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
