package scheduler

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func limited(n int) gantry.LimiterSpec { return gantry.LimiterSpec{MaxUnits: n} }

// given makes a bucket that the database has granted so many units.
func given(units int) *bucket {
	b := newBucket(1, limited(units))
	b.ask()
	b.settle(units)
	return b
}

func TestUnitsGoByPriorityThenArrival(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := given(1)
		if b.take(5) != 1 {
			t.Fatal("the one unit was not to be had")
		}
		var order []int
		for i, priority := range []int16{5, 8, 1, 5, 1, 8} {
			go func() {
				if _, err := b.acquire(t.Context(), priority); err != nil {
					t.Error(err)
				}
				order = append(order, i) // one at a time: there is one unit
				b.release(1)
			}()
			synctest.Wait()
		}
		b.release(1)
		synctest.Wait()
		if want := []int{2, 4, 0, 3, 1, 5}; !slices.Equal(order, want) {
			t.Errorf("served in order %v, want %v", order, want)
		}
		if d := b.demand(); d.inUse != 0 || d.want != 0 {
			t.Errorf("at the end %+v", d)
		}
	})
}

func TestNobodyOvertakesWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := given(2)
		b.take(2)
		for range 2 {
			go b.acquire(t.Context(), 5)
		}
		synctest.Wait()
		b.release(1)
		if n := b.take(1); n != 0 {
			t.Error("a claim took a unit that a call waits for")
		}
		b.release(1)
		if d := b.demand(); d.inUse != 2 || b.waiting() != 0 {
			t.Errorf("%+v, %d wait", d, b.waiting())
		}
	})
}

func TestCancelledWaiterLeavesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := errors.New("gone")
		b := given(1)
		b.take(1)
		ctx, cancel := context.WithCancelCause(t.Context())
		var first error
		go func() { _, first = b.acquire(ctx, 1) }()
		synctest.Wait()
		served := false
		go func() { _, err := b.acquire(t.Context(), 5); served = err == nil }()
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		if !errors.Is(first, gone) || b.waiting() != 1 {
			t.Fatalf("the caller was told %v, %d wait", first, b.waiting())
		}
		b.release(1)
		synctest.Wait()
		if d := b.demand(); !served || d.inUse != 1 {
			t.Errorf("the next was served: %t; %+v", served, d)
		}
	})
}

// TestCancelAtHandOver cancels a waiter in the very moment at which its unit comes: whichever of the
// two it sees, the unit is either its own or given back.
func TestCancelAtHandOver(t *testing.T) {
	t.Parallel()
	for range 300 {
		b := given(1)
		b.take(1)
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error)
		go func() { _, err := b.acquire(ctx, 5); got <- err }()
		for b.waiting() == 0 {
		}
		// With the lock held the waiter sees its context end, then finds itself served.
		b.mu.Lock()
		cancel()
		b.put(1)
		b.mu.Unlock()
		want := 0
		if <-got == nil {
			want = 1
		}
		if d := b.demand(); d.inUse != want || d.want != want {
			t.Fatalf("%+v; the caller has %d units", d, want)
		}
	}
}

func TestPausedAndUnlimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(1, limited(-1))
		for range 100 {
			if _, err := b.acquire(t.Context(), 5); err != nil {
				t.Fatal(err)
			}
		}
		if n := b.take(50); n != 50 {
			t.Errorf("%d of 50 units without a limit", n)
		}
		b.setSpec(limited(0))
		if n := b.take(1); n != 0 {
			t.Error("a paused limit gave a unit")
		}
		waits := true
		go func() { b.acquire(t.Context(), 5); waits = false }()
		synctest.Wait()
		if !waits {
			t.Error("a paused limit let a caller pass")
		}
		b.setSpec(limited(-1))
		synctest.Wait()
		if waits {
			t.Error("the caller waits still when there is no limit any more")
		}
	})
}

// world is a bucket, its books at the database, and its callers.
type world struct {
	*bucket
	r      *rand.Rand
	books  int // what the database has the bucket down for
	next   int // while a grant is under way: the answer that may or may not have been booked
	want   int // what was asked for
	asked  bool
	failed bool // the answer will get lost
	cancel []context.CancelFunc
}

// step does one thing that callers, keeper or database may do, and names it.
func (w *world) step(t *testing.T) string {
	switch w.r.IntN(9) {
	case 0, 1:
		ctx, cancel := context.WithCancel(t.Context())
		w.cancel = append(w.cancel, cancel)
		go w.acquire(ctx, int16(w.r.IntN(3)))
		return "acquire"
	case 2:
		w.take(w.r.IntN(4))
		return "take"
	case 3, 4:
		if n := w.demand().inUse; n > 0 {
			w.release(1 + w.r.IntN(n))
		}
		return "release"
	case 5:
		if n := len(w.cancel); n > 0 {
			w.cancel[w.r.IntN(n)]()
		}
		return "cancel"
	case 6:
		w.shrink(w.r.IntN(8))
		return "shrink"
	case 7:
		w.setHope(w.r.IntN(4))
		return "hope"
	}
	return w.database()
}

// database goes one step on with a grant: it is asked for, perhaps booked, and answered. It books
// anything between what was in use and what was wanted.
func (w *world) database() string {
	if !w.asked {
		want, inUse := w.ask()
		w.want, w.asked, w.failed = want, true, w.r.IntN(4) == 0
		w.next = inUse + w.r.IntN(max(1, min(want, 8)-inUse+1))
		return "ask"
	}
	w.asked = false
	if !w.failed {
		w.books = w.next
		w.settle(w.next)
		return "answer"
	}
	if w.r.IntN(2) == 0 {
		w.books = w.next // booked, but the answer got lost
	}
	w.mu.Lock()
	inUse := w.cap
	w.mu.Unlock()
	w.unsure(w.want, inUse)
	return "lost answer"
}

// TestInUseStaysWithinTheBooks tries random histories. At no moment may more be in use than the
// database has booked, and while a grant is under way no more than either before or after it.
func TestInUseStaysWithinTheBooks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			w := &world{bucket: newBucket(1, limited(8)), r: rand.New(rand.NewPCG(seed, 1))}
			var history []string
			peak := 0
			for range 400 {
				history = append(history, w.step(t))
				synctest.Wait()
				floor := w.books
				if w.asked {
					floor = min(floor, w.next)
				}
				d := w.demand()
				peak = max(peak, d.inUse)
				if d.inUse > floor || d.inUse < 0 {
					t.Fatalf("seed %d: %d in use, %d booked after %v", seed, d.inUse, floor, history[max(0, len(history)-12):])
				}
			}
			if peak == 0 {
				t.Errorf("seed %d: nothing was ever in use", seed)
			}
			for _, cancel := range w.cancel {
				cancel()
			}
			synctest.Wait()
			if n := w.waiting(); n != 0 {
				t.Errorf("seed %d: %d wait after all were cancelled", seed, n)
			}
		})
	}
}
