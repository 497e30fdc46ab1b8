package s3

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What the first listing of a large bucket leaves open, since it failed or is too young, is announced again long before
// the next listing of everything.
func TestFirstListingOfALargeBucket(t *testing.T) {
	t.Parallel()
	sh, s := hall(t, 500)
	s.pause, s.settle = 20*time.Millisecond, 2*time.Second
	sh.set(func() { sh.young["k00009"] = true })
	b := newBook()
	var mu sync.Mutex
	tries := map[string]int{}
	take := func(_ context.Context, o gantry.Object) error {
		mu.Lock()
		defer mu.Unlock()
		if tries[o.Ref]++; o.Ref == "k00007" && tries[o.Ref] < 2 {
			return errors.New("not now")
		}
		return nil
	}
	during(t, s, b, take, func() {
		until(t, "the one that failed", func() bool { return b.has("k00007") })
		if b.has("k00009") {
			t.Error("one that is too young was taken")
		}
		until(t, "the one that was too young", func() bool { return b.has("k00009") })
	})
	if b.taken() != 500 {
		t.Errorf("%d taken", b.taken())
	}
}

// More objects than a poll lists, all of them too young, are announced when they have settled.
func TestYoungTail(t *testing.T) {
	t.Parallel()
	sh, s := hall(t, 500)
	s.settle = 2 * time.Second
	b := newBook()
	during(t, s, b, nil, func() {
		until(t, "what was there", func() bool { return b.taken() == 500 })
		for i := range 400 {
			sh.insert(fmt.Sprintf("k%05d", 501+i), true)
		}
		until(t, "what is young", func() bool { return b.taken() >= 900 })
	})
}
