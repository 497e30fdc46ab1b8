package blob

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestReservedSpaceOfTheDead has a process die with a segment that it reserved: the space goes once nobody writes
// it any more, and not a byte that was written.
func TestReservedSpaceOfTheDead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	options := Options{Dir: dir, Worker: 1, Key: bytes.Repeat([]byte{1}, minKey), SegmentSize: 8 << 20}
	alive := openTest(t, options)
	body := bytes.Repeat([]byte("pixels.."), 5000)
	at := commit(t, alive, body)
	files, err := filepath.Glob(filepath.Join(dir, "seg", "1", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	old := time.Now().Add(-2 * orphanAge)
	size := func() int64 {
		info, err := os.Stat(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	look := func(before time.Duration) int64 {
		if err := os.Chtimes(files[0], old, old); err != nil {
			t.Fatal(err)
		}
		if err := reclaim(t.Context(), dir, time.Now().Add(-before)); err != nil {
			t.Fatal(err)
		}
		return size()
	}
	reserved := size()
	if reserved < 8<<20 {
		t.Skipf("this filesystem reserves nothing: %d bytes", reserved)
	}
	if n := look(orphanAge); n != reserved {
		t.Errorf("a segment that is written has %d bytes, reserved %d", n, reserved)
	}
	alive.writers[0].seg.f.Close() // as the end of its process does
	if n := look(3 * orphanAge); n != reserved {
		t.Errorf("one that was written lately has %d bytes", n)
	}
	n := look(orphanAge)
	if n >= reserved || n < int64(len(body)) {
		t.Errorf("%d bytes are left of %d", n, reserved)
	}
	options.Worker = 2
	if !bytes.Equal(readBack(t, openTest(t, options), at), body) {
		t.Error("what was written is not there")
	}
}
