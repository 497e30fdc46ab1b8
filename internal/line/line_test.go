package line

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func always(int16) bool { return true }

// serve takes n callers out and gives their priorities.
func serve(q *Queue, n int) (order []int16) {
	for range n {
		w := q.Next(always)
		if w == nil {
			return order
		}
		order = append(order, w.Priority)
	}
	return order
}

func TestTurnsGoByPriorityThenArrival(t *testing.T) {
	t.Parallel()
	var q Queue
	var came []*Waiter
	for _, p := range []int16{5, 8, 1, 5, 1, 8} {
		came = append(came, q.Join(p))
	}
	for _, i := range []int{2, 4, 0, 3, 1, 5} {
		if w := q.Next(always); w != came[i] {
			t.Fatalf("%+v has the turn of caller %d", w, i)
		}
	}
	if q.Next(always) != nil || q.Len() != 0 {
		t.Error("an empty queue gave a caller")
	}
}

// TestNobodyWaitsForEver keeps a stream of urgent callers before one that is not: it has its turn, and no sooner than
// the rule says.
func TestNobodyWaitsForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		patient := q.Join(9)
		for range 60 {
			q.Join(1)
		}
		if order := serve(&q, 20); slices.Contains(order, 9) {
			t.Errorf("a caller that has just come has a turn before urgent ones: %v", order)
		}
		time.Sleep(Patience)
		if order := serve(&q, AgedTurn); !slices.Contains(order, 9) {
			t.Errorf("%v: a caller that has waited for %s has no turn in %d", order, time.Since(patient.since), AgedTurn)
		}
		for range 20 {
			q.Join(8)
		}
		time.Sleep(Patience) // now all have waited
		order := serve(&q, 16)
		if n := len(order) - count(order, 1); n > 2 {
			t.Errorf("%d of 16 turns are for those that are not urgent: %v", n, order)
		}
	})
}

func count(list []int16, p int16) (n int) {
	for _, x := range list {
		if x == p {
			n++
		}
	}
	return n
}

// TestStarvation is the control: without the rule the caller that is not urgent never has its turn.
func TestStarvation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, aged := range []bool{true, false} {
			var q Queue
			q.Join(9)
			served := false
			for range 1000 {
				q.Join(1)
				time.Sleep(time.Second)
				if !aged {
					q.turns = 0
				}
				served = served || q.Next(always).Priority == 9
			}
			if served != aged {
				t.Errorf("with the rule %t: served %t", aged, served)
			}
		}
	})
}

func TestWhoGivesItsTurnKeepsItsPlace(t *testing.T) {
	t.Parallel()
	var q Queue
	first := q.Join(5)
	q.Join(5)
	if q.Next(always) != first {
		t.Fatal("the second has the turn")
	}
	q.Join(1)
	q.Rejoin(first)
	if order := []*Waiter{q.Next(always), q.Next(always)}; order[0].Priority != 1 || order[1] != first {
		t.Errorf("%+v, %+v; want the urgent one, then the one that let it go ahead", order[0], order[1])
	}
}

func TestWhatDoesNotFitWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var q Queue
		q.Join(9)
		q.Join(4)
		time.Sleep(2 * Patience)
		q.turns = AgedTurn
		urgentOnly := func(p int16) bool { return p <= 4 }
		if w := q.Next(urgentOnly); w == nil || w.Priority != 4 {
			t.Errorf("%+v; the one that fits has the turn, though another is older", w)
		}
		if w := q.Next(urgentOnly); w != nil {
			t.Errorf("%+v does not fit", w)
		}
		if q.UpTo(8) != 0 || q.UpTo(9) != 1 {
			t.Errorf("%d, %d wait", q.UpTo(8), q.UpTo(9))
		}
	})
}

func TestRoomForTheUrgent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := NewRoom()
		for range 3 {
			enter(t, r, 5)
		}
		var late []int
		for i, p := range []int16{8, 5, 5} {
			go func() { enter(t, r, p); late = append(late, i) }()
			synctest.Wait()
		}
		if len(late) != 0 {
			t.Fatalf("%v are in a full room", late)
		}
		for range 3 {
			enter(t, r, 1) // at once: nobody inside is as urgent
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("gone"))
		defer cancel()
		if err := r.Enter(ctx, 1, 3); err == nil || err.Error() != "gone" {
			t.Errorf("a fourth urgent caller in a room of three: %v", err)
		}
		r.Leave(1)
		r.Leave(1)
		synctest.Wait()
		if len(late) != 0 {
			t.Errorf("%v took the places of urgent callers while four are inside", late)
		}
		r.Leave(1)
		r.Leave(5)
		synctest.Wait()
		r.Leave(5)
		synctest.Wait()
		r.Leave(5)
		synctest.Wait()
		if !slices.Equal(late, []int{1, 2, 0}) {
			t.Errorf("let in as %v, want by priority, then by arrival", late)
		}
	})
}

func enter(t *testing.T, r *Room, p int16) {
	if err := r.Enter(t.Context(), p, 3); err != nil {
		t.Error(err)
	}
}

// TestAPlaceWithoutWaiting takes what is free at once and nothing else, and nothing before those that wait.
func TestAPlaceWithoutWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := NewRoom()
		first, second, third := r.TryEnter(5, 2), r.TryEnter(5, 2), r.TryEnter(5, 2)
		if !first || !second || third {
			t.Error("a room of two takes another number than two")
		}
		if !r.TryEnter(1, 2) {
			t.Error("an urgent caller is kept out by ordinary ones")
		}
		go func() { _ = r.Enter(t.Context(), 5, 3) }()
		synctest.Wait()
		if r.TryEnter(0, 3) {
			t.Error("a caller went in before one that waits")
		}
		r.Leave(5)
		synctest.Wait()
		r.Leave(1)
		r.Leave(5)
		r.Leave(5)
		if !r.TryEnter(9, 1) {
			t.Error("an empty room is full")
		}
	})
}

// TestRoomsKeepTheirBounds tries random histories, with callers that give up: nobody is inside who is kept out by as
// many that are as urgent, nobody waits who fits, and nothing is left at the end.
func TestRoomsKeepTheirBounds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			r, rnd := NewRoom(), rand.New(rand.NewPCG(seed, 7))
			var cancels []context.CancelFunc
			leave := make(chan struct{})
			for range 300 {
				switch rnd.IntN(4) {
				case 0, 1:
					ctx, cancel := context.WithCancel(t.Context())
					cancels = append(cancels, cancel)
					p := int16(rnd.IntN(13) - 1)
					go func() {
						if r.Enter(ctx, p, 4) == nil {
							<-leave
							r.Leave(p)
						}
					}()
				case 2:
					select {
					case leave <- struct{}{}:
					default:
					}
				case 3:
					if n := len(cancels); n > 0 {
						cancels[rnd.IntN(n)]()
					}
				}
				synctest.Wait()
				total := 0
				for p, n := range r.inside {
					total += n
					if n > 4 || n < 0 {
						t.Fatalf("seed %d: %d of priority %d are inside", seed, n, p)
					}
				}
				if r.waiting.Len() > 0 && r.fits(r.waiting.waiters[0].Priority) || total > 4*priorities {
					t.Fatalf("seed %d: %v inside, and one waits that fits", seed, r.inside)
				}
			}
			for _, cancel := range cancels {
				cancel()
			}
			close(leave)
			synctest.Wait()
			if r.inside != [priorities]int{} || r.waiting.Len() != 0 {
				t.Errorf("seed %d: at the end %v inside, %d wait", seed, r.inside, r.waiting.Len())
			}
		})
	}
}
