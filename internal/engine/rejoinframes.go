package engine

import (
	"bytes"
	"context"
	"image"
	_ "image/jpeg" // what a picture's size is read by
	_ "image/png"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// resultSeries is the number of the series of the first stage's results: behind those of scanners.
const resultSeries = 9001

// joinFrames writes a multi-frame DICOM object of the pictures that were made of a file's frames, in
// their order. The place of a frame that failed is black and named in the object.
func (r *rejoining) joinFrames(ctx context.Context, of gantry.Item) (*built, error) {
	frames := r.inside[of.ID]
	at, size, closeIt, err := r.random(ctx, of)
	if err != nil {
		return nil, err
	}
	defer closeIt()
	j, err := r.joining(ctx, of)
	if err != nil {
		return nil, err
	}
	j.Source, j.Size = at, size
	return r.scratched(gantry.MediaDICOM, func(f *os.File) error {
		return dicom.Join(ctx, f, j, func(i int) (*dicom.Picture, error) {
			out := r.by[frames[i].ID]
			body, err := r.open(ctx, out.Item)
			if err != nil {
				return nil, err
			}
			defer body.Close()
			return dicom.PictureOf(readerWith(ctx, body), out.Media, r.frameLimits())
		})
	})
}

// joining describes the object. Its UIDs are the same for the same input, processor and rendering: a
// retry, or another time limit, gives the same instance. There is a series for each of the source's, since
// what lies in one archive may be of several studies (PS3.3 section C.7.3).
func (r *rejoining) joining(ctx context.Context, of gantry.Item) (dicom.Joining, error) {
	window, err := dicom.ParseWindow(r.plan.Extract.Window)
	if err != nil {
		return dicom.Joining{}, err
	}
	tags, err := r.attributes(ctx, of)
	if err != nil {
		return dicom.Joining{}, err
	}
	series := []string{tags["StudyInstanceUID"], tags["SeriesInstanceUID"]}
	if series[1] == "" {
		series = append(series, of.SHA.String())
	}
	frames, x, st := r.inside[of.ID], r.plan.Extract, r.plan.Stages[r.stage]
	made := []string{r.plan.Name, st.Name, st.Call[r.processor], string(x.Frames), window.String()}
	j := dicom.Joining{Frames: len(frames), Sent: x.Frames, Window: window, Limits: r.frameLimits(),
		Missing:   func(i int) bool { _, ok := r.by[frames[i].ID]; return !ok },
		UID:       dicom.ResultUID(r.e.Namespace, append(made, of.SHA.String(), "instance", strconv.Itoa(int(of.ID)))...),
		SeriesUID: dicom.ResultUID(r.e.Namespace, append(append(made, series...), "series")...),
		Pipeline:  r.plan.Name, Version: r.plan.Version.String(), Processor: st.Call[r.processor], SeriesNumber: resultSeries + int(r.stage)}
	for _, f := range frames {
		j.Lossy = j.Lossy || r.by[f.ID].Media == gantry.MediaJPEG
	}
	return j, nil
}

// joinVideo writes a video of the pictures that were made of a video's frames, each at its time. In the
// place of a frame that failed is a black picture with a cross.
func (r *rejoining) joinVideo(ctx context.Context, of gantry.Item) (*built, error) {
	rate, err := r.rateOf(ctx, of)
	if err != nil {
		return nil, err
	}
	gap, err := r.gapPicture(ctx, of)
	if err != nil {
		return nil, err
	}
	out, err := os.CreateTemp(r.e.Scratch, "joined-*")
	if err != nil {
		return nil, gantry.Errorf(gantry.Unavailable, "no_space", "make scratch file: %w", err)
	}
	defer os.Remove(out.Name())
	frames := &reelReader{rejoining: r, ctx: ctx, of: r.inside[of.ID], gap: gap}
	kind := media.JoinKindOf(of.Media)
	err = media.JoinVideo(ctx, out.Name(), kind, rate, frames.next)
	frames.done()
	if err == nil {
		var end int64
		if end, err = out.Seek(0, io.SeekEnd); err == nil {
			return &built{media: kind, at: out, size: end, close: out.Close}, nil
		}
	}
	out.Close()
	return nil, err
}

// reelReader hands the pictures of a video's frames to the encoder, one at a time.
type reelReader struct {
	*rejoining
	ctx  context.Context
	of   []gantry.Item
	gap  []byte
	last io.Closer
}

func (f *reelReader) done() {
	if f.last != nil {
		f.last.Close()
		f.last = nil
	}
}

func (f *reelReader) next(i int) (media.VideoFrame, bool, error) {
	f.done()
	if i >= len(f.of) {
		return media.VideoFrame{}, false, nil
	}
	_, us, _ := strings.Cut(f.of[i].Locator, "@")
	n, err := strconv.ParseInt(us, 10, 64)
	if err != nil {
		return media.VideoFrame{}, false, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "join %s: bad locator", f.path(f.of[i]))
	}
	frame := media.VideoFrame{At: time.Duration(n) * time.Microsecond, Media: gantry.MediaPNG, Picture: bytes.NewReader(f.gap)}
	out, ok := f.by[f.of[i].ID]
	if !ok {
		return frame, true, nil
	}
	body, err := f.open(f.ctx, out.Item)
	if err != nil {
		return media.VideoFrame{}, false, err
	}
	f.last = body
	frame.Media, frame.Picture = out.Media, readerWith(f.ctx, body)
	return frame, true, nil
}

// rateOf is how many frames a second there are: as many as were taken, else what the video says of
// itself.
func (r *rejoining) rateOf(ctx context.Context, of gantry.Item) (media.Rate, error) {
	if s := r.plan.Extract.Sample; s > 0 {
		return sampleRate(s), nil
	}
	path, remove, err := r.named(ctx, of)
	if err != nil {
		return media.Rate{}, err
	}
	defer remove()
	info, err := media.ProbeVideo(ctx, path)
	if err != nil {
		return media.Rate{}, err
	}
	if info.Rate == (media.Rate{}) {
		return media.Rate{Num: 25, Den: 1}, nil
	}
	return info.Rate, nil
}

// sampleRate is a number of frames per second as a fraction, one of a few an hour too.
func sampleRate(perSecond float64) media.Rate {
	r := media.Rate{Den: 1000}
	if perSecond < 1 {
		r.Den *= 3600
	}
	r.Num = max(1, int64(math.Round(perSecond*float64(r.Den))))
	return r
}

// gapPicture makes what stands in the place of frames that failed, as large as the first that did not.
func (r *rejoining) gapPicture(ctx context.Context, of gantry.Item) ([]byte, error) {
	for _, x := range r.inside[of.ID] {
		out, ok := r.by[x.ID]
		if !ok {
			continue
		}
		if out.Media != gantry.MediaPNG && out.Media != gantry.MediaJPEG {
			return nil, gantry.Errorf(gantry.Illegal, CodeCannotRejoin, "%s was answered by %s, which no video is made of", r.path(x), out.Media)
		}
		body, err := r.open(ctx, out.Item)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		c, _, err := image.DecodeConfig(readerWith(ctx, body))
		if err != nil {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read the size of a picture: it is broken")
		}
		return media.GapPicture(c.Width, c.Height), nil
	}
	return nil, gantry.Errorf(gantry.Illegal, CodeCannotRejoin, "%s has no pictures", r.path(of))
}
