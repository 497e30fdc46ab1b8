// Package line holds callers that wait in this process for something of which there is too little, and says whose
// turn it is: the most urgent first, and those of one priority in the order in which they came. So that nobody
// waits for ever, every eighth turn is for whoever has waited longest, once that is a minute. Queue is the order
// alone, under its user's lock; Room is places to wait for.
package line

import (
	"container/heap"
	"time"
)

// The rule on ageing: one turn in AgedTurn is for the caller that has waited longest, if it has for Patience.
const (
	AgedTurn = 8
	Patience = time.Minute
)

// Waiter is a caller in a queue. Ready is closed by whoever serves it.
type Waiter struct {
	Priority int16 // 0 first
	Ready    chan struct{}
	Aged     bool // served because it had waited longest
	Mark     bool // of whoever serves it, set before Ready is closed

	serial int64
	since  time.Time
	index  int
}

// Queue orders waiters. The zero value is an empty one. It is not safe for concurrent use.
type Queue struct {
	waiters waiters
	serial  int64
	turns   int // since one was for the caller that had waited longest
}

// Join adds a caller.
func (q *Queue) Join(priority int16) *Waiter {
	w := &Waiter{Priority: priority, Ready: make(chan struct{}), serial: q.serial, since: time.Now()}
	q.serial++
	heap.Push(&q.waiters, w)
	return w
}

// Rejoin adds a caller again that gave its turn to another; it has the place that it had.
func (q *Queue) Rejoin(w *Waiter) {
	w.Ready = make(chan struct{})
	heap.Push(&q.waiters, w)
}

// Next takes the caller out whose turn it is, if fits says that there is a place for its priority; else nil. What fits
// a priority must fit every more urgent one.
func (q *Queue) Next(fits func(priority int16) bool) *Waiter {
	if len(q.waiters) == 0 {
		return nil
	}
	if q.turns+1 >= AgedTurn {
		if w := q.oldest(); time.Since(w.since) >= Patience && fits(w.Priority) {
			q.turns, w.Aged = 0, true
			heap.Remove(&q.waiters, w.index)
			return w
		}
	}
	if !fits(q.waiters[0].Priority) {
		return nil
	}
	q.turns++
	return heap.Pop(&q.waiters).(*Waiter)
}

// Leave takes out a caller that waits no longer.
func (q *Queue) Leave(w *Waiter) { heap.Remove(&q.waiters, w.index) }

// Len counts the callers.
func (q *Queue) Len() int { return len(q.waiters) }

// UpTo counts the callers of a priority and of more urgent ones.
func (q *Queue) UpTo(priority int16) int {
	n := 0
	for _, w := range q.waiters {
		if w.Priority <= priority {
			n++
		}
	}
	return n
}

func (q *Queue) oldest() *Waiter {
	w := q.waiters[0]
	for _, x := range q.waiters {
		if x.serial < w.serial {
			w = x
		}
	}
	return w
}

// waiters is a heap by priority, then by arrival.
type waiters []*Waiter

func (q waiters) Len() int { return len(q) }
func (q waiters) Less(i, j int) bool {
	if q[i].Priority != q[j].Priority {
		return q[i].Priority < q[j].Priority
	}
	return q[i].serial < q[j].serial
}
func (q waiters) Swap(i, j int) { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }

// Push is part of heap.Interface.
func (q *waiters) Push(x any) { w := x.(*Waiter); w.index = len(*q); *q = append(*q, w) }

// Pop is part of heap.Interface.
func (q *waiters) Pop() any {
	old := *q
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return w
}
