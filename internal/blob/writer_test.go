package blob

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// faults breaks the calls that decide about durability, as a test tells it to.
type faults struct {
	mu          sync.Mutex
	write, sync error // the next call gives this once
	syncs       int
	hold        chan struct{} // if set, a sync waits until it is closed
	held        chan struct{} // a sync that waits says so here
}

func (f *faults) install(e *env) {
	write, sync := e.write, e.sync
	e.write = func(file *os.File, list [][]byte, off int64) error {
		f.mu.Lock()
		err := f.write
		f.write = nil
		f.mu.Unlock()
		if err != nil {
			half := slices.Clone(list[:(len(list)+1)/2])
			last := &half[len(half)-1]
			*last = (*last)[:len(*last)/2/block*block]
			write(file, half, off) // a part reaches the disk
			return err
		}
		return write(file, list, off)
	}
	e.sync = func(file *os.File) error {
		f.mu.Lock()
		err, hold, held := f.sync, f.hold, f.held
		f.sync = nil
		f.syncs++
		f.mu.Unlock()
		if hold != nil {
			held <- struct{}{}
			<-hold
		}
		if err != nil {
			return err
		}
		return sync(file)
	}
}

func (f *faults) set(write, sync error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write, f.sync = write, sync
}

func TestFailedWritePoisonsSegment(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		write, sync error
		kind        gantry.Kind
		code        gantry.Code
	}{
		"write":         {write: syscall.EIO, kind: gantry.Transient, code: "transient"},
		"sync":          {sync: syscall.EIO, kind: gantry.Transient, code: "transient"},
		"full at write": {write: syscall.ENOSPC, kind: gantry.Unavailable, code: CodeNoSpace},
		"full at sync":  {sync: syscall.ENOSPC, kind: gantry.Unavailable, code: CodeNoSpace},
		"quota":         {write: syscall.EDQUOT, kind: gantry.Unavailable, code: CodeNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f faults
			d := openTest(t, testOptions(t.TempDir()), f.install)
			before := commit(t, d, body(20<<10, 1))
			f.set(c.write, c.sync)
			_, err := stage(t, d, body(30<<10, 2), -1).Commit(t.Context())
			wantErr(t, err, c.kind, c.code)
			after := commit(t, d, body(30<<10, 3))
			if !strings.HasPrefix(before, "seg/7/0/") || !strings.HasPrefix(after, "seg/7/1/") {
				t.Errorf("lie at %s and %s, want segments 0 and 1", before, after)
			}
			if !bytes.Equal(readBack(t, d, before), body(20<<10, 1)) || !bytes.Equal(readBack(t, d, after), body(30<<10, 3)) {
				t.Error("other bytes")
			}
			fi, err := os.Stat(filepath.Join(d.root, "seg", "7", "0"))
			if err != nil || fi.Size() != block+24<<10 {
				t.Errorf("the broken segment has %d bytes (%v), want those that were acknowledged", fi.Size(), err)
			}
			allFree(t, d)
		})
	}
}

// The batch buffer is used again and again: what it held before must not come into the padding.
func TestRecordIsPadded(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, block - recordHeader, block - recordHeader + 1, 3 * block} {
		b := bytes.Repeat([]byte{0xee}, int(recordSize(n)))
		if len(b)%block != 0 || len(b) < n+recordHeader || len(b) >= n+recordHeader+block {
			t.Errorf("a record of %d bytes takes %d", n, len(b))
		}
		putRecord(b, body(n, 1), gantry.Seal{SHA: gantry.Digest{1}})
		if !checkRecord(b, int64(n)) || checkRecord(b, int64(n+1)) || checkRecord(b[:recordHeader-1], int64(n)) {
			t.Errorf("a record of %d bytes is not known again", n)
		}
		if !bytes.Equal(b[recordHeader:][:n], body(n, 1)) || len(bytes.Trim(b[recordHeader+n:], "\x00")) != 0 {
			t.Errorf("a record of %d bytes holds others", n)
		}
	}
}

