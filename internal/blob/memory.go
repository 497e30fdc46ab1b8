package blob

import (
	"context"
	"math/bits"
	"slices"
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

	spare = 15 * time.Second // a buffer that nobody needed for so long goes, or for twice as long at most
)

// memory lends buffers for staged blobs, never more bytes than its limit at a time. Around each there is room for what makes a record of
// it, so that it is written from where it lies. What is not lent is kept for a while, and lent again. (In a sync.Pool each processor would
// have some of its own, and collections of garbage take them away just when others are about to be needed: twice the memory.)
type memory struct {
	limit    int64
	patience time.Duration
	sem      *semaphore.Weighted

	mu       sync.Mutex
	shelves  [classes]shelf
	kept     int64 // bytes on the shelves, a quarter of the limit at most; where that is too little, the class that has the most keeps less
	clearing bool  // some time
}

// shelf holds the buffers of a class that are not lent.
type shelf struct {
	idle [][]byte // the one that came back last is the next to go
	low  int      // the fewest since it was cleared
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
	if b := m.pop(c); b != nil {
		return b
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
	m.push(class(cap(b)), b[:0])
	m.sem.Release(int64(cap(b)))
}

func (m *memory) pop(c int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &m.shelves[c]
	n := len(s.idle) - 1
	if n < 0 {
		return nil
	}
	b := s.idle[n]
	s.idle[n] = nil
	s.idle, s.low = s.idle[:n], min(s.low, n)
	m.kept -= int64(sizeOf(c))
	return b
}

func (m *memory) push(c int, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	size := int64(sizeOf(c))
	for m.kept+size > m.limit/4 {
		most := m.most()
		if most == c || len(m.shelves[most].idle) == 0 {
			return
		}
		m.forget(most, 1)
	}
	s := &m.shelves[c]
	s.idle = append(s.idle, b)
	m.kept += size
	if !m.clearing {
		m.clearing = true
		time.AfterFunc(spare, m.clear)
	}
}

// most is the class that keeps the most bytes.
func (m *memory) most() (c int) {
	var most int
	for i := range m.shelves {
		if n := len(m.shelves[i].idle) * sizeOf(i); n > most {
			c, most = i, n
		}
	}
	return c
}

// forget leaves n buffers of a class to the collector, those that were idle for the longest.
func (m *memory) forget(c, n int) {
	s := &m.shelves[c]
	s.idle = slices.Delete(s.idle, 0, n)
	s.low = min(s.low, len(s.idle))
	m.kept -= int64(n * sizeOf(c))
}

// clear forgets the buffers that were not needed since it was called last, for as long as there are any.
func (m *memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clearing = false
	for i := range m.shelves {
		s := &m.shelves[i]
		m.forget(i, s.low)
		s.low = len(s.idle)
		m.clearing = m.clearing || s.low > 0
	}
	if m.clearing {
		time.AfterFunc(spare, m.clear)
	}
}
