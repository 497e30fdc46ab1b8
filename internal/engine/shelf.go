package engine

import (
	"bytes"
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/singleflight"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// The transforms of an archive's entry. Its locator is the ordinal in the archive; a tar may have come
// out of a stream.
const (
	zipEntry = "zip"
	tarEntry = "tar"
)

// isInside tells whether an item is read out of its parent: the entry of an archive, or a frame.
func isInside(x gantry.Item) bool {
	switch x.Transform {
	case zipEntry, tarEntry, dicomFrame, videoFrame:
		return true
	}
	return false
}

// ordinal reads an item's place within its parent.
func (w *work) ordinal(x gantry.Item) (int, error) {
	n, _, _ := strings.Cut(x.Locator, "@")
	i, err := strconv.Atoi(n)
	if err != nil {
		return 0, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "open %s: bad locator", w.path(x))
	}
	return i, nil
}

// entryOf gives the transform of the entries of a kind of archive; "" for what is none.
func entryOf(kind string) string {
	switch kind {
	case gantry.MediaZIP:
		return zipEntry
	case gantry.MediaTAR, gantry.MediaGZIP, gantry.MediaZSTD:
		return tarEntry
	}
	return ""
}

// maxVolumes is how many volumes of one task stay open while nobody reads them.
const maxVolumes = 16

// shelf keeps the archives, multi-frame files and videos of a task, or of the children of one, open between reads.
type shelf struct {
	e       *Engine
	making  singleflight.Group // by item: a video is decoded once, however many wait for its frames
	mu      sync.Mutex
	volumes map[gantry.ItemID]*volume

	children int // that use it; guarded by the engine's mu
}

// volume is an item that is open for what is inside it, by ordinal.
type volume struct {
	open    func(ctx context.Context, n int) (body, error)
	section func(n int) (*io.SectionReader, bool) // random access without a copy; false where there is none
	archive media.Archive                         // of an archive
	close   func()
	users   int
}

func archiveVolume(a media.Archive, close func()) *volume {
	return &volume{archive: a, section: a.Section, close: close, open: func(_ context.Context, n int) (body, error) { return a.Open(n) }}
}

func newShelf(e *Engine) *shelf { return &shelf{e: e, volumes: map[gantry.ItemID]*volume{}} }

// close closes every archive. An archive within another gives that one back as it closes, so none
// is closed while mu is held.
func (s *shelf) close() {
	s.mu.Lock()
	all := s.volumes
	s.volumes = map[gantry.ItemID]*volume{}
	s.mu.Unlock()
	for _, v := range all {
		v.close()
	}
}

// put keeps an archive that was just opened, with one user, and gives the one to use: another that
// was opened at the same moment, if there is one.
func (s *shelf) put(id gantry.ItemID, v *volume) *volume {
	v.users = 1
	s.mu.Lock()
	first := s.volumes[id]
	if first != nil {
		first.users++
	} else {
		s.volumes[id] = v
	}
	old := s.trim()
	s.mu.Unlock()
	for _, x := range old {
		x.close()
	}
	if first != nil {
		v.close()
		return first
	}
	return v
}

// trim takes archives off that nobody reads while there are too many; mu is held. The caller
// closes them.
func (s *shelf) trim() (old []*volume) {
	for id, v := range s.volumes {
		if len(s.volumes) <= maxVolumes {
			break
		}
		if v.users == 0 {
			old = append(old, v)
			delete(s.volumes, id)
		}
	}
	return old
}

func (s *shelf) get(id gantry.ItemID) *volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.volumes[id]
	if v != nil {
		v.users++
	}
	return v
}

func (s *shelf) release(v *volume) {
	s.mu.Lock()
	v.users--
	old := s.trim()
	s.mu.Unlock()
	for _, v := range old {
		v.close()
	}
}

// open reads an item from the start. What it reads is held to the item's format; a broken entry
// shows as an Illegal error with its reason.
func (w *work) open(ctx context.Context, x gantry.Item) (body, error) {
	if isInside(x) {
		n, err := w.ordinal(x)
		if err != nil {
			return nil, err
		}
		v, err := w.volume(ctx, x.Parent)
		if err != nil {
			return nil, err
		}
		r, err := v.open(ctx, n)
		if err != nil {
			w.shelf.release(v)
			return nil, err
		}
		done := sync.OnceFunc(func() { w.shelf.release(v) })
		return &reading{Reader: verified(x, r), size: sizeOf(x, r), close: func() error { defer done(); return r.Close() }}, nil
	}
	at, size, closeIt, err := w.bytesOf(ctx, x)
	if err != nil {
		return nil, err
	}
	r := sealed(x, at, io.NewSectionReader(at, 0, size))
	return &reading{Reader: media.Verify(x.Media, r), size: size, close: closeIt}, nil
}

// verified holds foreign bytes to their format. Frames were rendered here.
func verified(x gantry.Item, r io.Reader) io.Reader {
	if isFrame(x) {
		return r
	}
	return media.Verify(x.Media, r)
}

// sizeOf is how many bytes there are to read of an item that was opened; -1 if it is not known.
func sizeOf(x gantry.Item, r io.Reader) int64 {
	if s, ok := r.(gantry.Sized); ok {
		return s.Size()
	}
	return x.Size
}

type reading struct {
	io.Reader
	size  int64
	close func() error
}

