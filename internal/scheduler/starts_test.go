package scheduler

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// queueForStarts has eight callers wait for starts that come once in ten seconds, then an urgent one, and says how
// long that waits and how many of the others began before it.
func queueForStarts(t *testing.T, urgent int16) (waited time.Duration, before int) {
	b := newBooks(gantry.LimiterSpec{MaxUnits: 20, Rate: 0.1, Burst: 1})
	k := process(t, b, 1)
	release, err := k.Acquire(t.Context(), 1, 5) // the first start is at once
	if err != nil {
		t.Fatal(err)
	}
	release()
	var others atomic.Int32
	for range 8 {
		go func() {
			if release, err := k.Acquire(t.Context(), 1, 5); err == nil {
				others.Add(1)
				time.Sleep(time.Second)
				release()
			}
		}()
	}
	time.Sleep(12 * time.Second) // one has begun; the next start is in eight seconds
	began := time.Now()
	seen := others.Load()
	if release, err = k.Acquire(t.Context(), 1, urgent); err != nil {
		t.Fatal(err)
	}
	release()
	waited, before = time.Since(began), int(others.Load()-seen)
	time.Sleep(90 * time.Second)
	if n := others.Load(); n != 8 {
		t.Errorf("%d of the 8 others have begun", n)
	}
	return waited, before
}

// TestUrgentStart: an urgent caller takes the very next start; the control is one as urgent as the others.
func TestUrgentStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		if waited, before := queueForStarts(t, 1); before != 0 || waited > 8*time.Second {
			t.Errorf("it waited for %s, and %d others began before it", waited, before)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		if _, before := queueForStarts(t, 5); before != 7 {
			t.Errorf("%d others began before one that is no more urgent, want 7", before)
		}
	})
}

// TestStartsDoNotStarve keeps urgent callers coming faster than there are starts: the one that is not has its own.
func TestStartsDoNotStarve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := process(t, newBooks(gantry.LimiterSpec{MaxUnits: 500, Rate: 1, Burst: 1}), 1)
		if release, err := k.Acquire(t.Context(), 1, 1); err == nil { // the first start is at once
			release()
		}
		began := time.Now()
		var served atomic.Int64
		go func() {
			release, err := k.Acquire(t.Context(), 1, 9)
			if err == nil {
				served.Store(int64(time.Since(began)))
				release()
			}
		}()
		for range 200 {
			go func() {
				if release, err := k.Acquire(t.Context(), 1, 1); err == nil {
					release()
				}
			}()
			time.Sleep(700 * time.Millisecond)
		}
		if after := time.Duration(served.Load()); after == 0 || after > 75*time.Second {
			t.Errorf("served after %s", after)
		}
		time.Sleep(200 * time.Second)
	})
}
