package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	const inline, big, most = gantry.InlineLimit, unknownMost, maxRecord
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	locations := map[string][]byte{}
	for _, size := range []int{0, 1, inline - 1, inline, inline + 1, 4*inline + 1, big, big + 1, most, most + 1} {
		for _, hint := range []int64{int64(size), -1, 0, 10, inline + 1, most + 1} {
			want := body(size, uint64(size)+uint64(hint))
			s := stage(t, d, want, hint)
			if s.Size() != int64(size) || s.SHA() != gantry.Digest(sha256.Sum256(want)) {
				t.Fatalf("size %d hint %d: staged %d bytes, digest %s", size, hint, s.Size(), s.SHA())
			}
			if in := s.Inline(); (in != nil) != (size <= inline) || in != nil && !bytes.Equal(in, want) {
				t.Fatalf("size %d hint %d: inline gives %d bytes (nil: %v)", size, hint, len(in), in == nil)
			}
			where, err := s.Commit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if in := s.Inline(); size <= inline && !bytes.Equal(in, want) {
				t.Fatalf("size %d hint %d: inline changed with the commit", size, hint)
			}
			// In memory are those that are small, of known size, or up to 1 MiB.
			packed := size <= inline || hint <= most && (size <= big || int64(size) <= hint)
			if strings.HasPrefix(where, "seg/7/") != packed {
				t.Errorf("size %d hint %d lies at %s", size, hint, where)
			}
			if got := readBack(t, d, where); !bytes.Equal(got, want) {
				t.Fatalf("size %d hint %d: %s gives %d other bytes", size, hint, where, len(got))
			}
			locations[where] = want
		}
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
	// Another process reads the same after this one went.
	d.Close()
	o := testOptions(dir)
	o.Worker = 8
	d = openTest(t, o)
	for where, want := range locations {
		if err := d.Verify(t.Context(), where, gantry.Digest(sha256.Sum256(want))); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}

func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for i := range 12 {
				want := body(r.IntN(60<<10), uint64(w*1000+i))
				s, err := d.Stage(t.Context(), bytes.NewReader(want), int64(len(want)), 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				where, err := s.Commit(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if !bytes.Equal(readBack(t, d, where), want) {
					t.Errorf("%s gives other bytes", where)
				}
				mu.Lock()
				if seen[where] {
					t.Errorf("%s was given twice", where)
				}
				seen[where] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 64*12 {
		t.Errorf("%d locations, want %d", len(seen), 64*12)
	}
}

func TestEqualBytesLieOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	big := body(unknownMost+1, 1)
	locations := make([]string, 8)
	var wg sync.WaitGroup
	for i := range locations {
		wg.Go(func() {
			s, err := d.Stage(t.Context(), bytes.NewReader(big), -1, 1<<30)
			if err == nil {
				locations[i], err = s.Commit(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	want := "sha/" + gantry.Digest(sha256.Sum256(big)).String()
	for _, l := range locations {
		if l != want {
			t.Errorf("lies at %s, want %s", l, want)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "sha", "*", "*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files %v (%v), want one", files, err)
	}
	// A file that lost its end is replaced by the next commit of the same bytes.
	if err := os.Truncate(files[0], 5); err != nil {
		t.Fatal(err)
	}
	if _, err := stage(t, d, big, -1).Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readBack(t, d, want), big) {
		t.Error("the damaged file stayed")
	}
}

func TestCloseEndsGoroutines(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	where := commit(t, d, body(20<<10, 1))
	b, err := d.Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	s := stage(t, d, body(20<<10, 2), -1)
	f := stage(t, d, body(2<<20, 2), -1)
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
	_, err = s.Commit(t.Context())
	wantErr(t, err, gantry.Unavailable, CodeClosed)
	_, err = f.Commit(t.Context())
	wantErr(t, err, gantry.Unavailable, CodeClosed)
	_, err = d.Stage(t.Context(), strings.NewReader("x"), 1, 1)
	wantErr(t, err, gantry.Unavailable, CodeClosed)
	_, err = d.Open(t.Context(), where)
	wantErr(t, err, gantry.Unavailable, CodeClosed)
	if n, err := b.ReadAt(make([]byte, 10), 0); n != 10 || err != nil {
		t.Errorf("an open blob gives %d bytes, %v after Close", n, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
	// The segment gave back what it had not used.
	fi, err := os.Stat(filepath.Join(dir, "seg", "7", "0"))
	if err != nil || fi.Size() != block+24<<10 {
		t.Errorf("segment has %d bytes (%v), want %d", fi.Size(), err, block+24<<10)
	}
}

func TestCloseDuringCommits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	type ack struct {
		where string
		sha   gantry.Digest
	}
	var mu sync.Mutex
	var acked []ack
	var wg sync.WaitGroup
	enough := make(chan struct{})
	for w := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				s, err := d.Stage(t.Context(), bytes.NewReader(body(20<<10, uint64(w<<16+i))), -1, 1<<20)
				var where string
				if err == nil {
					where, err = s.Commit(t.Context())
				}
				if err != nil {
					if gantry.CodeOf(err) != CodeClosed {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				if acked = append(acked, ack{where, s.SHA()}); len(acked) == 100 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	<-enough
	d.Close()
	wg.Wait()
	d = openTest(t, testOptions(dir))
	for _, a := range acked {
		if err := d.Verify(t.Context(), a.where, a.sha); err != nil {
			t.Errorf("%s: %v", a.where, err)
		}
	}
}

func TestSweepRemovesOrphans(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	kept := commit(t, d, body(maxRecord+1, 1))
	d.Close()
	old := time.Now().Add(-2 * time.Hour)
	var want []string
	for i, where := range []string{"", "sha/00", "sha/ff", "sha/a7"} {
		for _, age := range []time.Time{old, time.Now()} {
			if err := os.MkdirAll(filepath.Join(dir, where), 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, where, fmt.Sprintf("%s%d-%d", tempPrefix, i, age.Unix()))
			if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chtimes(path, age, age)); err != nil {
				t.Fatal(err)
			}
			if age != old {
				want = append(want, path)
			}
		}
	}
	if err := os.Chtimes(filepath.Join(dir, "sha", kept[4:6], kept[4:]), old, old); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenDir(ctx, testOptions(dir)); !errors.Is(err, context.Canceled) {
		t.Errorf("open with an ended context: %v", err)
	}
	d = openTest(t, testOptions(dir))
	if diff := cmp.Diff(want, temps(t, dir), cmp.Transformer("set", func(s []string) map[string]bool {
		m := map[string]bool{}
		for _, x := range s {
			m[x] = true
		}
		return m
	})); diff != "" {
		t.Errorf("temporary files (-want +got):\n%s", diff)
	}
	if got := readBack(t, d, kept); len(got) != maxRecord+1 {
		t.Errorf("a blob is gone")
	}
}

func TestOpenDirRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, change := range map[string]func(*Options){
		"no folder":       func(o *Options) { o.Dir = "" },
		"no worker":       func(o *Options) { o.Worker = 0 },
		"short key":       func(o *Options) { o.Key = o.Key[:minKey-1] },
		"negative size":   func(o *Options) { o.SegmentSize = -1 },
		"negative memory": func(o *Options) { o.MemoryLimit = -1 },
	} {
		o := testOptions(dir)
		change(&o)
		if _, err := OpenDir(t.Context(), o); gantry.KindOf(err) != gantry.Illegal || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(t.Context(), testOptions(filepath.Join(file, "store"))); err == nil {
		t.Error("a store below a file was opened")
	}
	d, err := OpenDir(t.Context(), Options{Dir: filepath.Join(dir, "a", "b"), Worker: 1, Key: testKey})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.writers[0].size != 512<<20 || d.mem.limit != 128<<20 {
		t.Errorf("defaults are %d and %d", d.writers[0].size, d.mem.limit)
	}
}
