package blob

import (
	"context"
	"math/bits"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Buffers come in powers of two.
const (
	minClass = 15 // 32 KiB; a smaller buffer never comes from here
	maxClass = 23 // 8 MiB
)

// memory lends buffers for staged blobs, never more bytes than its limit at a time.
type memory struct {
	limit    int64
	patience time.Duration
	sem      *semaphore.Weighted
	pools    [maxClass - minClass + 1]sync.Pool
}

func newMemory(limit int64, patience time.Duration) *memory {
	return &memory{limit: limit, patience: patience, sem: semaphore.NewWeighted(limit)}
}

func class(n int) int { return max(bits.Len(uint(n-1)), minClass) }

// get lends an empty buffer with room for n bytes, 0 < n ≤ 8 MiB. It gives nil if there is none
// within the time of its patience: a caller may hold other buffers, so to wait for ever could be
// to wait for itself. An error is ctx's.
func (m *memory) get(ctx context.Context, n int) ([]byte, error) {
	if b := m.tryGet(n); b != nil {
		return b, nil
	}
	size := int64(1) << class(n)
	if size > m.limit {
		return nil, ctx.Err()
	}
	waiting, cancel := context.WithTimeout(ctx, m.patience)
	defer cancel()
	if m.sem.Acquire(waiting, size) != nil {
		return nil, ctx.Err()
	}
	return m.take(class(n)), nil
}

// tryGet is get without any waiting.
func (m *memory) tryGet(n int) []byte {
	c := class(n)
	if !m.sem.TryAcquire(1 << c) {
		return nil
	}
	return m.take(c)
}

func (m *memory) take(c int) []byte {
	if p, ok := m.pools[c-minClass].Get().(*[]byte); ok {
		return (*p)[:0]
	}
	return make([]byte, 0, 1<<c)
}

// put takes a buffer back. Those that did not come from get are left alone.
func (m *memory) put(b []byte) {
	if cap(b) < 1<<minClass {
		return
	}
	b = b[:0]
	m.pools[class(cap(b))-minClass].Put(&b)
	m.sem.Release(int64(cap(b)))
}
