package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// JoinVideo writes a video of PNG pictures to the file at path, by ffmpeg in a child process. frames
// gives picture i, or false behind the last; all must be of one size. gantry.MediaMP4 is H.264 (MPEG-4
// part 2 if ffmpeg has no libx264) in yuv420p, which loses detail, with odd sides made even by a line of
// black; gantry.MediaMKV is FFV1, which loses nothing. The bytes depend on the pictures, the rate and
// the ffmpeg alone.
//
// The error is that of frames, or an Illegal *gantry.Error: those of Verify for a PNG, bad_value for a
// picture of another size or no rate, too_large for a picture over 256 MiB, empty without a picture,
// unsupported_format for another kind; a Timeout (timeout); Unavailable (ffmpeg_missing). The file is
// then worth nothing.
func JoinVideo(ctx context.Context, path, kind string, rate Rate, frames func(i int) (io.Reader, bool, error)) error {
	if err := joinVideo(ctx, path, kind, rate, frames); err != nil {
		return fmt.Errorf("join video: %w", err)
	}
	return nil
}

func joinVideo(ctx context.Context, path, kind string, rate Rate, frames func(i int) (io.Reader, bool, error)) error {
	if rate.Num < 1 || rate.Den < 1 {
		return illegal(CodeBadValue, "a rate of %d/%d", rate.Num, rate.Den)
	}
	encoder, err := videoEncoder(ctx, kind)
	if err != nil {
		return err
	}
	url, err := fileURL(path)
	if err != nil {
		return err
	}
	args := []string{"-v", "error", "-xerror", "-y", "-protocol_whitelist", "file,pipe", "-threads", "1", "-f", "png_pipe",
		"-framerate", fmt.Sprintf("%d/%d", rate.Num, rate.Den), "-i", "pipe:0", "-map", "0:v:0", "-fps_mode", "passthrough",
		"-progress", "pipe:1", "-nostats", "-fflags", "+bitexact", "-flags", "bitexact", "-threads", "1"}
	c, err := newChild(ctx, "ffmpeg", append(append(args, encoder...), url)...)
	if err != nil {
		return err
	}
	n, progress, err := c.feedPictures(frames)
	if err == nil && lastFrame(progress) != n {
		err = illegal(gantry.CodeMalformed, "%d of %d pictures written", lastFrame(progress), n)
	}
	return err
}

// videoEncoder gives the arguments for a container and its codec.
func videoEncoder(ctx context.Context, kind string) ([]string, error) {
	switch kind {
	case gantry.MediaMKV:
		return []string{"-c:v", "ffv1", "-level", "3", "-g", "1", "-slicecrc", "1", "-f", "matroska"}, nil
	case gantry.MediaMP4:
		c, err := newChild(ctx, "ffmpeg", "-v", "error", "-hide_banner", "-encoders")
		if err != nil {
			return nil, err
		}
		list, err := c.output(1 << 20)
		if err != nil {
			return nil, err
		}
		codec := []string{"-c:v", "mpeg4", "-q:v", "2"}
		if bytes.Contains(list, []byte(" libx264 ")) {
			codec = []string{"-c:v", "libx264", "-crf", "18"}
		}
		return append(codec, "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-f", "mp4"), nil
	}
	return nil, illegal(gantry.CodeUnsupportedFormat, "no kind of video that is written")
}

// feedPictures runs ffmpeg on the pictures and gives their number and what ffmpeg counted.
func (c *child) feedPictures(frames func(i int) (io.Reader, bool, error)) (int, []byte, error) {
	in, err := c.cmd.StdinPipe()
	if err != nil {
		os.RemoveAll(c.dir)
		return 0, nil, fmt.Errorf("make pipe: %w", err)
	}
	var progress lastBytes
	c.cmd.Stdout = &progress
	if err := c.start(); err != nil {
		return 0, nil, err
	}
	n, err := writePictures(in, frames)
	if err != nil && !errors.Is(err, errChild) {
		return n, nil, c.abort(err)
	}
	if n == 0 {
		return 0, nil, c.abort(illegal(gantry.CodeEmpty, "no pictures"))
	}
	_ = in.Close()
	if ended := c.wait(); ended != nil {
		return n, nil, ended
	}
	return n, progress.b, err
}

// errChild stands for a child that takes no more.
var errChild = gantry.Errorf(gantry.Unavailable, "child_failed", "the encoder broke off")

// writePictures checks each picture whole before the first byte of it goes to ffmpeg.
func writePictures(w io.Writer, frames func(i int) (io.Reader, bool, error)) (int, error) {
	var size []byte
	var b bytes.Buffer
	for i := 0; ; i++ {
		r, ok, err := frames(i)
		if err != nil || !ok {
			return i, err
		}
		b.Reset()
		if _, err := io.Copy(&limited{w: &b, left: pictureMax}, Verify(gantry.MediaPNG, r)); err != nil {
			return i, fmt.Errorf("picture %d: %w", i, err)
		}
		sides := b.Bytes()[16:24]
		if i == 0 {
			size = bytes.Clone(sides)
		}
		if w, h := be.Uint32(sides), be.Uint32(sides[4:]); w > videoMaxSide || h > videoMaxSide {
			return i, illegal(gantry.CodeTooLarge, "picture %d: %d x %d", i, w, h)
		}
		if !bytes.Equal(size, sides) {
			return i, illegal(CodeBadValue, "picture %d is of another size than the first", i)
		}
		if _, err := w.Write(b.Bytes()); err != nil {
			return i, errChild
		}
	}
}

// lastBytes keeps the end of what is written.
type lastBytes struct{ b []byte }

// Write keeps the last kilobytes.
func (l *lastBytes) Write(p []byte) (int, error) {
	l.b = append(l.b, p...)
	if n := len(l.b) - 4<<10; n > 0 {
		l.b = append(l.b[:0], l.b[n:]...)
	}
	return len(p), nil
}

// lastFrame reads how many frames ffmpeg's progress counts at its end; -1 if it does not say.
func lastFrame(progress []byte) int {
	i := bytes.LastIndex(progress, []byte("frame="))
	if i < 0 {
		return -1
	}
	line, _, _ := bytes.Cut(progress[i+len("frame="):], []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	if err != nil {
		return -1
	}
	return n
}
