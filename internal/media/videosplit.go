package media

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// pictureMax is the longest picture that is cut out of a stream, in bytes.
const pictureMax = 256 << 20

// swsFlags make conversions of colours exact and the same on every machine.
const swsFlags = "bicubic+accurate_rnd+full_chroma_int+bitexact"

// SplitOptions says which pictures SplitVideo makes.
type SplitOptions struct {
	Format    gantry.Rendering // png, which loses nothing, or jpeg
	Sample    float64          // pictures per second of the video: the first of each interval; 0: every frame
	MaxFrames int              // the most pictures allowed; 0 allows none
	MaxBytes  int64            // of all pictures; 0 allows none
}

// SplitVideo decodes a video's first video stream by ffmpeg in a child process and gives its frames in
// the order in which they are shown: their number from 0, their time from the first frame's, exact to a
// microsecond, and the picture, which is valid until each returns. No frame is repeated or left out to
// fill up a rate, and none is rotated. The same file gives the same bytes with the same ffmpeg.
//
// The error is each's own, or an Illegal *gantry.Error: those of ProbeVideo, too_large over a limit,
// truncated with fewer frames than the container declares, or malformed if the decoder found anything
// broken. Pictures that were given before it are sound by themselves.
func SplitVideo(ctx context.Context, path string, o SplitOptions, each func(i int, pts time.Duration, picture []byte) error) error {
	if err := splitVideo(ctx, path, o, each); err != nil {
		return fmt.Errorf("split video: %w", err)
	}
	return nil
}

func splitVideo(ctx context.Context, path string, o SplitOptions, each func(int, time.Duration, []byte) error) error {
	info, err := probeVideo(ctx, path)
	if err != nil {
		return err
	}
	if o.Sample == 0 && info.Frames > o.MaxFrames {
		return illegal(gantry.CodeTooLarge, "%d frames, limit %d", info.Frames, o.MaxFrames)
	}
	url, err := fileURL(path)
	if err != nil {
		return err
	}
	kind, encoder, err := pictureKind(o.Format)
	if err != nil {
		return err
	}
	args := []string{"-v", "error", "-nostdin", "-xerror", "-threads", "1", "-noautorotate", "-protocol_whitelist", "file,pipe",
		"-f", demuxer(info.Kind), "-i", url, "-map", "0:v:0", "-vf", filters(o.Sample), "-fps_mode", "passthrough",
		"-enc_time_base", "1/1000000", "-sws_flags", swsFlags, "-fflags", "+bitexact", "-flags", "bitexact",
		"-threads", strconv.Itoa(packers()), "-filter_threads", strconv.Itoa(packers())}
	args = append(append(args, encoder...), "-f", "image2pipe", "pipe:1")
	c, err := newChild(ctx, "ffmpeg", args...)
	if err != nil {
		return err
	}
	n, err := c.pictures(kind, o, each)
	if err == nil && o.Sample == 0 && n < info.Frames {
		err = illegal(gantry.CodeTruncated, "%d frames, %d declared", n, info.Frames)
	}
	if err == nil && n == 0 {
		err = illegal(gantry.CodeEmpty, "no frames")
	}
	return err
}

// packers is how many pictures are converted and packed side by side; their bytes are the same for any
// number. The decoder, which works on what came from outside, stays on one thread.
func packers() int { return min(runtime.GOMAXPROCS(0), 4) }

func pictureKind(f gantry.Rendering) (kind string, encoder []string, err error) {
	switch f {
	case gantry.RenderPNG:
		return gantry.MediaPNG, []string{"-c:v", "png", "-compression_level", "1", "-pred", "up"}, nil
	case gantry.RenderJPEG:
		return gantry.MediaJPEG, []string{"-c:v", "mjpeg", "-q:v", "2", "-huffman", "default"}, nil
	}
	return "", nil, gantry.Errorf(gantry.Illegal, gantry.CodeUnsupportedFormat, "no rendering of frames that is known")
}

// filters picks frames and writes the time of each, in microseconds, to the child's descriptor 3. The
// hundredth keeps times that were rounded in their own interval. Behind that each frame counts as a microsecond:
// a muxer refuses frames that follow one another faster than the nominal rate, or stand at one time.
func filters(sample float64) string {
	f := "settb=AVTB,"
	if sample > 0 {
		s := strconv.FormatFloat(sample, 'f', -1, 64)
		f += "select='isnan(prev_selected_t)+gt(floor(t*" + s + "+0.01)\\,floor(prev_selected_t*" + s + "+0.01))',"
	}
	return f + "metadata=mode=add:key=n:value=0,metadata=mode=print:file='pipe\\:3':direct=1,setpts=N"
}

// pictures runs ffmpeg and gives what it writes. The child is gone when it returns.
func (c *child) pictures(kind string, o SplitOptions, each func(int, time.Duration, []byte) error) (int, error) {
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		os.RemoveAll(c.dir)
		return 0, fmt.Errorf("make pipe: %w", err)
	}
	timesIn, timesOut, err := os.Pipe()
	if err != nil {
		os.RemoveAll(c.dir)
		return 0, fmt.Errorf("make pipe: %w", err)
	}
	defer timesIn.Close()
	c.cmd.ExtraFiles = []*os.File{timesOut}
	err = c.start()
	timesOut.Close()
	if err != nil {
		return 0, err
	}
	times, stop := make(chan time.Duration, 64), make(chan struct{})
	go readTimes(timesIn, times, stop)
	n, err := cutAll(out, kind, o, times, each)
	close(stop)
	if err != nil && !errors.Is(err, errShort) {
		return n, c.abort(err)
	}
	if ended := c.wait(); ended != nil {
		return n, ended
	}
	return n, err
}

// errShort stands for an end of the stream inside a picture: why, the child's end tells better.
var errShort = gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "the decoder broke off")

// cutAll gives the pictures of a stream with their times.
func cutAll(r io.Reader, kind string, o SplitOptions, times <-chan time.Duration, each func(int, time.Duration, []byte) error) (int, error) {
	cut := newCutter(r, kind)
	var total int64
	var first time.Duration
	for n := 0; ; n++ {
		picture, err := cut.next(min(o.MaxBytes-total, pictureMax))
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if n >= o.MaxFrames {
			return n, illegal(gantry.CodeTooLarge, "over %d frames", o.MaxFrames)
		}
		total += int64(len(picture))
		at, ok := <-times
		if !ok {
			return n, illegal(gantry.CodeMalformed, "frame %d has no time", n)
		}
		if n == 0 {
			first = at
		}
		if err := each(n, at-first, picture); err != nil {
			return n, err
		}
	}
}

// readTimes reads lines such as "frame:0    pts:40000   pts_time:0.04".
func readTimes(r io.Reader, times chan<- time.Duration, stop <-chan struct{}) {
	defer close(times)
	for s := bufio.NewScanner(r); s.Scan(); {
		if !strings.HasPrefix(s.Text(), "frame:") {
			continue
		}
		fields := strings.Fields(s.Text())
		if len(fields) < 2 {
			return
		}
		us, err := strconv.ParseInt(strings.TrimPrefix(fields[1], "pts:"), 10, 64)
		if err != nil || us > 1<<52 || us < -1<<52 {
			return
		}
		select {
		case times <- time.Duration(us) * time.Microsecond:
		case <-stop:
			return
		}
	}
}
