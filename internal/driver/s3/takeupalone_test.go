package s3

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// slowly is a book in which it takes a second to look.
type slowly struct {
	*book
	asked *atomic.Int64
}

func (s slowly) Known(ctx context.Context, list []gantry.Object) ([]bool, error) {
	s.asked.Add(int64(len(list)))
	time.Sleep(time.Second)
	return s.book.Known(ctx, list)
}

// TestSweepLeavesTheTakeUpAlone: a listing of everything asks about nothing that the take-up beside it comes to. Where it did, the take-up passed
// over that, and nobody took it before the next one.
func TestSweepLeavesTheTakeUpAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s := still(t, 500)
		b := slowly{newBook(), new(atomic.Int64)}
		b.up = gantry.TakeUp{Backlog: true, Tail: "k00499"}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.WatchFrom(ctx, b, b.announcing(nil)) }()
		until(t, "the end of the take-up", b.done)
		if asked, n := b.asked.Load(), b.taken(); n != 500 || asked != 500 {
			t.Errorf("%d of 500 were taken up, %d asked about", n, asked)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
