package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// JoinKindOf gives the kind as which the frames of a video of the given media type are joined again:
// gantry.MediaMP4 for itself, gantry.MediaMKV, which loses nothing, for all others.
func JoinKindOf(media string) string {
	if media == gantry.MediaMP4 {
		return gantry.MediaMP4
	}
	return gantry.MediaMKV
}

// JoinVideo writes a video to the file at path, by ffmpeg in a child process. frames is asked for
// picture i with its time, i from 0, once each, and gives false behind the last; the first is at 0, none
// before another or over 1,000 hours, all are of one size. rate is the nominal rate: the last frame is
// shown for its inverse.
//
// gantry.MediaMKV is FFV1 in RGB, of 8 bits a channel or, if the first picture has them, of 16; it loses
// nothing, and its times are rounded to the millisecond, which is all that the container holds.
// gantry.MediaMP4 is H.264 (MPEG-4 part 2 if ffmpeg has no libx264) in yuv420p, which loses detail, with
// odd sides made even by a line of black. Its times are exact where they are multiples of the rate's
// inverse and else within 2 microseconds (16 in MPEG-4 part 2); there must be 40 between two. Neither
// keeps transparency: the colours are taken as they are.
// The bytes depend on the pictures, their times, the rate and the ffmpeg alone.
//
// The error is that of frames, or an Illegal *gantry.Error: those of Verify for a picture, malformed or
// unsupported_format for a JPEG that cannot be decoded, bad_value for a picture of another size, one of
// 16 bits behind a first one of less in Matroska, a time out of order or no rate, too_large for a picture over
// 256 MiB or 8,192 a side, empty without a picture, unsupported_format for another kind or medium; a
// Timeout (timeout); Unavailable (ffmpeg_missing). The file is then worth nothing.
func JoinVideo(ctx context.Context, path, kind string, rate Rate, frames func(i int) (VideoFrame, bool, error)) error {
	p := &pictureReader{frames: frames, lossless: kind == gantry.MediaMKV}
	if err := joinVideo(ctx, path, kind, rate, p); err != nil {
		return fmt.Errorf("join video: %w", err)
	}
	return nil
}

func joinVideo(ctx context.Context, path, kind string, rate Rate, p *pictureReader) error {
	if rate.Num < 1 || rate.Den < 1 {
		return illegal(CodeBadValue, "a rate of %d/%d", rate.Num, rate.Den)
	}
	url, err := fileURL(path)
	if err != nil {
		return err
	}
	first, _, ok, err := p.next()
	if err != nil {
		return err
	}
	if !ok {
		return illegal(gantry.CodeEmpty, "no pictures")
	}
	codec, err := videoCodec(ctx, kind, rate, p.deep)
	if err != nil {
		return err
	}
	progress, err := encode(ctx, append(codec, url), rate, first, p)
	if err == nil && lastFrame(progress) != p.n {
		err = illegal(gantry.CodeMalformed, "%d of %d pictures written", lastFrame(progress), p.n)
	}
	return err
}

// encode runs ffmpeg with the arguments for the output on the first picture and all others, and gives
// what it counted.
func encode(ctx context.Context, output []string, rate Rate, first []byte, p *pictureReader) ([]byte, error) {
	args := []string{"-v", "error", "-xerror", "-y", "-protocol_whitelist", "file,pipe", "-threads", "1", "-f", "matroska",
		"-i", "pipe:0", "-map", "0:v:0", "-fps_mode", "passthrough", "-progress", "pipe:1", "-nostats", "-sws_flags", swsFlags,
		"-fflags", "+bitexact", "-flags", "bitexact", "-threads", "1"}
	c, err := newChild(ctx, "ffmpeg", append(args, output...)...)
	if err != nil {
		return nil, err
	}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		os.RemoveAll(c.dir)
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	var progress lastBytes
	c.cmd.Stdout = &progress
	if err := c.start(); err != nil {
		return nil, err
	}
	err = writePictures(in, rate, first, p)
	if err != nil && !errors.Is(err, errChild) {
		return nil, c.abort(err)
	}
	_ = in.Close()
	if ended := c.wait(); ended != nil {
		return nil, ended
	}
	return progress.b, err
}

// timescale gives an encoder's ticks in a second as an argument: a multiple of the rate's numerator, so that
// frames of that rate fall on one each, and at most most. With most not over 500,000 a time that was
// rounded to a microsecond falls on the same.
func timescale(rate Rate, most int64) []string {
	ticks := most
	if rate.Num <= most {
		ticks = most / rate.Num * rate.Num
	}
	return []string{"-enc_time_base", fmt.Sprintf("1/%d", ticks)}
}

// videoCodec gives the arguments for a container, its codec and the codec's unit of time.
func videoCodec(ctx context.Context, kind string, rate Rate, deep bool) ([]string, error) {
	switch kind {
	case gantry.MediaMKV:
		return append(timescale(rate, 500_000), "-c:v", "ffv1", "-level", "3", "-g", "1", "-slicecrc", "1",
			"-pix_fmt", pixelFormat(deep), "-f", "matroska"), nil
	case gantry.MediaMP4:
		c, err := newChild(ctx, "ffmpeg", "-v", "error", "-hide_banner", "-encoders")
		if err != nil {
			return nil, err
		}
		list, err := c.output(1 << 20)
		if err != nil {
			return nil, err
		}
		return mp4Codec(bytes.Contains(list, []byte(" libx264 ")), rate), nil
	}
	return nil, illegal(gantry.CodeUnsupportedFormat, "no kind of video that is written")
}

// mp4Codec gives the arguments for an MP4. MPEG-4 part 2 counts in 16 bits. No frame refers to a later
// one: else the file's length would be that of the order of decoding, and could end before the last frame.
func mp4Codec(x264 bool, rate Rate) []string {
	codec := append(timescale(rate, 65_535), "-c:v", "mpeg4", "-q:v", "2")
	if x264 {
		codec = append(timescale(rate, 500_000), "-c:v", "libx264", "-crf", "18", "-bf", "0")
	}
	return append(codec, "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-f", "mp4")
}

// pixelFormat says how pictures of all colour types are encoded in Matroska: without it the first one's
// type would be that of all, and colours behind a grey picture would be lost.
func pixelFormat(deep bool) string {
	if deep {
		return "rgb48le"
	}
	return "bgr0"
}

// errChild stands for a child that takes no more.
var errChild = gantry.Errorf(gantry.Unavailable, "child_failed", "the encoder broke off")

// writePictures writes the first picture and all others; each is checked whole before its first byte goes
// to ffmpeg.
func writePictures(w io.Writer, rate Rate, first []byte, p *pictureReader) error {
	m, err := newMatroska(w, rate, p.width, p.height)
	if err != nil {
		return errChild
	}
	for picture, at := first, time.Duration(0); ; {
		if err := m.frame(at, picture); err != nil {
			return errChild
		}
		var ok bool
		if picture, at, ok, err = p.next(); err != nil || !ok {
			return err
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
