package engine

import (
	"bytes"
	"context"
	"strconv"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The transforms of frames. A frame's locator is its number from 0; that of a video's frame goes on
// with @ and the time at which it is shown, in microseconds from the first one's.
const (
	dicomFrame = "frame"
	videoFrame = "video"
)

// isFrame tells whether an item is a picture that was rendered here.
func isFrame(x gantry.Item) bool { return x.Transform == dicomFrame || x.Transform == videoFrame }

// mediaOfFrames is what frames are rendered as.
func mediaOfFrames(r gantry.Rendering) string {
	switch r {
	case gantry.RenderPNG:
		return gantry.MediaPNG
	case gantry.RenderJPEG:
		return gantry.MediaJPEG
	case gantry.RenderNPY:
		return gantry.MediaNPY
	}
	return ""
}

// frames lists the frames of a DICOM file that was added, after scanning it whole. A file without
// pixels stays as it is.
func (x *extraction) frames(ctx context.Context, of *gantry.Item) ([]gantry.Item, error) {
	m, err := x.look(ctx, *of)
	if err != nil {
		return nil, err
	}
	if of.SHA, of.Size, of.Reason = m.SHA, m.Size, m.Reason; of.SHA.IsZero() {
		if of.SHA, _, err = x.digest(ctx, *of); err != nil { // the results of its frames are named by it
			return nil, err
		}
	}
	v, n, err := x.framesOf(ctx, *of)
	switch {
	case gantry.CodeOf(err) == dicom.CodeNoPixelData:
		return nil, nil
	case err != nil:
		return nil, err
	}
	x.shelf.release(x.shelf.put(of.ID, v))
	if err := x.budget.AddFrames(n); err != nil {
		return nil, err
	}
	list := make([]gantry.Item, n)
	for i := range list {
		list[i] = gantry.Item{ID: x.nextID(), Parent: of.ID, Ordinal: int32(i), Stage: gantry.OriginalStage, Leg: x.task.Leg,
			Transform: dicomFrame, Locator: strconv.Itoa(i), Media: mediaOfFrames(x.plan.Extract.Frames), Size: -1}
		list[i].Origin = list[i].ID
	}
	return list, nil
}

// openFrames opens a DICOM file for its frames.
func (w *work) openFrames(ctx context.Context, x gantry.Item) (*volume, error) {
	v, _, err := w.framesOf(ctx, x)
	return v, err
}

func (w *work) framesOf(ctx context.Context, x gantry.Item) (*volume, int, error) {
	window, err := dicom.ParseWindow(w.plan.Extract.Window)
	if err != nil {
		return nil, 0, err
	}
	at, size, closeIt, err := w.random(ctx, x)
	if err != nil {
		return nil, 0, err
	}
	f, err := dicom.OpenFrames(at, size, w.frameLimits())
	if err != nil {
		closeIt()
		return nil, 0, err
	}
	render := func(ctx context.Context, n int) (body, error) {
		if err := w.e.cpu.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer w.e.cpu.Release(1)
		var b bytes.Buffer
		if err := f.Render(ctx, &b, n, w.plan.Extract.Frames, window); err != nil {
			return nil, err
		}
		return &reading{Reader: &b, size: int64(b.Len()), close: func() error { return nil }}, nil
	}
	return &volume{open: render, section: noSection, close: func() { closeIt() }}, f.Len(), nil
}

func (w *work) frameLimits() dicom.FrameLimits {
	return dicom.FrameLimits{Frames: w.plan.Extract.MaxEntries, TotalBytes: w.plan.Extract.MaxBytes}
}