func TestFailedFileSync(t *testing.T) {
	t.Parallel()
	var f faults
	dir := t.TempDir()
	d := openTest(t, testOptions(dir), f.install)
	s := stage(t, d, body(2<<20, 1), -1)
	f.set(nil, syscall.ENOSPC)
	_, err := s.Commit(t.Context())
	wantErr(t, err, gantry.Unavailable, CodeNoSpace)
	if _, err := d.Open(t.Context(), "sha/"+s.SHA().String()); gantry.KindOf(err) != gantry.NotFound {
		t.Errorf("a file that was not synced has its name: %v", err)
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestSegmentsFollow(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	o.SegmentSize = 64<<10 - 100 // rounded up: header and three records of 20 KiB
	d := openTest(t, o)
	want := map[string][]byte{}
	for i := range 8 {
		b := body(19<<10, uint64(i))
		want[commit(t, d, b)] = b
	}
	large := commit(t, d, body(1<<20, 99)) // larger than a segment: it gets one of its own
	if !strings.HasPrefix(large, "seg/7/3/4096/") {
		t.Errorf("the large record lies at %s", large)
	}
	want[large] = body(1<<20, 99)
	d.Close()
	// The same worker again, as in a test or after a fork of its state, writes over nothing.
	d = openTest(t, o)
	again := commit(t, d, body(19<<10, 50))
	if again != "seg/7/4/4096/19456" {
		t.Errorf("the next run writes at %s", again)
	}
	want[again] = body(19<<10, 50)
	for where, b := range want {
		if !bytes.Equal(readBack(t, d, where), b) {
			t.Errorf("%s gives other bytes", where)
		}
	}
	var sizes []int64
	for n := range 4 {
		fi, err := os.Stat(segmentID{7, int64(n)}.path(o.Dir))
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, fi.Size())
	}
	if sizes[0] != 64<<10 || sizes[1] != 64<<10 || sizes[2] != 44<<10 || sizes[3] != 1<<20+2*block {
		t.Errorf("segments have %v bytes", sizes)
	}
}

// Two stores with one worker id, which must not be, still do not write over each other.
func TestSameWorkerTwice(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	o.SegmentSize = 64 << 10
	a, b := openTest(t, o), openTest(t, o)
	var wg sync.WaitGroup
	for i, d := range []*Dir{a, b, a, b} {
		wg.Go(func() {
			for j := range 10 {
				want := body(20<<10, uint64(i*100+j))
				s, err := d.Stage(t.Context(), bytes.NewReader(want), -1, 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				where, err := s.Commit(t.Context())
				if err != nil || !bytes.Equal(readBack(t, d, where), want) {
					t.Errorf("%s: %v", where, err)
				}
			}
		})
	}
	wg.Wait()
}

// A filesystem that refuses direct writes only at the write gets buffered ones.
func TestDirectRefusedAtWrite(t *testing.T) {
	t.Parallel()
	var f faults
	d := openTest(t, testOptions(t.TempDir()), f.install)
	f.set(syscall.EINVAL, nil)
	where := commit(t, d, body(20<<10, 1))
	if where != "seg/7/0/4096/20480" || !bytes.Equal(readBack(t, d, where), body(20<<10, 1)) {
		t.Errorf("lies at %s", where)
	}
}

func TestUnusableSegmentFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	path := filepath.Join(dir, "seg", "7")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := stage(t, d, body(20<<10, 1), -1).Commit(t.Context())
	wantErr(t, err, gantry.Transient, "transient")
	allFree(t, d)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	commit(t, d, body(20<<10, 1))
}

// TestRecordInPlace makes a record of a lent buffer without a copy, whatever the buffer held before, and copies any other.
func TestRecordInPlace(t *testing.T) {
	t.Parallel()
	m := newMemory(1<<30, 0)
	for _, n := range []int{1, 1 << minPower, 1<<minPower + 1, 40_000, 525_000, 1 << 20, maxRecord} {
		b, err := m.get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b[:cap(b)] {
			b[:cap(b)][i] = 0xee
		}
		b = append(b, body(n, 1)...)
		rec := recordOf(b)
		if int64(len(rec)) != recordSize(n) || uintptr(unsafe.Pointer(&rec[0]))%block != 0 || &rec[recordHeader] != &b[0] {
			t.Fatalf("%d bytes: a record of %d", n, len(rec))
		}
		seal := gantry.Seal{From: 1, SHA: gantry.Digest{1}}
		finishRecord(rec, n, seal)
		want := make([]byte, recordSize(n))
		putRecord(want, body(n, 1), seal)
		if !bytes.Equal(rec, want) {
			t.Errorf("%d bytes: another record than of a copy", n)
		}
		m.put(b)
	}
	if recordOf(make([]byte, 10, gantry.InlineLimit)) != nil {
		t.Error("a buffer that was not lent is taken for one")
	}
}
