package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// limitFileSize is what the child's files may hold, in bytes.
const limitFileSize = 300 << 10

// A full disk, as far as it can be had without being root: files that may not grow.
func TestFileSizeLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	out, err := child(t, "limit", dir).CombinedOutput()
	if want := "child: as it should\n"; err == nil || string(out) != want {
		t.Fatalf("child ended with %v: %s", err, out)
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
	if n := segmentFiles(t, dir); n != 2 {
		t.Errorf("%d segment files, want 2: the refused one must go", n)
	}
}

func childLimit(dir string) error {
	ctx := context.Background()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limitFileSize, Max: limitFileSize}); err != nil {
		return err
	}
	o := testOptions(dir)
	o.SegmentSize = 256 << 10
	d, err := OpenDir(ctx, o)
	if err != nil {
		return err
	}
	defer d.Close()
	acked, err := fill(ctx, d, 4) // two segments, two records each
	if err != nil {
		return err
	}
	for _, size := range []int{400 << 10, 2 << 20} { // a segment of its own, a file
		s, err := d.Stage(ctx, bytes.NewReader(body(size, 1)), -1, 1<<30)
		if err == nil {
			_, err = s.Commit(ctx)
		}
		if gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != CodeNoSpace {
			return fmt.Errorf("%d bytes: %w", size, err)
		}
	}
	for where, sha := range acked {
		if err := d.Verify(ctx, where, sha); err != nil {
			return err
		}
	}
	return errors.New("as it should")
}

// The same on a filesystem that is really full, where one may be mounted. It also has no room for
// O_DIRECT on older kernels. TestFileSizeLimit covers the rest.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Logf("mount a small filesystem: %v; only TestFileSizeLimit and TestFailedWritePoisonsSegment speak for a full disk", err)
		return
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	d := openTest(t, testOptions(dir))
	acked, err := fill(t.Context(), d, 100)
	wantErr(t, err, gantry.Unavailable, CodeNoSpace)
	if len(acked) < 10 {
		t.Errorf("only %d blobs fitted", len(acked))
	}
	segments := segmentFiles(t, dir)
	_, err = fill(t.Context(), d, 1)
	wantErr(t, err, gantry.Unavailable, CodeNoSpace)
	if now := segmentFiles(t, dir); now != segments {
		t.Errorf("%d segment files became %d while the disk was full", segments, now)
	}
	_, err = d.Stage(t.Context(), bytes.NewReader(body(4<<20, 1)), -1, 1<<30)
	wantErr(t, err, gantry.Unavailable, CodeNoSpace)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
	for where, sha := range acked {
		if err := d.Verify(t.Context(), where, sha); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
	// When there is room again, commits go on.
	if err := os.Remove(filepath.Join(dir, "seg", "7", "0")); err != nil {
		t.Fatal(err)
	}
	d.handles.mu.Lock()
	for _, h := range d.handles.open {
		d.handles.forget(h) // an open file keeps its space
	}
	d.handles.mu.Unlock()
	if more, err := fill(t.Context(), d, 2); err != nil || len(more) != 2 {
		t.Errorf("after space came back: %v", err)
	}
}

// canBypass tells whether the filesystem of a folder can do direct writes.
func canBypass(dir string) bool {
	probe, err := os.OpenFile(filepath.Join(dir, "probe"), os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
	if err != nil {
		return false
	}
	defer probe.Close()
	_, err = probe.WriteAt(aligned(block), 0)
	return err == nil
}

// The measured shape: a segment's space is allotted at once.
func TestSegmentsAreReserved(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	commit(t, d, body(20<<10, 1))
	fi, err := d.writers[0].seg.f.Stat() // the writer is idle: its answer came before
	if err != nil || fi.Size() != 1<<20 {
		t.Errorf("segment has %d bytes (%v), want all of them at once", fi.Size(), err)
	}
}

// TestPastTheCache writes what has a seal past the page cache where the filesystem can, since it waits for others, and all that is read at
// once, or with such in one batch, through it. All of it reads back, whatever was written beside it in which way.
func TestPastTheCache(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	can := canBypass(dir)
	var direct []bool
	d := openTest(t, testOptions(filepath.Join(dir, "store")), func(e *env) {
		write := e.write
		e.write = func(f *os.File, list [][]byte, off int64) error {
			flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
			direct = append(direct, flags&unix.O_DIRECT != 0)
			return errors.Join(err, write(f, list, off))
		}
	})
	w := newWriter(d, 1<<20) // of this goroutine
	w.queue = make(chan *request, 10)
	defer w.drop()
	ask := func(seed uint64, from int64) *request {
		b, err := d.mem.get(t.Context(), 40<<10)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, body(40<<10, seed)...)
		return &request{ctx: t.Context(), body: b, seal: gantry.Seal{From: from, SHA: sha256.Sum256(b)}, done: make(chan error, 1)}
	}
	var all []*request
	for i, froms := range [][]int64{{300}, {0}, {300, 300}, {300, 0}, {0, 300}, {300}} {
		var batch []*request
		for k, from := range froms {
			batch = append(batch, ask(uint64(10*i+k), from))
		}
		for _, r := range batch[1:] {
			w.queue <- r
		}
		direct = nil
		if rest := w.batch(batch[0]); rest != nil || len(w.queue) > 0 {
			t.Fatal("it is not one batch")
		}
		if got, want := direct[len(direct)-1], can && !slices.Contains(froms, 0); got != want {
			t.Errorf("%v: past the page cache: %t, want %t", froms, got, want)
		}
		all = append(all, batch...)
	}
	for _, r := range all {
		where, err := r.end(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := gantry.Digest(sha256.Sum256(readBack(t, d, where))); got != r.seal.SHA {
			t.Errorf("%s reads back as other bytes", where)
		}
	}
}
