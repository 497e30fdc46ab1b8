package line

import (
	"context"
	"sync"
)

// priorities are those from 0 to 9; others count as the nearest.
const priorities = 10

// Room is places that callers wait for. A caller is kept out only by those inside that are as urgent as itself or
// more: in a room full of ordinary callers there is a place for an urgent one at once. So at most the room's places
// times the number of priorities are inside.
type Room struct {
	mu      sync.Mutex
	places  int
	inside  [priorities]int
	waiting Queue
}

// NewRoom makes an empty room.
func NewRoom() *Room { return &Room{} }

// Enter waits for a place, of which there are so many from now on; its error is ctx's cause. Who entered must Leave
// with the same priority.
func (r *Room) Enter(ctx context.Context, priority int16, places int) error {
	priority = clamp(priority)
	r.mu.Lock()
	r.places = places
	w := r.waiting.Join(priority)
	r.admit()
	r.mu.Unlock()
	select {
	case <-w.Ready:
		return nil
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-w.Ready: // it was let in at this moment
		r.leave(priority)
	default:
		r.waiting.Leave(w)
	}
	return context.Cause(ctx)
}

// TryEnter takes a place, of which there are so many from now on, if nobody has to be waited for, and tells whether
// it did.
func (r *Room) TryEnter(priority int16, places int) bool {
	priority = clamp(priority)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.places = places
	if r.waiting.Len() > 0 || !r.fits(priority) {
		return false
	}
	r.inside[priority]++
	return true
}

// Leave gives a place back.
func (r *Room) Leave(priority int16) {
	r.mu.Lock()
	r.leave(clamp(priority))
	r.mu.Unlock()
}

func (r *Room) leave(priority int16) {
	r.inside[priority]--
	r.admit()
}

// admit lets in whoever there is a place for; mu is held.
func (r *Room) admit() {
	for w := r.waiting.Next(r.fits); w != nil; w = r.waiting.Next(r.fits) {
		r.inside[w.Priority]++
		close(w.Ready)
	}
}

func (r *Room) fits(priority int16) bool {
	n := 0
	for p := range priority + 1 {
		n += r.inside[p]
	}
	return n < r.places
}

func clamp(priority int16) int16 { return min(max(priority, 0), priorities-1) }
