package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// still makes a bucket of n keys, which were there before, and a source of it, for a bubble in which only time passes.
func still(t *testing.T, n int) (*shelf, *source) {
	t.Helper()
	sh := &shelf{young: map[string]bool{}}
	for i := range n {
		sh.keys = append(sh.keys, fmt.Sprintf("k%05d", i))
	}
	s, err := NewSource(t.Context(), SourceConfig{Bucket: "bucket", Sweep: 2 * time.Hour}, signed{&faults{before: func(r *http.Request) *http.Response {
		w := httptest.NewRecorder()
		sh.ServeHTTP(w, r)
		return w.Result()
	}}})
	if err != nil {
		t.Fatal(err)
	}
	x := s.(*source)
	x.page, x.few = 100, 2
	x.now = func() time.Time { return time.Now().AddDate(30, 0, 0) } // bubbles begin in 2000
	return sh, x
}

// hold holds those who come until it is opened, or until the watch ends.
type hold struct {
	open chan struct{}
	held atomic.Int64
}

func newHold() *hold { return &hold{open: make(chan struct{})} }

func (g *hold) wait(ctx context.Context) error {
	g.held.Add(1)
	defer g.held.Add(-1)
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// While one object is being copied, which may take hours, others that come are found and taken.
func TestSlowObjectHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		old  int
		tail string
	}{"a small bucket": {5, ""}, "a large one": {500, "k00499"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sh, s := still(t, c.old)
				b, g := newBook(), newHold()
				b.up.Tail = c.tail
				take := func(ctx context.Context, o gantry.Object) error {
					if o.Ref == "k90000" {
						return g.wait(ctx)
					}
					return nil
				}
				during(t, s, b, take, func() {
					until(t, "what was there before", func() bool { return b.taken() == c.old })
					sh.insert("k90000", true)
					until(t, "the slow one", func() bool { return g.held.Load() == 1 })
					for _, key := range []string{"k99998", "k99999"} {
						sh.insert(key, true)
						time.Sleep(s.poll + patience + time.Millisecond)
						if !b.has(key) {
							t.Errorf("%s was not seen within a poll while one other was under way, of %d that may be", key, announcers)
						}
					}
					close(g.open)
					until(t, "the slow one", func() bool { return b.has("k90000") })
				})
				if b.times["k90000"] != 1 || b.taken() != c.old+3 {
					t.Errorf("it was taken %d times; %d were taken", b.times["k90000"], b.taken())
				}
			})
		})
	}
}

// What fails after its listing went on is announced again as soon as what fails at once, though no listing shows it. Nor
// does that hold up others, however long it takes.
func TestSlowObjectFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, s := still(t, 500)
		b, first, second := newBook(), newHold(), newHold()
		var tries atomic.Int64
		take := func(ctx context.Context, o gantry.Object) error {
			switch {
			case o.Ref != "k00007":
				return nil
			case tries.Add(1) == 1:
				first.wait(ctx)
				return errors.New("not now")
			}
			return second.wait(ctx)
		}
		during(t, s, b, take, func() {
			until(t, "the first listing", func() bool { return b.taken() == 499 && s.large(b) })
			time.Sleep(time.Minute)
			close(first.open)
			time.Sleep(2 * s.poll)
			sh.insert("k99999", true)
			time.Sleep(s.poll + patience)
			if second.held.Load() != 1 || !b.has("k99999") {
				t.Errorf("it is announced again: %v, and another meanwhile: %v", second.held.Load() == 1, b.has("k99999"))
			}
			time.Sleep(time.Minute)
			close(second.open)
			until(t, "the slow one", func() bool { return b.has("k00007") })
		})
		whole := 0
		for _, from := range sh.requests() {
			if from == "" {
				whole++
			}
		}
		if whole != 1 || tries.Load() != 2 {
			t.Errorf("listed whole %d times, tried %d times", whole, tries.Load())
		}
	})
}

// What is under way when the process dies is seen by the next one, though the backlog is not at its end: both what the
// take-up announced and what a listing did, before which the take-up does not begin again.
func TestTakeUpInterrupted(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"by the listing": "k00005", "by the take-up": "k02050"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, s := still(t, 3000)
				b, slow, last := newBook(), newHold(), newHold()
				take := func(ctx context.Context, o gantry.Object) error {
					switch o.Ref {
					case key:
						return slow.wait(ctx)
					case "k02950":
						return last.wait(ctx)
					}
					return nil
				}
				during(t, s, b, take, func() { time.Sleep(time.Hour) })
				if up := b.up; b.has(key) || !up.Backlog || up.Taken || up.Cursor <= "k00005" {
					t.Fatalf("%v, the progress is %+v", b.has(key), up)
				}
				close(slow.open)
				during(t, s, b, take, func() {
					time.Sleep(time.Minute)
					if !b.has(key) || b.done() {
						t.Errorf("it was not seen again: %v, or all was: %v", !b.has(key), b.done())
					}
					close(last.open)
					until(t, "the end", b.done)
				})
				for key, n := range b.times {
					if n != 1 {
						t.Errorf("%s was taken %d times", key, n)
					}
				}
				if b.taken() != 3000 {
					t.Errorf("%d were taken", b.taken())
				}
			})
		})
	}
}

