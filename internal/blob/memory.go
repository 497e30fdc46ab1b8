package blob

import (
	"context"
	"math/bits"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sync/semaphore"
)

// Buffers come in powers of two and three sizes between each two of them.
const (
	minPower = 15 // 32 KiB; a smaller buffer never comes from here
	maxPower = 23 // 8 MiB
	steps    = 4
	classes  = steps*(maxPower-minPower) + 1
)

// memory lends buffers for staged blobs, never more bytes than its limit at a time. Around each there is room for what makes a record of
// it, so that it is written from where it lies.
type memory struct {
	limit    int64
	patience time.Duration
	sem      *semaphore.Weighted
	pools    [classes]sync.Pool
}

func newMemory(limit int64, patience time.Duration) *memory {
	return &memory{limit: limit, patience: patience, sem: semaphore.NewWeighted(limit)}
}

// class is the least one with room for n bytes.
func class(n int) int {
	if n <= 1<<minPower {
		return 0
	}
	power := bits.Len(uint(n-1)) - 1
	step := 1 << power / steps
	return steps*(power-minPower) + (n-1<<power+step-1)/step
}

// sizeOf is the size of a class in bytes.
func sizeOf(c int) int { return (steps + c%steps) << (minPower + c/steps) / steps }

// get lends an empty buffer with room for n bytes, 0 < n ≤ 8 MiB. It gives nil if there is none
// within the time of its patience: a caller may hold other buffers, so to wait for ever could be
// to wait for itself. An error is ctx's.
func (m *memory) get(ctx context.Context, n int) ([]byte, error) {
	if b := m.tryGet(n); b != nil {
		return b, nil
	}
	size := int64(sizeOf(class(n)))
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
	if !m.sem.TryAcquire(int64(sizeOf(c))) {
		return nil
	}
	return m.take(c)
}

func (m *memory) take(c int) []byte {
	if p, ok := m.pools[c].Get().(*[]byte); ok {
		return (*p)[:0]
	}
	n := sizeOf(c)
	return aligned(int(recordSize(n)))[recordHeader:][:0:n]
}

// recordOf is the room of a record around a buffer that came from get, which needs not be copied then; nil for any other. Its body
// is in its place.
func recordOf(b []byte) []byte {
	if cap(b) < 1<<minPower {
		return nil
	}
	first := (*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), -recordHeader))
	return unsafe.Slice(first, recordSize(len(b)))
}

// aligned gives n bytes at an address that is a multiple of the block size.
func aligned(n int) []byte {
	b := make([]byte, n+block)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (block - 1)
	return b[skip : skip+uintptr(n)]
}

// put takes a buffer back. Those that did not come from get are left alone.
func (m *memory) put(b []byte) {
	if cap(b) < 1<<minPower {
		return
	}
	b = b[:0]
	m.pools[class(cap(b))].Put(&b)
	m.sem.Release(int64(cap(b)))
}
