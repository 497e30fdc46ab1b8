package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A bucket of old objects is taken up where the last watch stopped, and each object once.
func TestTakeUpResumes(t *testing.T) {
	t.Parallel()
	sh, s := hall(t, 4000)
	b := newBook()
	slow := func(ctx context.Context, o gantry.Object) error {
		if !o.New || o.At.IsZero() {
			t.Errorf("announced as %+v", o)
		}
		if o.Backlog {
			time.Sleep(time.Millisecond)
		}
		return nil
	}
	during(t, s, b, slow, func() {
		until(t, "the middle", func() bool { p, _ := b.Progress(t.Context()); return p.Passed >= 500 })
	})
	stopped := b.up
	if b.taken() == 4000 || !stopped.Backlog || stopped.Taken || stopped.Cursor < "k01499" {
		t.Fatalf("%d were taken, the progress is %+v", b.taken(), stopped)
	}
	sh.set(func() { sh.asked = nil })
	during(t, s, b, slow, func() { until(t, "the end", b.done) })
	asked := sh.requests()
	if !slices.Contains(asked, stopped.Cursor) || !slices.Contains(asked, "k03999") {
		t.Errorf("asked from %v, not from %s", asked[:4], stopped.Cursor)
	}
	if b.taken() != 4000 || b.missed() != 0 || b.up != (gantry.TakeUp{Tail: "k03999", Taken: true, Passed: 3000}) {
		t.Errorf("%d were taken, %d missed, the progress is %+v", b.taken(), b.missed(), b.up)
	}
	for key, n := range b.times {
		if n != 1 {
			t.Errorf("%s was taken %d times", key, n)
		}
	}
}

// What comes anew does not wait for what was there before: not at the end of the keys, and not among them.
func TestNewComesFirst(t *testing.T) {
	t.Parallel()
	sh, s := hall(t, 3000)
	s.sweep = 50 * time.Millisecond
	b := newBook()
	hold := make(chan struct{})
	take := func(ctx context.Context, o gantry.Object) error {
		if o.Backlog {
			select {
			case <-hold:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	}
	during(t, s, b, take, func() {
		until(t, "the backlog", func() bool { return b.taken() == maxInline && s.large(b) })
		sh.insert("k99999", true)
		sh.insert("k02500a", true)
		until(t, "a new key after all others", func() bool { return b.has("k99999") })
		until(t, "a new key among others", func() bool { return b.has("k02500a") })
		if n := b.taken(); n != maxInline+2 {
			t.Errorf("%d were taken while the backlog was held", n)
		}
		close(hold)
		until(t, "the end", b.done)
	})
	if b.taken() != 3002 {
		t.Errorf("%d were taken", b.taken())
	}
}

// large tells whether a watch knows by now that the bucket is a large one.
func (*source) large(b *book) bool { p, _ := b.Progress(context.Background()); return p.Tail != "" }

// An object that nothing told of is found by a sweep, and counted if it was there for a while.
func TestMismatches(t *testing.T) {
	t.Parallel()
	sh, s := hall(t, 500)
	b := newBook()
	w := newWatcher(s, b, b.announcing(nil))
	sweep := func(want int64) {
		t.Helper()
		if err := w.whole(t.Context()); err != nil || b.missed() != want {
			t.Errorf("%v, %d missed, want %d", err, b.missed(), want)
		}
	}
	sweep(0) // all of them are taken up
	sh.insert("k00100a", false)
	sh.insert("k00100b", true)
	sh.insert("k00100c", false)
	if err := w.tail(t.Context()); err != nil || b.taken() != 500 {
		t.Errorf("%v, %d were taken", err, b.taken())
	}
	sweep(2)
	sweep(2)
	if last := b.sweeps[2]; b.taken() != 503 || last.Objects != 503 || last.Missed != 0 || last.Began.IsZero() {
		t.Errorf("%d were taken, %+v", b.taken(), last)
	}
}

// What is gone or refused is asked for less and less, up to once an hour; the control is a failure that may pass.
func TestNoRetryStorm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		most int
	}{
		"gone":    {gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "gone"), 36},
		"denied":  {gantry.Errorf(gantry.Denied, CodeAccessDenied, "denied"), 36},
		"control": {gantry.Errorf(gantry.Transient, "", "broken"), 300},
	} {
		sh, w, _ := shelfOf(t, 0)
		at := time.Now()
		w.now, w.pause = func() time.Time { return at }, time.Second
		tries := 0
		w.announce = func(context.Context, gantry.Object) error { tries++; return c.err }
		sh.keys = []string{"a"}
		for range 24 * 60 { // a day of polls
			if err := w.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			at = at.Add(time.Minute)
		}
		if tries > c.most || tries < 30 || name == "control" && tries < 200 {
			t.Errorf("%s: %d tries in a day", name, tries)
		}
	}
}

// In a large bucket, what fails far from the end is announced again without another listing of everything; what is
// gone then is not.
func TestRetryFarFromTheEnd(t *testing.T) {
	t.Parallel()
	sh, s := hall(t, 500)
	s.pause = 20 * time.Millisecond
	b := newBook()
	var mu sync.Mutex
	tries := map[string]int{}
	take := func(_ context.Context, o gantry.Object) error {
		mu.Lock()
		defer mu.Unlock()
		tries[o.Ref]++
		switch {
		case o.Ref == "k00007" && tries[o.Ref] < 4:
			return errors.New("not now")
		case o.Ref == "k00008":
			return gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "gone")
		}
		return nil
	}
	b.up.Tail = "k00499" // it is known for a large one
	during(t, s, b, take, func() {
		until(t, "the one that failed", func() bool { return b.has("k00007") })
		time.Sleep(10 * s.pause)
	})
	mu.Lock()
	defer mu.Unlock()
	whole := 0
	for _, from := range sh.requests() {
		if from == "" {
			whole++
		}
	}
	if whole != 1 || tries["k00007"] != 4 || tries["k00008"] != 2 || b.taken() != 499 {
		t.Errorf("listed whole %d times; tried %d and %d times; %d taken", whole, tries["k00007"], tries["k00008"], b.taken())
	}
}

