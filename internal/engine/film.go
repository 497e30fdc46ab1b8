package engine

import (
	"cmp"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

func isVideo(kind string) bool {
	return slices.Contains([]string{gantry.MediaMP4, gantry.MediaMKV, gantry.MediaAVI}, kind)
}

// film is the pictures of a video in a file without a name, one after another. It is a cache: the
// same video always gives the same pictures.
type film struct {
	file   *os.File
	ends   []int64 // where each picture ends
	times  []time.Duration
	digest []gantry.Digest
}

// section gives a picture.
func (f *film) section(n int) (*io.SectionReader, bool) {
	if n < 0 || n >= len(f.ends) {
		return nil, false
	}
	from := int64(0)
	if n > 0 {
		from = f.ends[n-1]
	}
	return io.NewSectionReader(f.file, from, f.ends[n]-from), true
}

// video lists the frames of a video that was added.
func (x *extraction) video(ctx context.Context, of *gantry.Item) ([]gantry.Item, error) {
	v, f, err := x.openVideo(ctx, *of, x.budget)
	if err != nil {
		return nil, err
	}
	x.shelf.release(x.shelf.put(of.ID, v))
	list := make([]gantry.Item, len(f.ends))
	for i := range list {
		r, _ := f.section(i)
		list[i] = gantry.Item{ID: x.nextID(), Parent: of.ID, Ordinal: int32(i), Stage: gantry.OriginalStage, Leg: x.task.Leg,
			Transform: videoFrame, Locator: strconv.Itoa(i) + "@" + strconv.FormatInt(f.times[i].Microseconds(), 10),
			Media: mediaOfFrames(x.plan.Extract.Video), Size: r.Size(), SHA: f.digest[i]}
		list[i].Origin = list[i].ID
	}
	return list, nil
}

// openVideo decodes a video under a budget.
func (w *work) openVideo(ctx context.Context, x gantry.Item, b *media.Budget) (*volume, *film, error) {
	path, remove, err := w.named(ctx, x)
	if err != nil {
		return nil, nil, err
	}
	defer remove()
	if err := w.e.cpu.Acquire(ctx, 1); err != nil {
		return nil, nil, err
	}
	defer w.e.cpu.Release(1)
	f := &film{}
	frames, left := b.Left()
	o := media.SplitOptions{Format: w.plan.Extract.Video, Sample: w.plan.Extract.Sample, MaxFrames: frames, MaxBytes: left}
	_, size, closeIt, err := w.e.scratch(func(file *os.File) (int64, error) {
		f.file = file
		var end int64
		err := media.SplitVideo(ctx, path, o, func(_ int, at time.Duration, picture []byte) error {
			n, err := file.Write(picture)
			end += int64(n)
			f.ends, f.times, f.digest = append(f.ends, end), append(f.times, at), append(f.digest, sha256.Sum256(picture))
			return err
		})
		return end, err
	})
	if err != nil {
		return nil, nil, err
	}
	v := &volume{section: f.section, close: func() { closeIt() }, open: func(_ context.Context, n int) (body, error) {
		r, ok := f.section(n)
		if !ok {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "open frame %d: there are %d", n, len(f.ends))
		}
		return &reading{Reader: r, size: r.Size(), close: func() error { return nil }}, nil
	}}
	if err := cmp.Or(b.AddFrames(len(f.ends)), b.Made(size)); err != nil {
		v.close()
		return nil, nil, err
	}
	return v, f, nil
}

// named makes a copy of an item under a name, for programs that open files themselves. remove
// takes it away.
func (w *work) named(ctx context.Context, x gantry.Item) (path string, remove func(), err error) {
	r, err := w.open(ctx, x)
	if err != nil {
		return "", nil, err
	}
	defer r.Close()
	f, err := os.CreateTemp(w.e.Scratch, "video-*")
	if err != nil {
		return "", nil, gantry.Errorf(gantry.Unavailable, "no_space", "make scratch file: %w", err)
	}
	remove = func() { os.Remove(f.Name()) }
	_, err = io.Copy(f, readerWith(ctx, r))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		remove()
		return "", nil, err
	}
	return f.Name(), remove, nil
}

func noSection(int) (*io.SectionReader, bool) { return nil, false }