// Size is how many bytes there are; -1 if it is not known.
func (r *reading) Size() int64 { return r.size }

// Close gives back what the reading held.
func (r *reading) Close() error { return r.close() }

// bytesOf opens an item that has bytes of its own.
func (w *work) bytesOf(ctx context.Context, x gantry.Item) (io.ReaderAt, int64, func() error, error) {
	if x.Transform == fromSource {
		o, err := w.remote(ctx, x)
		if err != nil {
			return nil, 0, nil, err
		}
		return o, o.size, sync.OnceValue(func() error { o.leave(); return nil }), nil
	}
	if x.Location == "" {
		return bytes.NewReader(x.Body), int64(len(x.Body)), func() error { return nil }, nil
	}
	b, err := w.e.Blobs.Open(ctx, x.Location)
	if err != nil {
		return nil, 0, nil, err
	}
	return b, b.Size(), b.Close, nil
}

// volume opens an item of the task for what is inside, or finds it open. The caller releases it.
func (w *work) volume(ctx context.Context, id gantry.ItemID) (*volume, error) {
	for {
		if v := w.shelf.get(id); v != nil {
			return v, nil
		}
		var made *volume // it has a user from the start: while many are in use it would not stay for another look
		asked := false
		left, err, _ := w.shelf.making.Do(strconv.Itoa(int(id)), func() (any, error) {
			asked = true
			x, ok := w.item(id)
			if !ok {
				return false, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "open item %d: no such item", id)
			}
			// The whole was held to the limits when it was extracted; this budget is for what is read now.
			v, err := w.openVolume(ctx, x, 1, media.NewBudget(w.limits()))
			if err == nil {
				made = w.shelf.put(id, v)
			}
			return ctx.Err() != nil, err
		})
		if left == true && !asked && ctx.Err() == nil {
			continue // the end of whoever was first says nothing about the item
		}
		if err != nil || made != nil {
			return made, err
		}
	}
}

// hold opens what items lie in and keeps it open, for at most maxVolumes files, so that a video is decoded, or
// a tar unpacked, before a call of the items begins and not in the time that its target has to answer. What cannot be
// opened is left to the call, which meets it again and has it on record.
func (w *work) hold(ctx context.Context, items []gantry.Item) (release func()) {
	held := map[gantry.ItemID]*volume{}
	for _, x := range items {
		if held[x.Parent] != nil || !isInside(x) {
			continue
		}
		if v, err := w.volume(ctx, x.Parent); err == nil {
			held[x.Parent] = v
		}
		if len(held) == maxVolumes || ctx.Err() != nil {
			break
		}
	}
	return func() {
		for _, v := range held {
			w.shelf.release(v)
		}
	}
}

// openVolume opens an archive at a depth of nesting, or a file of frames, under a budget.
func (w *work) openVolume(ctx context.Context, x gantry.Item, depth int, b *media.Budget) (*volume, error) {
	switch {
	case x.Media == gantry.MediaDICOM:
		return w.openFrames(ctx, x)
	case isVideo(x.Media):
		v, _, err := w.openVideo(ctx, x, b)
		return v, err
	}
	kind, random := x.Media, w.random
	if kind == gantry.MediaGZIP || kind == gantry.MediaZSTD {
		kind, random = gantry.MediaTAR, func(ctx context.Context, x gantry.Item) (io.ReaderAt, int64, func() error, error) {
			return w.unpack(ctx, x, depth, b)
		}
	}
	at, size, closeIt, err := random(ctx, x)
	if err != nil {
		return nil, err
	}
	a, err := media.OpenArchive(kind, at, size, depth, b)
	if err != nil {
		closeIt()
		return nil, err
	}
	return archiveVolume(a, func() { closeIt() }), nil
}

// unpack makes a copy of the tar in a stream, under the budget of what it lies in.
func (w *work) unpack(ctx context.Context, x gantry.Item, depth int, b *media.Budget) (io.ReaderAt, int64, func() error, error) {
	r, err := w.open(ctx, x)
	if err != nil {
		return nil, 0, nil, err
	}
	defer r.Close()
	return w.e.scratch(func(f *os.File) (int64, error) { return media.Decompress(ctx, x.Media, r, f, depth, b) })
}

// random gives random access to an item: to its own bytes, to a stored entry within its archive, or
// to a copy of a compressed one, which is made on the way and gone with the process.
func (w *work) random(ctx context.Context, x gantry.Item) (io.ReaderAt, int64, func() error, error) {
	if !isInside(x) {
		return w.bytesOf(ctx, x)
	}
	n, err := w.ordinal(x)
	if err != nil {
		return nil, 0, nil, err
	}
	v, err := w.volume(ctx, x.Parent)
	if err != nil {
		return nil, 0, nil, err
	}
	if sec, ok := v.section(n); ok {
		return sec, sec.Size(), sync.OnceValue(func() error { w.shelf.release(v); return nil }), nil
	}
	defer w.shelf.release(v)
	r, err := v.open(ctx, n)
	if err != nil {
		return nil, 0, nil, err
	}
	defer r.Close()
	return w.e.scratch(func(f *os.File) (int64, error) { return io.Copy(f, readerWith(ctx, r)) })
}

func (w *work) limits() media.Limits {
	x := w.plan.Extract
	return media.Limits{Depth: x.Depth, MaxBytes: x.MaxBytes, MaxEntries: x.MaxEntries, MaxRatio: x.MaxRatio}
}
