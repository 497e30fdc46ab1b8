package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// videoFrames is the length of the video that is taken apart.
const videoFrames = 300

// measureVideo takes a video apart into PNGs beside a bare ffmpeg, at the same low priority, whose pictures
// fall into nothing.
func measureVideo(ctx context.Context, b *bed, s settings, r *report) error {
	path := filepath.Join(b.home, "video.mp4")
	err := runQuietly(ctx, "ffmpeg", "-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", fmt.Sprintf("testsrc=s=640x480:r=30:d=%d", videoFrames/30),
		"-c:v", "libx264", "-pix_fmt", "yuv420p", path)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	own := func(ctx context.Context) error {
		n := 0
		o := media.SplitOptions{Format: gantry.RenderPNG, MaxFrames: videoFrames, MaxBytes: 1 << 30}
		err := media.SplitVideo(ctx, path, o, func(int, time.Duration, []byte) error { n++; return nil })
		if err == nil && n != videoFrames {
			err = fmt.Errorf("%d frames of %d", n, videoFrames)
		}
		return err
	}
	race, err := versus(ctx, s.rounds, clock(own), peerRun("nice", "-n", "10", "ffmpeg", "-v", "error", "-nostdin", "-i", path,
		"-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "png", "-"))
	if err != nil {
		return err
	}
	r.add("video_vs_ffmpeg", race.ratio(), "ratio", atLeast(0.8), "%d frames of 640 x 480 to PNG; %s", videoFrames, race.note("split", "ffmpeg"))
	return nil
}

// measureScan judges the files of a study and reads their tags, as many side by side as there are
// processors, as the engine does, beside one process of dcmdump, which prints them; and then one after
// the other, which is another figure: dcmdump does not take the SHA-256 of every byte.
func measureScan(ctx context.Context, b *bed, s settings, r *report) error {
	const files = 320
	slices, err := sample.CT(s.slices, 512)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.home, "ct")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	paths := make([]string, files)
	for i := range paths {
		paths[i] = filepath.Join(dir, fmt.Sprintf("%04d.dcm", i))
		if err := os.WriteFile(paths[i], slices[i%len(slices)], 0o600); err != nil {
			return err
		}
	}
	peer := peerRun("dcmdump", append([]string{"-q"}, paths...)...)
	for _, x := range []struct {
		name    string
		workers int
		must    bound
	}{{"scan_vs_dcmdump", runtime.NumCPU(), atLeast(1)}, {"scan_one_by_one_vs_dcmdump", 1, bound{}}} {
		race, err := versus(ctx, s.rounds, clock(func(context.Context) error { return scanAll(paths, x.workers) }), peer)
		if err != nil {
			return err
		}
		r.add(x.name, race.ratio(), "ratio", x.must, "%d CT of %d kB, %d at once; %s", files, len(slices[0])/1000, x.workers,
			race.note("scan and tags", "dcmdump"))
	}
	return nil
}

// scanAll does to each file what the engine does to a DICOM object on its way in.
func scanAll(paths []string, workers int) error {
	var g errgroup.Group
	g.SetLimit(workers)
	for _, p := range paths {
		g.Go(func() error { return scanFile(p) })
	}
	return g.Wait()
}

func scanFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := dicom.Scan(f, st.Size(), dicom.DefaultLimits()); err != nil {
		return err
	}
	tags, err := dicom.Tags(io.NewSectionReader(f, 0, st.Size()), st.Size())
	if err == nil && tags["Modality"] != "CT" {
		err = errors.New("the tags are not those of the file")
	}
	return err
}

// measureFrames renders the frames of one object on one processor and on two.
func measureFrames(ctx context.Context, _ *bed, s settings, r *report) error {
	const frames = 1000
	file, err := multiFrame(frames, s.slices)
	if err != nil {
		return err
	}
	f, err := dicom.OpenFrames(bytes.NewReader(file), int64(len(file)), dicom.FrameLimits{})
	if err != nil {
		return err
	}
	if f.Len() != frames {
		return fmt.Errorf("%d frames of %d", f.Len(), frames)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	on := func(processors int) contender {
		return clock(func(ctx context.Context) error {
			runtime.GOMAXPROCS(processors)
			return renderAll(ctx, f, processors)
		})
	}
	race, err := versus(ctx, s.rounds, on(2), on(1))
	if err != nil {
		return err
	}
	r.add("frames_split_scaling_2", race.ratio(), "ratio", atLeast(1.7), "%d frames of 256 x 256 of 16 bits to PNG; %s", frames, race.note("two processors", "one"))
	return nil
}

// renderAll makes a PNG of each frame.
func renderAll(ctx context.Context, f *dicom.Frames, workers int) error {
	window, err := dicom.ParseWindow("file")
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range workers {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= f.Len() {
					return nil
				}
				if err := f.Render(ctx, io.Discard, i, gantry.RenderPNG, window); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// multiFrame makes one object of the pixels of several slices: the first one's attributes, the number of
// frames put in before the rows (PS3.6: after the photometric interpretation), and one long pixel value.
func multiFrame(frames, distinct int) ([]byte, error) {
	slices, err := sample.CT(distinct, 256)
	if err != nil {
		return nil, err
	}
	pixelData, rows := []byte("\xe0\x7f\x10\x00OW\x00\x00"), []byte("\x28\x00\x10\x00US")
	at, pixels := bytes.Index(slices[0], rows), bytes.Index(slices[0], pixelData)
	if at < 0 || pixels < at {
		return nil, errors.New("a slice without rows and pixels")
	}
	number := fmt.Sprintf("%04d", frames)
	out := append(bytes.Clone(slices[0][:at]), "\x28\x00\x08\x00IS\x04\x00"+number...)
	out = append(out, slices[0][at:pixels+len(pixelData)]...)
	size := 256 * 256 * 2
	out = binary.LittleEndian.AppendUint32(out, uint32(frames*size))
	for i := range frames {
		s := slices[i%len(slices)]
		begin := bytes.Index(s, pixelData) + len(pixelData) + 4
		out = append(out, s[begin:begin+size]...)
	}
	return out, nil
}
