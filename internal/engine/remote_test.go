package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// bucket is a source that keeps one object.
type bucket struct {
	gantry.Source
	body []byte

	mu    sync.Mutex
	asked [][2]int64                             // from and number of bytes, in order
	fail  func(nth int, from int64) (int, error) // after how many bytes a request, from 0, fails; 0, nil: it does not
}

func (b *bucket) Locate(context.Context, gantry.Object) (string, error) { return "at", nil }

func (b *bucket) OpenRange(_ context.Context, place string, from, n int64) (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, [2]int64{from, n})
	if place != "at" || from+n > int64(len(b.body)) {
		return nil, gantry.Errorf(gantry.Illegal, "bad_path", "not what was located")
	}
	r := io.Reader(bytes.NewReader(b.body[from : from+n]))
	if b.fail != nil {
		if after, err := b.fail(len(b.asked)-1, from); err != nil && after == 0 {
			return nil, err
		} else if err != nil {
			r = io.MultiReader(io.LimitReader(r, int64(after)), failing{err})
		}
	}
	return io.NopCloser(r), nil
}

func (b *bucket) requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// keep puts the world's original into a bucket.
func (w *world) keep(body []byte) *bucket {
	w.bucket = &bucket{body: body}
	w.plan.Sources = []Source{{Name: "inbox", Open: func(context.Context) (gantry.Source, int32, error) { return w.bucket, 5, nil }}}
	w.plan.Retry.Initial = 0
	return w.bucket
}

// reader opens the original of a task in a process of its own.
func (w *world) reader(ctx context.Context) *remote {
	w.t.Helper()
	e := New(Options{Store: w, Session: w, Caller: w, Plans: w, Rand: func() float64 { return 0 }, Scratch: w.t.TempDir()})
	return w.readerOf(ctx, e)
}

func (w *world) readerOf(ctx context.Context, e *Engine) *remote {
	w.t.Helper()
	x := &work{e: e, plan: w.plan, shelf: newShelf(e)}
	x.enterStep(ctx, gantry.Task{})
	o, err := x.remote(ctx, gantry.Item{Locator: "e"})
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// pngs packs a picture of about a block n times, stored where the kind of archive can.
func pngs(t *testing.T, n int, kind media.ArchiveKind) []byte {
	t.Helper()
	return squares(t, n, 1000, kind)
}

// squares is pngs for pictures of side x side bytes.
func squares(t *testing.T, n, side int, kind media.ArchiveKind) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, side, side))
	copy(img.Pix, noise(len(img.Pix)))
	var picture, b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&picture, img); err != nil {
		t.Fatal(err)
	}
	a, err := media.NewArchiveWriter(kind, &b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := a.Add(fmt.Sprintf("%d.png", i), int64(picture.Len()), bytes.NewReader(picture.Bytes())); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A reader that goes on in order is given more at once, up to 8 MiB; what was read lately is not asked for
// again, and the memory of an original is bounded.
func TestRemoteReadsAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := noise(50<<20 + 12345)
	b := w.keep(body)
	o := w.reader(t.Context())
	got, err := io.ReadAll(io.NewSectionReader(o, 0, o.size))
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d of %d bytes, %v", len(got), len(body), err)
	}
	var blocks []int64
	for _, x := range b.asked {
		blocks = append(blocks, (x[1]+blockSize-1)/blockSize)
	}
	if want := "[1 2 4 8 8 8 8 8 4]"; fmt.Sprint(blocks) != want {
		t.Errorf("asked for %v blocks, want %s", blocks, want)
	}
	if len(o.blocks) > mostBlocks || o.w.e.cached.Load() != int64(len(o.blocks)) {
		t.Errorf("%d blocks are kept, %d are counted", len(o.blocks), o.w.e.cached.Load())
	}
	n := b.requests()
	p := make([]byte, 10)
	for _, at := range []int64{49 << 20, 40<<20 - 5, 50 << 20} {
		if k, err := o.ReadAt(p, at); k != 10 || err != nil || !bytes.Equal(p, body[at:at+10]) {
			t.Errorf("at %d: %d, %v", at, k, err)
		}
	}
	if b.requests() != n {
		t.Errorf("%d requests for what is there", b.requests()-n)
	}
	if k, err := o.ReadAt(p, o.size-3); k != 3 || err != io.EOF {
		t.Errorf("at the end %d, %v", k, err)
	}
	if _, err := o.ReadAt(p, -1); err != io.EOF {
		t.Errorf("before the beginning %v", err)
	}
	if o.close(); o.w.e.cached.Load() != 0 {
		t.Errorf("%d blocks are counted after the end", o.w.e.cached.Load())
	}
}

