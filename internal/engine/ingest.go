package engine

import (
	"cmp"
	"context"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// ingest looks at every piece of media before any of it goes out: DICOM files are scanned whole,
// pictures by their headers. What it finds is marked on the items.
func (w *work) ingest(ctx context.Context) (gantry.Event, error) {
	if w.task.Role != gantry.NoRole {
		return w.admit(ctx) // its parent looked at the media
	}
	if len(w.members) > 0 {
		return w.awaitMembers()
	}
	leaves := w.leaves()
	for len(leaves) > 0 {
		if w.halting() {
			return "", errStop
		}
		n := min(chunk, len(leaves))
		marks, err := w.scan(ctx, leaves[:n])
		if err != nil {
			return "", err
		}
		if len(marks) > 0 {
			if err := w.commit(ctx, &gantry.Write{Marks: marks}); err != nil {
				return "", err
			}
			fail.Point("after_marks")
		}
		for _, m := range marks {
			w.mark(m)
		}
		leaves = leaves[n:]
	}
	if err := w.verdict(); err != nil {
		return "", err
	}
	if err := w.divideByGroup(ctx); err != nil {
		return "", err
	}
	return w.admit(ctx)
}

// scan looks at items side by side, as many as there are processors in this machine.
func (w *work) scan(ctx context.Context, items []gantry.Item) ([]gantry.ItemMark, error) {
	var mu sync.Mutex
	var marks []gantry.ItemMark
	g, gctx := errgroup.WithContext(ctx)
	for _, x := range items {
		if x.Rejected || isFrame(x) { // what frames were rendered from was held to its rules then
			continue
		}
		if err := w.e.cpu.Acquire(gctx, 1); err != nil {
			break
		}
		g.Go(func() error {
			defer w.e.cpu.Release(1)
			m, err := w.examine(gctx, x)
			if err != nil || m == nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			marks = append(marks, *m)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := w.certain(); err != nil {
		return nil, err
	}
	return marks, context.Cause(ctx)
}

// examine gives what is to be marked on an item, nil if nothing is. A verdict on the item is a
// mark; an error is that it could not be read.
func (w *work) examine(ctx context.Context, x gantry.Item) (*gantry.ItemMark, error) {
	m, err := w.look(ctx, x)
	if err != nil {
		if gantry.KindOf(err) != gantry.Illegal {
			return nil, err
		}
		return &gantry.ItemMark{ID: x.ID, Size: x.Size, Reason: gantry.CodeOf(err), Rejected: true}, nil
	}
	return m, nil
}

func (w *work) look(ctx context.Context, x gantry.Item) (*gantry.ItemMark, error) {
	if warning, ok := w.scanned(x); ok {
		return &gantry.ItemMark{ID: x.ID, SHA: x.SHA, Size: x.Size, Reason: cmp.Or(warning, x.Reason)}, nil
	}
	r, err := w.open(ctx, x)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	switch x.Media {
	case gantry.MediaDICOM:
		info, err := dicom.Scan(readerWith(ctx, r), x.Size, dicom.DefaultLimits())
		if err != nil {
			return nil, err
		}
		m := &gantry.ItemMark{ID: x.ID, SHA: info.SHA, Size: info.Size, Reason: x.Reason}
		if len(info.Warnings) > 0 {
			m.Reason = info.Warnings[0]
		}
		return m, nil
	case gantry.MediaPNG, gantry.MediaJPEG:
		head := make([]byte, media.HeadSize)
		n, err := io.ReadFull(r, head)
		if err != nil && n == 0 {
			return nil, err
		}
		if x.Media == gantry.MediaJPEG {
			return nil, media.CheckJPEG(head[:n])
		}
		return nil, media.CheckPNG(head[:n])
	}
	return nil, nil
}

// scanned tells whether a DICOM file passed the scanner when it came, and with which warning. Whoever reads it holds it to
// its seal.
func (w *work) scanned(x gantry.Item) (warning gantry.Code, ok bool) {
	if x.Media != gantry.MediaDICOM || x.Location == "" || w.e.Scanned == nil {
		return "", false
	}
	return w.e.Scanned(x.Location)
}
