package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// allFree fails if buffers are still lent.
func allFree(t testing.TB, d *Dir) {
	t.Helper()
	if !d.mem.sem.TryAcquire(d.mem.limit) {
		t.Error("memory is still held")
		return
	}
	d.mem.sem.Release(d.mem.limit)
}

// upTo counts what is taken from it.
type upTo struct {
	r    io.Reader
	read int64
}

func (u *upTo) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	u.read += int64(n)
	return n, err
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestStageLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	for _, limit := range []int64{0, 1, 100, gantry.InlineLimit, gantry.InlineLimit + 1, unknownMost, 3 << 20, maxRecord} {
		for _, hint := range []int64{-1, 0, limit, limit + 1, math.MaxInt64} {
			fits, err := d.Stage(t.Context(), io.LimitReader(zeros{}, limit), hint, limit)
			if err != nil || fits.Size() != limit {
				t.Fatalf("limit %d, hint %d: %v", limit, hint, err)
			}
			fits.Discard()
			src := &upTo{r: zeros{}}
			_, err = d.Stage(t.Context(), src, hint, limit)
			wantErr(t, err, gantry.Illegal, gantry.CodeTooLarge)
			if src.read != limit+1 {
				t.Errorf("limit %d, hint %d: %d bytes were read", limit, hint, src.read)
			}
		}
	}
	if s, err := d.Stage(t.Context(), strings.NewReader("abc"), math.MaxInt64, math.MaxInt64); err != nil || s.Size() != 3 {
		t.Errorf("no limit: %v", err)
	}
	_, err := d.Stage(t.Context(), strings.NewReader("abc"), -1, math.MinInt64)
	wantErr(t, err, gantry.Illegal, gantry.CodeTooLarge)
	allFree(t, d)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestStageReaders(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	for _, size := range []int{1, gantry.InlineLimit, gantry.InlineLimit + 1, 64 << 10} {
		want := body(size, 3)
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"half": iotest.HalfReader, "one byte": iotest.OneByteReader, "end with data": iotest.DataErrReader,
			"end with one byte": func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
		} {
			for _, hint := range []int64{-1, 5, int64(size), maxRecord + 1} {
				s, err := d.Stage(t.Context(), wrap(bytes.NewReader(want)), hint, 1<<20)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				where, err := s.Commit(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(readBack(t, d, where), want) {
					t.Errorf("%s, size %d, hint %d: other bytes", name, size, hint)
				}
			}
		}
	}
	allFree(t, d)
}

func TestStagePassesErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	broken := errors.New("the line broke")
	for _, n := range []int64{0, 10, gantry.InlineLimit, 100 << 10, unknownMost, 3 << 20} {
		for _, hint := range []int64{-1, n, n + 1, maxRecord + 1} {
			_, err := d.Stage(t.Context(), io.MultiReader(io.LimitReader(zeros{}, n), iotest.ErrReader(broken)), hint, 1<<40)
			if err != broken {
				t.Errorf("%d bytes, hint %d: %v", n, hint, err)
			}
		}
	}
	if _, err := d.Stage(t.Context(), iotest.ErrReader(nil), -1, 10); err != io.ErrNoProgress {
		t.Errorf("a reader that gives nothing: %v", err)
	}
	allFree(t, d)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestStageCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	for _, after := range []int64{0, 100, 200 << 10, 2 << 20} {
		ctx, cancel := context.WithCancel(t.Context())
		left := after
		src := readerFunc(func(p []byte) (int, error) {
			if left -= int64(len(p)); left <= 0 {
				cancel()
			}
			return len(p), nil
		})
		if _, err := d.Stage(ctx, src, -1, 1<<40); !errors.Is(err, context.Canceled) {
			t.Errorf("after %d bytes: %v", after, err)
		}
	}
	allFree(t, d)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Inline bytes go into a row and outlive the blob, so they must not lie in a buffer that is lent.