// Of what the take-up has passed though nobody took it, a listing announces no more than it may of old objects.
func TestTakeUpPassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, s := still(t, 3000)
		b := newBook()
		b.up = gantry.TakeUp{Tail: "k02999", Backlog: true, Cursor: "k01499"}
		w := newWatcher(s, b, b.announcing(nil))
		if err := w.resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, want := range []int{maxInline, 1500, 1500} { // the others are the take-up's
			if err := w.whole(t.Context()); err != nil || b.taken() != want || !b.has("k00005") {
				t.Errorf("%v, %d were taken, want %d", err, b.taken(), want)
			}
		}
	})
}

// Where slow objects have all the places, nobody lists for nothing, and no more is begun. What came meanwhile follows.
func TestSlowObjectsInAllPlaces(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ n, least, most int }{
		"more than places": {announcers + 20, 1, 1}, // it waits for a place, and lists nothing
		"just as many":     {announcers, 350, 361},  // every poll
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sh, s := still(t, c.n)
				b, g := newBook(), newHold()
				during(t, s, b, func(ctx context.Context, _ gantry.Object) error { return g.wait(ctx) }, func() {
					time.Sleep(time.Hour)
					if n := len(sh.requests()); n < c.least || n > c.most || g.held.Load() != announcers {
						t.Errorf("%d listings in an hour, %d under way", n, g.held.Load())
					}
					sh.insert("k99999", true)
					time.Sleep(time.Minute)
					if g.held.Load() != announcers {
						t.Errorf("%d under way", g.held.Load())
					}
					close(g.open)
					time.Sleep(2 * s.poll)
					if b.taken() != c.n+1 || !b.up.Taken {
						t.Errorf("%d were taken; %+v", b.taken(), b.up)
					}
				})
			})
		})
	}
}

// A watch ends when what it left behind has ended, and puts nothing off since it was told to end.
func TestSlowObjectAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, s := still(t, 5)
		ctx, cancel := context.WithCancel(t.Context())
		w, g := newWatcher(s, newMemory(), nil), newHold()
		w.announce = func(ctx context.Context, _ gantry.Object) error {
			<-ctx.Done()
			g.wait(context.Background())
			return ctx.Err()
		}
		if err := w.whole(ctx); err != nil || len(w.busy) != 5 || w.progress.Taken {
			t.Errorf("%v, %d busy, %+v", err, len(w.busy), w.progress)
		}
		ended := make(chan error, 1)
		_, other := still(t, 5)
		go func() { ended <- other.WatchFrom(ctx, newMemory(), w.announce) }()
		time.Sleep(time.Minute)
		cancel()
		synctest.Wait()
		if len(ended) != 0 || g.held.Load() != 5+5 {
			t.Errorf("it ended before its announcements, of which %d are under way", g.held.Load())
		}
		close(g.open)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if w.side.Wait(); len(w.busy)+len(w.later)+len(w.places) != 0 {
			t.Errorf("%d busy, %d put off, %d places taken", len(w.busy), len(w.later), len(w.places))
		}
	})
}

// A first listing that breaks off does not end a watch of which objects are under way: they would never come to their end.
func TestSlowObjectInABrokenListing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		sh, s := still(t, 500)
		b, g := newBook(), newHold()
		take := func(ctx context.Context, o gantry.Object) error {
			if o.Ref == "k00150" {
				sh.set(func() { sh.fail = true })
				return g.wait(ctx)
			}
			return nil
		}
		during(t, s, b, take, func() {
			time.Sleep(time.Hour)
			if g.held.Load() != 1 || len(b.came()) == 0 {
				t.Errorf("%d are under way, told %q", g.held.Load(), b.came())
			}
			close(g.open)
			sh.set(func() { sh.fail = false })
			until(t, "the others", func() bool { return b.taken() == 500 })
		})
	})
}

// TestOldObjectsTakeNoPlaceOfNewOnes has old objects that failed once wait for room in their lane, more than there are places.
func TestOldObjectsTakeNoPlaceOfNewOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sh, s := still(t, 500)
		b, g := newBook(), newHold()
		b.up = gantry.TakeUp{Backlog: true, Tail: "k00499"}
		var mu sync.Mutex
		tried := map[string]bool{}
		take := func(ctx context.Context, o gantry.Object) error {
			if !o.Backlog {
				return nil
			}
			mu.Lock()
			again := tried[o.Ref]
			tried[o.Ref] = true
			mu.Unlock()
			if o.Ref >= "k00040" {
				return nil
			}
			if !again {
				return errors.New("not now")
			}
			return g.wait(ctx) // the lane is full
		}
		during(t, s, b, take, func() {
			until(t, "the take-up", func() bool { return b.taken() >= 460 })
			time.Sleep(time.Minute)
			sh.insert("k99999", true)
			time.Sleep(10 * time.Minute)
			if !b.has("k99999") {
				t.Errorf("a new object was not seen in 10 minutes while %d old ones wait for room", g.held.Load())
			}
			close(g.open)
		})
	})
}