// An object that stays open at the end does not make each poll list all that came after it.
func TestOpenTailStaysShort(t *testing.T) {
	t.Parallel()
	sh, s := hall(t, 500)
	b := newBook()
	w := newWatcher(s, b, b.announcing(func(_ context.Context, o gantry.Object) error {
		if strings.HasSuffix(o.Ref, "!") {
			return errors.New("not now")
		}
		return nil
	}))
	look := func() int {
		t.Helper()
		sh.set(func() { sh.asked = nil })
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(sh.requests())
	}
	look()
	sh.insert("k00500!", true)
	for i := range 400 {
		sh.insert(fmt.Sprintf("k%05d", 501+i), true)
	}
	if a, b := look(), look(); a != 5 || b != 1 {
		t.Errorf("%d requests, then %d", a, b)
	}
	if x := w.later[idOf("k00500!", w.laterOf("k00500!").Sequencer)]; !x.far || b.taken() != 900 {
		t.Errorf("it is put off as %+v; %d taken", x, b.taken())
	}
}

// laterOf finds an object that is put off.
func (w *watcher) laterOf(key string) (found postponed) {
	for _, x := range w.later {
		if x.Ref == key {
			found = x
		}
	}
	return found
}

// Passes that run side by side announce no object twice.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	_, s := hall(t, 900)
	b := newBook()
	w := newWatcher(s, b, b.announcing(func(context.Context, gantry.Object) error { time.Sleep(100 * time.Microsecond); return nil }))
	var wg sync.WaitGroup
	for _, pass := range []func(context.Context) error{w.whole, w.takeUp, w.tail} {
		wg.Go(func() {
			if err := pass(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for key, n := range b.times {
		if n != 1 {
			t.Errorf("%s was taken %d times", key, n)
		}
	}
	if b.taken() != 900 || len(w.busy) != 0 {
		t.Errorf("%d taken, %d left busy", b.taken(), len(w.busy))
	}
}

// Two channels that tell of two states of one key take turns: each reads what it was told of, or nothing.
func TestTurnsAtOneKey(t *testing.T) {
	t.Parallel()
	_, s := hall(t, 0)
	var mu sync.Mutex
	var seen []string
	w := newWatcher(s, newMemory(), func(_ context.Context, o gantry.Object) error {
		if got := s.expected(o.Ref); got != `"`+o.Version+`"` {
			t.Errorf("%s is read as %s", o.Version, got)
		}
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprint(o.New))
		return nil
	})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			w.announceOne(t.Context(), gantry.Object{Ref: "a", Version: fmt.Sprint("v", i), New: true})
		})
	}
	wg.Wait()
	if strings.Join(seen, " ") != "true false false false" || len(s.etags) != 0 {
		t.Errorf("announced as new: %v; %d left bound", seen, len(s.etags))
	}
}

// A ledger that does not answer is a failure of the listing, and leaves no key behind that nobody is at.
func TestLedgerAway(t *testing.T) {
	t.Parallel()
	_, s := hall(t, 10)
	w := newWatcher(s, away{newMemory()}, nil)
	if err := w.whole(t.Context()); gantry.KindOf(err) != gantry.Unavailable || len(w.busy) != 0 || !w.swept.IsZero() {
		t.Errorf("%v, %d busy, swept %v", err, len(w.busy), w.swept)
	}
	wantError(t, s.WatchFrom(t.Context(), away{newMemory()}, nil), gantry.Unavailable, "unavailable")
}

type away struct{ *memory }

func (away) Known(context.Context, []gantry.Object) ([]bool, error) {
	return nil, gantry.Errorf(gantry.Unavailable, "", "ask the ledger: it is away")
}

// A listing that fails, and one that works again, are told as what they are: the poll, what was there before beside it, and everything
// at long intervals.
func TestPartsFailAndWork(t *testing.T) {
	t.Parallel()
	sh := &shelf{young: map[string]bool{}}
	for i := range 3000 {
		sh.keys = append(sh.keys, fmt.Sprintf("k%05d", i))
	}
	var ill atomic.Bool
	s := serveSource(t, func(w http.ResponseWriter, r *http.Request) {
		if ill.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		sh.ServeHTTP(w, r)
	})
	s.page, s.few, s.sweep, s.poll, s.pause = 100, 2, time.Hour, 5*time.Millisecond, 5*time.Millisecond
	b := newBook()
	last := func(part string) func() bool {
		return func() bool { came := b.came(); return len(came) > 0 && came[len(came)-1] == part }
	}
	during(t, s, b, nil, func() {
		until(t, "all is taken up", func() bool { return slices.Contains(b.came(), "+"+gantry.PartBacklog) })
		until(t, "the poll works", last("+poll"))
		ill.Store(true)
		until(t, "the poll fails", last("poll"))
		ill.Store(false)
		until(t, "the poll works again", last("+poll"))
	})
	if n := slices.Index(b.came(), "poll"); n < 0 || slices.Contains(b.came()[:n], gantry.PartSweep) {
		t.Errorf("%q", b.came())
	}
}
