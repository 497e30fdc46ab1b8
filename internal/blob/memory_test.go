package blob

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

// lent gets buffers of a size and says where they lie.
func lent(t *testing.T, m *memory, n, size int) (list [][]byte, at map[*byte]bool) {
	t.Helper()
	at = map[*byte]bool{}
	for range n {
		b, err := m.get(context.Background(), size)
		if err != nil || b == nil {
			t.Fatalf("no buffer of %d bytes: %v", size, err)
		}
		list, at[unsafe.SliceData(b)] = append(list, b), true
	}
	return list, at
}

func putAll(m *memory, list [][]byte) {
	for _, b := range list {
		m.put(b)
	}
}

// keeps says how many bytes lie idle, and whether they are looked at again.
func (m *memory) keeps() (bytes int64, clearing bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, m.clearing
}

// TestBuffersStay: what was lent is lent again, whatever was collected meanwhile, and goes when nobody needed it for a while; what was needed
// in that time stays.
func TestBuffersStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(64<<20, time.Second)
		list, before := lent(t, m, 8, 525_000)
		putAll(m, list)
		for range 3 {
			runtime.GC()
		}
		list, after := lent(t, m, 8, 525_000)
		for at := range after {
			if !before[at] {
				t.Fatal("a buffer is made anew while another lies idle")
			}
		}
		putAll(m, list)
		time.Sleep(spare + time.Second) // it begins to count with the first that came back
		few, _ := lent(t, m, 3, 525_000)
		putAll(m, few)
		time.Sleep(spare)
		synctest.Wait()
		if got, _ := m.keeps(); got != 3*int64(sizeOf(class(525_000))) {
			t.Errorf("%d bytes are kept of eight buffers, of which three were needed", got)
		}
		time.Sleep(2 * spare)
		synctest.Wait()
		if got, again := m.keeps(); got != 0 || again {
			t.Errorf("%d bytes are kept that nobody needs", got)
		}
	})
}

// TestBuffersKept: what lies idle is a quarter of what may be lent at most, of all sizes together.
func TestBuffersKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(64<<20, time.Second)
		small, _ := lent(t, m, 12, 1<<20)
		large, _ := lent(t, m, 4, 8<<20)
		putAll(m, small)
		putAll(m, large)
		if got, _ := m.keeps(); got != 15<<20 { // a large one in the place of four small ones; another would take one, and then its own has the most
			t.Errorf("%d bytes are kept", got)
		}
		m = newMemory(64<<20, time.Second)
		large, _ = lent(t, m, 4, 8<<20)
		putAll(m, large)
		small, before := lent(t, m, 8, 1<<20)
		putAll(m, small)
		_, after := lent(t, m, 8, 1<<20)
		for at := range after {
			if !before[at] {
				t.Fatal("large buffers that are idle keep small ones from being kept")
			}
		}
		if all, _ := lent(t, m, 7, 8<<20); len(all) != 7 {
			t.Error("what is kept is not there to be lent")
		}
	})
}
