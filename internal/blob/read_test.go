package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// damage writes b into a file at off.
func damage(t testing.TB, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(b, off)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestCorruptRecord(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	path := segmentID{7, 0}.path(d.root)
	for off := range 16 { // magic, version, length
		where := commit(t, d, body(20<<10, uint64(off)))
		l, err := parseLocation(where)
		if err != nil {
			t.Fatal(err)
		}
		readBack(t, d, where)
		damage(t, path, l.offset+int64(off), []byte{0xee})
		_, err = d.Open(t.Context(), where)
		wantErr(t, err, gantry.Illegal, CodeCorrupt)
	}
	good := commit(t, d, body(20<<10, 100))
	for name, where := range map[string]string{
		"a body":                      "seg/7/0/8192/20480",
		"another length":              strings.TrimSuffix(good, "20480") + "20479",
		"space that was not used yet": "seg/7/0/1044480/20480",
		"behind the end":              "seg/7/0/1048576/20480",
		"far behind the end":          "seg/7/0/9223372036854771712/20480",
	} {
		if _, err := d.Open(t.Context(), where); gantry.CodeOf(err) != CodeCorrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, _ := parseLocation(good)
	if err := os.Truncate(path, l.offset+recordHeader+l.length-1); err != nil {
		t.Fatal(err)
	}
	_, err := d.Open(t.Context(), good)
	wantErr(t, err, gantry.Illegal, CodeCorrupt)
}

func TestCorruptSegmentHeader(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	where := commit(t, d, body(20<<10, 1))
	path := segmentID{7, 0}.path(d.root)
	good := segmentID{7, 0}.header(d.id)
	for off := range good { // magic, worker, number, length, id
		damage(t, path, int64(off), []byte{0xee})
		_, err := d.Open(t.Context(), where)
		wantErr(t, err, gantry.Illegal, CodeCorrupt)
		damage(t, path, int64(off), good[off:off+1])
	}
	readBack(t, d, where)
	// A segment of another store, and an empty one.
	d = openTest(t, testOptions(t.TempDir()))
	other := openTest(t, testOptions(t.TempDir()))
	where = commit(t, other, body(20<<10, 1))
	text, err := os.ReadFile(segmentID{7, 0}.path(other.root))
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{text, nil} {
		path = segmentID{7, 0}.path(d.root)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := d.Open(t.Context(), where)
		wantErr(t, err, gantry.Illegal, CodeCorrupt)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	for _, size := range []int{0, 100, 300 << 10, 2 << 20} {
		s := stage(t, d, body(size, 1), -1)
		where, err := s.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Verify(t.Context(), where, s.SHA()); err != nil {
			t.Error(err)
		}
		wantErr(t, d.Verify(t.Context(), where, gantry.Digest{1}), gantry.Illegal, CodeCorrupt)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := d.Verify(ctx, where, s.SHA()); !errors.Is(err, context.Canceled) {
			t.Errorf("ended context: %v", err)
		}
		if size == 0 {
			continue
		}
		l, _ := parseLocation(where)
		off := int64(size - 1)
		if l.sha.IsZero() {
			off += l.offset + recordHeader
		}
		damage(t, l.path(d.root), off, []byte{^body(size, 1)[size-1]})
		wantErr(t, d.Verify(t.Context(), where, s.SHA()), gantry.Illegal, CodeCorrupt)
	}
}

func TestOpenMissing(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	commit(t, d, body(20<<10, 1))
	for _, where := range []string{
		"seg/7/1/4096/10", "seg/8/0/4096/10",
		"sha/" + strings.Repeat("a", 64),
	} {
		_, err := d.Open(t.Context(), where)
		wantErr(t, err, gantry.NotFound, CodeMissing)
		wantErr(t, d.Verify(t.Context(), where, gantry.Digest{1}), gantry.NotFound, CodeMissing)
	}
}

func TestBlobReads(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	commit(t, d, body(20<<10, 1))
	for _, size := range []int{20 << 10, 2 << 20} {
		want := body(size, 2)
		where := commit(t, d, want)
		commit(t, d, body(20<<10, 3)) // a neighbour that must not show
		b, err := d.Open(t.Context(), where)
		if err != nil {
			t.Fatal(err)
		}
		if b.Size() != int64(size) {
			t.Errorf("size %d, want %d", b.Size(), size)
		}
		got := make([]byte, 100)
		if n, err := b.ReadAt(got, int64(size)-10); n != 10 || err != io.EOF || !bytes.Equal(got[:n], want[size-10:]) {
			t.Errorf("at the end: %d bytes, %v", n, err)
		}
		if n, err := b.ReadAt(got, int64(size)); n != 0 || err != io.EOF {
			t.Errorf("behind the end: %d bytes, %v", n, err)
		}
		if n, err := b.ReadAt(got, -1); n != 0 || err == nil {
			t.Errorf("before the start: %d bytes, %v", n, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := b.ReadAt(got, 0); !errors.Is(err, os.ErrClosed) {
			t.Errorf("read after Close: %v", err)
		}
		if err := b.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("second Close: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Open(ctx, "seg/7/0/4096/20480"); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

func TestHandlesAreBounded(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	o.SegmentSize = 2 * block
	d := openTest(t, o)
	d.handles.limit = 4
	var where []string
	for i := range 12 {
		where = append(where, commit(t, d, body(100, uint64(i))))
	}
	first, err := d.Open(t.Context(), where[0])
	if err != nil {
		t.Fatal(err)
	}
	shared, err := d.Open(t.Context(), where[0])
	if err != nil {
		t.Fatal(err)
	}
	f := d.handles.open[segmentID{7, 0}].f
	var wg sync.WaitGroup
	for i := range where {
		wg.Go(func() {
			for range 20 {
				if !bytes.Equal(readBack(t, d, where[i]), body(100, uint64(i))) {
					t.Errorf("%s gives other bytes", where[i])
				}
			}
		})
	}
	wg.Wait()
	for _, l := range where[1:5] {
		readBack(t, d, l)
	}
	if n := len(d.handles.open); n != 4 || d.handles.order.Len() != 4 {
		t.Errorf("%d files are kept open, want 4", n)
	}
	if d.handles.open[segmentID{7, 0}] != nil {
		t.Error("the file that was used longest ago is kept")
	}
	// It is no longer kept, but its readers go on until the last of them ends.
	first.Close()
	if _, err := shared.ReadAt(make([]byte, 10), 0); err != nil {
		t.Errorf("a reader lost its file: %v", err)
	}
	shared.Close()
	if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file is still open: %v", err)
	}
}

func TestLocationsAreStrict(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	hex := strings.Repeat("a", 64)
	for _, s := range []string{
		"", "/", "seg", "sha", "sha/", "sha/" + hex[1:], "sha/" + hex + "a", "sha/" + strings.ToUpper(hex), "sha/" + strings.Repeat("0", 64),
		"sha/" + hex + "/", "/sha/" + hex, "sha//" + hex, "sha/../" + hex[3:], "../" + hex, "key", "identity.json",
		"seg/7/0/4096", "seg/7/0/4096/10/", "seg/7/0/4096/10/1", "seg/07/0/4096/10", "seg/7/00/4096/10", "seg/7/0/+4096/10", "seg/7/0/4096/-1",
		"seg/0/0/4096/10", "seg/-7/0/4096/10", "seg/7/-1/4096/10", "seg/7/0/0/10", "seg/7/0/4097/10", "seg/7/0/4096/8388609", "seg/7/0/4096/1e3",
		"seg/../../4096/10", "seg/7/./4096/10", "seg/7/0/4096/9223372036854775808", "seg/7/0/4096/10\x00", " seg/7/0/4096/10", "SEG/7/0/4096/10",
		"seg/7/0/4096/" + strings.Repeat("9", 1<<20), "seg" + strings.Repeat("/", 1<<20),
	} {
		_, err := d.Open(t.Context(), s)
		if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != gantry.CodeMalformed {
			t.Errorf("%.40q: %v", s, err)
		}
	}
	for _, s := range []string{"sha/" + hex, "seg/1/0/4096/0", "seg/9223372036854775807/9223372036854775807/9223372036854771712/8388608"} {
		if l, err := parseLocation(s); err != nil || l.String() != s {
			t.Errorf("%s: %s, %v", s, l, err)
		}
	}
}

func FuzzLocation(f *testing.F) {
	for _, s := range []string{"sha/" + strings.Repeat("a", 64), "seg/7/0/4096/10", "seg/../0/4096/10", "sha/../key", "seg/7/0/04096/10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLocation(s)
		if err != nil {
			return
		}
		if l.String() != s {
			t.Errorf("%q reads as %q", s, l)
		}
		rel, err := filepath.Rel("/store", l.path("/store"))
		if err != nil || !filepath.IsLocal(rel) || !strings.HasPrefix(rel, "seg/") && !strings.HasPrefix(rel, "sha/") {
			t.Errorf("%q leads to %q", s, rel)
		}
		if l.sha.IsZero() && (l.offset < block || l.length < 0 || l.length > maxRecord) {
			t.Errorf("%q has offset %d and length %d", s, l.offset, l.length)
		}
	})
}

// FuzzSegment reads a segment of any content: what opens has its size and its header.
func FuzzSegment(f *testing.F) {
	const store = "store"
	id := segmentID{1, 0}
	good := make([]byte, 3*block)
	copy(good, id.header(store))
	putRecord(good[block:2*block], []byte("body"), gantry.Seal{SHA: gantry.Digest{1}})
	f.Add(good, int64(block), int64(4))
	f.Add(good[:block+20], int64(block), int64(4))
	f.Add([]byte{}, int64(block), int64(0))
	dir := f.TempDir()
	if err := os.MkdirAll(filepath.Dir(id.path(dir)), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte, offset, length int64) {
		l, err := parseLocation(fmt.Sprintf("seg/1/0/%d/%d", offset, length))
		if err != nil {
			return
		}
		if err := os.WriteFile(id.path(dir), content, 0o600); err != nil {
			t.Fatal(err)
		}
		d := &Dir{root: dir, handles: newHandles(1, dir, store)}
		defer d.handles.close()
		b, err := d.openRecord(l)
		if err != nil {
			if gantry.CodeOf(err) != CodeCorrupt {
				t.Errorf("error %v", err)
			}
			return
		}
		defer b.Close()
		got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
		if err != nil || int64(len(got)) != length || !bytes.Equal(got, content[offset+recordHeader:][:length]) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}
