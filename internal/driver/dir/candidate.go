package dir

import (
	"container/heap"
	"fmt"
	"io/fs"
	"time"
)

// stamp tells two contents of a file apart as far as that costs nothing.
type stamp struct {
	size  int64
	mtime int64 // nanoseconds since 1970
	inode uint64
}

func stampOf(info fs.FileInfo) stamp {
	return stamp{size: info.Size(), mtime: info.ModTime().UnixNano(), inode: inode(info)}
}

// String is the stamp as a sequencer.
func (s stamp) String() string { return fmt.Sprintf("%d-%d-%d", s.size, s.mtime, s.inode) }

// candidate is a file that is not announced yet.
type candidate struct {
	ref    string
	stamp  stamp         // when it was looked at last
	due    time.Time     // when to look again
	queued time.Time     // when the queue brings it up; zero if it does not
	pause  time.Duration // after the last failure
	busy   bool          // it is ready or being announced
}

// queue brings up candidates when they are due. A turn whose time is not its candidate's queued
// one is stale.
type queue []turn

type turn struct {
	at time.Time
	c  *candidate
}

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push is for package heap.
func (q *queue) Push(x any) { *q = append(*q, x.(turn)) }

// Pop is for package heap.
func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = turn{}
	*q = (*q)[:last]
	return t
}

// schedule sets when c is due. A file that grows is put off with every byte, so a later time does
// not take another turn: the one that c has finds out.
func (q *queue) schedule(c *candidate, due time.Time) {
	c.due = due
	if c.queued.IsZero() || due.Before(c.queued) {
		c.queued = due
		heap.Push(q, turn{due, c})
	}
}

// take gives a candidate that is due, nil if none is.
func (q *queue) take(now time.Time) *candidate {
	for len(*q) > 0 && !(*q)[0].at.After(now) {
		t := heap.Pop(q).(turn)
		if !t.at.Equal(t.c.queued) {
			continue
		}
		t.c.queued = time.Time{}
		if !t.c.due.After(now) {
			return t.c
		}
		q.schedule(t.c, t.c.due)
	}
	return nil
}
