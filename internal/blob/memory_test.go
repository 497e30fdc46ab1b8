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
		if size := int64(sizeOf(class(525_000))); m.kept != 3*size {
			t.Errorf("%d bytes are kept of eight buffers, of which three were needed", m.kept)
		}
		time.Sleep(2 * spare)
		if m.kept != 0 || m.clearing {
			t.Errorf("%d bytes are kept that nobody needs", m.kept)
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
		if m.kept != 12<<20 {
			t.Errorf("%d bytes are kept", m.kept)
		}
		if all, _ := lent(t, m, 8, 8<<20); len(all) != 8 {
			t.Error("what is kept is not there to be lent")
		}
	})
}
