package scheduler

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// jobs counts what a target is sent and works on.
type jobs struct {
	mu              sync.Mutex
	now, most, done int
}

func (j *jobs) add(n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.now += n
	j.most = max(j.most, j.now)
	if n < 0 {
		j.done++
	}
}

// submit sends requests of which each becomes a job that takes a while. From the commit on the books have one
// unit less to give out, until the job has ended. surrendered tells whether the process gives the unit up then.
func (j *jobs) submit(ctx context.Context, wg *sync.WaitGroup, k *keeper, b *books, length time.Duration, surrendered bool) {
	for ctx.Err() == nil {
		giveBack, err := k.hold(ctx, 1, 5, 200*time.Millisecond)
		if err != nil {
			continue
		}
		j.add(1)
		time.Sleep(3 * time.Millisecond)
		b.mu.Lock()
		b.spec.MaxUnits--
		b.mu.Unlock()
		time.Sleep(time.Millisecond) // the answer of the commit is on its way, and a grant may be too
		giveBack(surrendered)
		giveBack(false) // as the gate does in any case
		wg.Go(func() {
			time.Sleep(length)
			j.add(-1)
			b.mu.Lock()
			b.spec.MaxUnits++
			b.mu.Unlock()
		})
	}
}

// outrun lets two processes submit jobs for a while under a limit of 6, and gives what came of it.
func outrun(t *testing.T, surrendered bool) (most, done int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(6))
		j := &jobs{}
		ctx, end := context.WithTimeout(t.Context(), 20*time.Second)
		defer end()
		var wg sync.WaitGroup
		for w := range 2 {
			k := process(t, b, gantry.WorkerID(w+1))
			for range 5 {
				wg.Go(func() { j.submit(ctx, &wg, k, b, 70*time.Millisecond, surrendered) })
			}
		}
		wg.Wait()
		most, done = j.most, j.done
	})
	return most, done
}

// TestSurrender never lets a target have more than the limit says, what is out and what is on its way together.
func TestSurrender(t *testing.T) {
	t.Parallel()
	most, done := outrun(t, true)
	if most != 6 || done < 500 {
		t.Errorf("at most %d at once, of 6, and %d in all", most, done)
	}
}

// TestWithoutSurrender is the control: a process that keeps its unit while the part holds one too passes the limit.
func TestWithoutSurrender(t *testing.T) {
	t.Parallel()
	if most, _ := outrun(t, false); most <= 6 {
		t.Errorf("at most %d at once; the control proves nothing", most)
	}
}

// TestPatience gives up a wait for a unit, and leaves none behind.
func TestPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(1))
		k := process(t, b, 1)
		first, err := k.hold(t.Context(), 1, 5, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := k.hold(t.Context(), 1, 5, time.Second); !errors.Is(err, gantry.ErrNoUnit) || time.Since(begun) != time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		gone, cancel := context.WithCancelCause(t.Context())
		cancel(gantry.ErrCancelled)
		if _, err := k.hold(gone, 1, 5, time.Second); !errors.Is(err, gantry.ErrCancelled) {
			t.Errorf("of a task that was cancelled: %v", err)
		}
		first(false)
		again, err := k.hold(t.Context(), 1, 5, time.Second)
		if err != nil {
			t.Fatalf("the unit did not come back: %v", err)
		}
		again(false)
	})
}

// TestSurrenderDuringAGrant takes the unit off the answer of a grant that was under way: the database may not have
// seen the part yet.
func TestSurrenderDuringAGrant(t *testing.T) {
	t.Parallel()
	b := given(4)
	b.take(4)
	b.ask()
	b.surrender()
	b.settle(4)
	if d := b.demand(); d.granted != 3 || d.booked != 4 || d.inUse != 3 {
		t.Errorf("after the grant %+v", d)
	}
	if n := b.take(1); n != 0 {
		t.Error("the unit of the part was given out again")
	}
	b.ask()
	b.settle(3)
	if d := b.demand(); d.granted != 3 || d.booked != 3 {
		t.Errorf("after the next grant %+v", d)
	}
}

// TestSurrenderWithoutALimit counts nothing where there is nothing to count.
func TestSurrenderWithoutALimit(t *testing.T) {
	t.Parallel()
	b := newBucket(1, gantry.LimiterSpec{MaxUnits: -1})
	if _, err := b.acquire(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	b.surrender()
	if d := b.demand(); d.inUse != 0 || d.granted != 0 {
		t.Errorf("left with %+v", d)
	}
}

// TestHastenIsNotPutOff looks for delayed tasks soon, however often it is asked to.
func TestHastenIsNotPutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		p := &promoter{}
		s := &Session{store: p, hurry: make(chan struct{}, 1), opts: Options{TTL: time.Hour}.withDefaults()}
		go s.keepHouse(ctx)
		time.Sleep(time.Millisecond)
		before := p.looks.Load()
		for range 40 { // every 5 ms
			s.Hasten()
			time.Sleep(5 * time.Millisecond)
		}
		if n := p.looks.Load() - before; n < 8 || n > 11 {
			t.Errorf("looked %d times within 200 ms", n)
		}
		end()
		synctest.Wait()
	})
}

// promoter has no delayed task.
type promoter struct {
	Store
	looks atomic.Int32
}

func (p *promoter) Promote(context.Context, int) ([]int32, time.Duration, error) {
	p.looks.Add(1)
	return nil, -1, nil
}

// TestSurrenderWhileTheAnswerGetsLost: what went out while a grant was under way whose answer got lost is not this
// process's to hand out again, whether the grant saw it or not.
func TestSurrenderWhileTheAnswerGetsLost(t *testing.T) {
	t.Parallel()
	b := given(5)
	b.seize(5)
	want, inUse := b.ask()
	b.surrender() // its part has one of the five now
	b.unsure(want, inUse)
	if n := b.take(5); n != 0 {
		t.Errorf("%d more than four calls may begin beside a part that is out", n)
	}
}