// Many readers at once get the right bytes, and what they wait for together is asked for once. Where
// many originals are open, each keeps little.
func TestRemoteSideBySide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := noise(24 << 20)
	b := w.keep(body)
	o := w.reader(t.Context())
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			from := int64(i/2) * (4 << 20) // two each
			got, err := io.ReadAll(io.NewSectionReader(o, from, 4<<20))
			if err != nil || !bytes.Equal(got, body[from:from+4<<20]) {
				t.Errorf("reader %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	total := int64(0)
	for _, x := range b.asked {
		total += x[1]
	}
	if total != int64(len(body)) {
		t.Errorf("%d bytes were asked for, of %d", total, len(body))
	}
	for range 12 {
		other := w.readerOf(t.Context(), o.w.e)
		if _, err := io.Copy(io.Discard, io.NewSectionReader(other, 0, other.size)); err != nil {
			t.Fatal(err)
		}
	}
	if n := o.w.e.cached.Load(); n > allBlocks+12*fewBlocks+mostAhead {
		t.Errorf("%d blocks are kept", n)
	}
}

// What a request fails with decides: another try where it left off, none, or none ever again.
func TestRemoteFailures(t *testing.T) {
	t.Parallel()
	broken := gantry.Errorf(gantry.Transient, "short_body", "broke")
	busy := gantry.Errorf(gantry.Unavailable, "slow_down", "busy")
	busy.RetryAfter = 1 << 40
	gone := gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "gone")
	for name, c := range map[string]struct {
		fails    int // requests, from the second on
		after    int // bytes
		err      error
		requests int // for the 7 blocks, then for one more
		again    int
		ok       bool
	}{
		"once":                 {1, 0, broken, 4, 0, true},
		"once within":          {1, blockSize + 5, broken, 4, 0, true},
		"twice":                {2, 0, broken, 5, 0, true},
		"three times":          {3, 0, broken, 4, 3, false},
		"busy for a long time": {1, 0, busy, 2, 3, false},
		"an end":               {1, 5, io.EOF, 4, 0, true},
		"gone":                 {9, 0, gone, 2, 0, false},
		"gone within":          {9, blockSize + 5, gone, 2, 0, false},
		"the lease is lost":    {9, 0, gantry.ErrFenced, 2, 1, false},
	} {
		w := newWorld(t)
		b := w.keep(noise(7 << 20))
		b.fail = func(nth int, _ int64) (int, error) {
			if nth >= 1 && nth <= c.fails {
				return c.after, c.err
			}
			return 0, nil
		}
		o := w.reader(t.Context())
		_, err := io.Copy(io.Discard, io.NewSectionReader(o, 0, o.size))
		if (err == nil) != c.ok || !c.ok && !errors.Is(err, c.err) || b.requests() != c.requests {
			t.Errorf("%s: %v after %d requests", name, err, b.requests())
		}
		if (o.w.gone() != nil) != (c.err == error(gone)) || (o.w.certain() != nil) == c.ok {
			t.Errorf("%s: gone %v, not certain %v", name, o.w.gone(), o.w.certain())
		}
		io.Copy(io.Discard, io.NewSectionReader(o, 0, o.size))
		if again := b.requests() - c.requests; again != c.again {
			t.Errorf("%s: %d requests more", name, again)
		}
	}
}

// An end of the step ends what waits, and nothing of it counts for the next step.
func TestRemoteEndsWithItsStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.keep(noise(3 << 20))
	ctx, cancel := context.WithCancel(t.Context())
	b.fail = func(int, int64) (int, error) { cancel(); return 0, gantry.Errorf(gantry.Transient, "", "broke") }
	o := w.reader(ctx)
	if _, err := o.ReadAt(make([]byte, 1), 0); err == nil || b.requests() != 1 {
		t.Errorf("%v after %d requests", err, b.requests())
	}
	b.fail = nil
	o.w.enterStep(t.Context(), gantry.Task{})
	if _, err := o.ReadAt(make([]byte, 1), 0); err != nil || o.w.certain() != nil {
		t.Errorf("in the next step %v, %v", err, o.w.certain())
	}
}