func TestInlineHoldsNoBuffer(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	s := stage(t, d, body(10, 1), 100<<10)
	allFree(t, d)
	if !bytes.Equal(s.Inline(), body(10, 1)) {
		t.Error("other bytes")
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := openTest(t, testOptions(dir))
	for _, size := range []int{10, 20 << 10, unknownMost + 1} {
		s := stage(t, d, body(size, 1), -1)
		s.Discard()
		s.Discard()
		_, err := s.Commit(t.Context())
		wantErr(t, err, gantry.Illegal, "illegal")

		s = stage(t, d, body(size, 1), -1)
		where, err := s.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Commit(t.Context())
		wantErr(t, err, gantry.Illegal, "illegal")
		s.Discard()
		if !bytes.Equal(readBack(t, d, where), body(size, 1)) {
			t.Error("Discard after Commit took the blob away")
		}
	}
	allFree(t, d)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

// Callers that hold blobs and want more must come to an end, and never exceed the limit.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	o.MemoryLimit = 2 << 20
	d := openTest(t, o, func(e *env) { e.patience = time.Microsecond })
	var held, files atomic.Int64
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			var mine []gantry.Staged
			for i := range 4 {
				hint := int64(300 << 10)
				if i%2 == 1 {
					hint = -1
				}
				s, err := d.Stage(t.Context(), bytes.NewReader(body(300<<10, uint64(w*10+i))), hint, 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				mine = append(mine, s)
				if st := s.(*staged); st.file != nil {
					files.Add(1)
				} else if now := held.Add(int64(cap(st.body))); now > o.MemoryLimit {
					t.Errorf("%d bytes are held", now)
				}
			}
			for i, s := range mine {
				if st := s.(*staged); st.file == nil {
					held.Add(-int64(cap(st.body)))
				}
				where, err := s.Commit(t.Context())
				if err != nil {
					t.Error(err)
				} else if !bytes.Equal(readBack(t, d, where), body(300<<10, uint64(w*10+i))) {
					t.Errorf("%s gives other bytes", where)
				}
			}
		})
	}
	wg.Wait()
	if files.Load() == 0 {
		t.Error("all found room in memory: the limit was not met")
	}
	allFree(t, d)
}

// One that is larger than all memory does not wait for it.
func TestMemoryLimitBelowBlob(t *testing.T) {
	t.Parallel()
	o := testOptions(t.TempDir())
	o.MemoryLimit = 1
	d := openTest(t, o, func(e *env) { e.patience = time.Hour })
	for _, size := range []int{100, gantry.InlineLimit, gantry.InlineLimit + 1, maxRecord} {
		for _, hint := range []int64{-1, 3, int64(size)} {
			s := stage(t, d, body(size, 9), hint)
			if (s.Inline() != nil) != (size <= gantry.InlineLimit) {
				t.Errorf("size %d: inline gives %d bytes", size, len(s.Inline()))
			}
			where, err := s.Commit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readBack(t, d, where), body(size, 9)) {
				t.Errorf("size %d: other bytes", size)
			}
		}
	}
}

func TestMemoryWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(1<<20, time.Second)
		first, err := m.get(t.Context(), 1<<20)
		if err != nil || cap(first) != 1<<20 {
			t.Fatalf("%d bytes, %v", cap(first), err)
		}
		began := time.Now()
		if b, err := m.get(t.Context(), 10); b != nil || err != nil || time.Since(began) != time.Second {
			t.Errorf("no room: %d bytes, %v after %v", cap(b), err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if b, err := m.get(ctx, 10); b != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended context: %d bytes, %v", cap(b), err)
		}
		time.AfterFunc(time.Millisecond, func() { m.put(first) })
		began = time.Now()
		b, err := m.get(t.Context(), 40<<10)
		if err != nil || cap(b) != 40<<10 || len(b) != 0 || time.Since(began) != time.Millisecond {
			t.Errorf("room came: %d bytes, %v after %v", cap(b), err, time.Since(began))
		}
	})
}

// Each class has room for what it is taken for, wastes less than a quarter of itself, and is found again by its size.
func TestClasses(t *testing.T) {
	t.Parallel()
	for c := range classes {
		if class(sizeOf(c)) != c {
			t.Errorf("class %d is of %d bytes, which are class %d", c, sizeOf(c), class(sizeOf(c)))
		}
	}
	for n := 1; n <= maxRecord; n += 1 + n/97 {
		if got := sizeOf(class(n)); got < n || n > 1<<minPower && got-n > got/4 {
			t.Errorf("%d bytes get %d", n, got)
		}
	}
	if sizeOf(classes-1) != maxRecord || class(maxRecord) != classes-1 {
		t.Errorf("the last class is of %d bytes", sizeOf(classes-1))
	}
}
