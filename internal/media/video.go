package media

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Bounds of a video's pictures.
const (
	videoMaxSide   = 8192
	videoMaxPixels = 40 << 20
)

// Rate is a frequency of Num/Den per second; the zero Rate is not known.
type Rate struct{ Num, Den int64 }

// VideoInfo is what a video's container says of its first video stream.
type VideoInfo struct {
	Kind          string // gantry.MediaMP4, MediaMKV or MediaAVI, by content
	Width, Height int    // pixels, as stored: no rotation
	Frames        int    // as declared; -1 unknown
	Duration      time.Duration
	Rate          Rate // nominal; a stream of variable rate has it only now and then
	Codec         string
}

// codecs are those whose frames are taken.
var codecs = []string{"h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3",
	"vp8", "vp9", "av1", "ffv1", "png", "rawvideo", "huffyuv", "ffvhuff", "utvideo", "dvvideo", "prores", "theora"}

// ProbeVideo reads what a video file says of itself, by ffprobe in a child process. The error is an
// Illegal *gantry.Error (truncated, malformed, unsupported_format, too_large, bad_value), a Timeout
// (timeout), Unavailable (ffmpeg_missing) or that of reading the file.
func ProbeVideo(ctx context.Context, path string) (VideoInfo, error) {
	info, err := probeVideo(ctx, path)
	if err != nil {
		return VideoInfo{}, fmt.Errorf("probe video: %w", err)
	}
	return info, nil
}

func probeVideo(ctx context.Context, path string) (VideoInfo, error) {
	kind, err := videoKind(path)
	if err != nil {
		return VideoInfo{}, err
	}
	url, err := fileURL(path)
	if err != nil {
		return VideoInfo{}, err
	}
	c, err := newChild(ctx, "ffprobe", "-v", "error", "-threads", "1", "-protocol_whitelist", "file,pipe", "-f", demuxer(kind),
		"-select_streams", "v:0", "-show_entries", "stream=codec_name,width,height,nb_frames,r_frame_rate,duration:format=duration",
		"-of", "json", url)
	if err != nil {
		return VideoInfo{}, err
	}
	out, err := c.output(64 << 10)
	if err != nil {
		return VideoInfo{}, err
	}
	return parseProbe(kind, out)
}

// videoKind detects a file and checks its container.
func videoKind(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", withoutName(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", withoutName(err)
	}
	head := make([]byte, HeadSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return "", withoutName(err)
	}
	kind := Detect(head[:n])
	return kind, CheckVideo(kind, f, st.Size())
}

// withoutName takes the file's name off an error.
func withoutName(err error) error {
	if p, ok := err.(*os.PathError); ok {
		return fmt.Errorf("%s: %w", p.Op, p.Err)
	}
	return err
}

// demuxer is ffmpeg's name of a kind's reader.
func demuxer(kind string) string {
	switch kind {
	case gantry.MediaMP4:
		return "mov"
	case gantry.MediaMKV:
		return "matroska"
	}
	return "avi"
}

// parseProbe judges ffprobe's answer.
func parseProbe(kind string, out []byte) (VideoInfo, error) {
	var a struct {
		Streams []struct {
			Codec    string `json:"codec_name"`
			Width    int    `json:"width"`
			Height   int    `json:"height"`
			Frames   string `json:"nb_frames"`
			Rate     string `json:"r_frame_rate"`
			Duration string `json:"duration"`
		} `json:"streams"`
		Format struct {
			Duration string `json:"duration"`
		} `json:"format"`
	}
	if err := json.Unmarshal(out, &a); err != nil {
		return VideoInfo{}, illegal(gantry.CodeMalformed, "no answer about the streams")
	}
	if len(a.Streams) == 0 || !slices.Contains(codecs, a.Streams[0].Codec) {
		return VideoInfo{}, illegal(gantry.CodeUnsupportedFormat, "no video stream of a kind that is taken")
	}
	s := a.Streams[0]
	v := VideoInfo{Kind: kind, Codec: s.Codec, Width: s.Width, Height: s.Height, Frames: -1}
	if v.Width < 1 || v.Height < 1 {
		return VideoInfo{}, illegal(CodeBadValue, "a video of %d x %d", v.Width, v.Height)
	}
	if v.Width > videoMaxSide || v.Height > videoMaxSide || v.Width*v.Height > videoMaxPixels {
		return VideoInfo{}, illegal(gantry.CodeTooLarge, "a video of %d x %d", v.Width, v.Height)
	}
	if n, err := strconv.Atoi(s.Frames); err == nil && n > 0 {
		v.Frames = n
	}
	for _, d := range []string{s.Duration, a.Format.Duration} {
		if f, err := strconv.ParseFloat(d, 64); err == nil && f > 0 && f < 1e9 && v.Duration == 0 {
			v.Duration = time.Duration(f * float64(time.Second))
		}
	}
	num, den, _ := strings.Cut(s.Rate, "/")
	n, err1 := strconv.ParseInt(num, 10, 64)
	d, err2 := strconv.ParseInt(den, 10, 64)
	if err1 == nil && err2 == nil && n > 0 && d > 0 {
		v.Rate = Rate{n, d}
	}
	return v, nil
}
