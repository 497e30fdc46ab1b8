package media

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"image"
	"image/png"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// joinFrames writes a video of frames that were split off another.
func joinFrames(t testing.TB, kind string, rate Rate, frames []frame) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "again")
	err := JoinVideo(t.Context(), path, kind, rate, func(i int) (VideoFrame, bool, error) {
		if i == len(frames) {
			return VideoFrame{}, false, nil
		}
		return VideoFrame{Picture: bytes.NewReader(frames[i].picture), Media: gantry.MediaPNG, At: frames[i].at}, true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// frameSums asks ffmpeg for the times, in milliseconds from the first, and the sums of all frames in RGB.
func frameSums(t testing.TB, path string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-nostdin", "-noautorotate", "-i", path, "-map", "0:v:0", "-fps_mode", "passthrough",
		"-vf", "settb=1/1000,setpts=PTS-STARTPTS", "-enc_time_base", "1/1000", "-sws_flags", swsFlags, "-pix_fmt", "rgb24", "-f", "framemd5", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	var sums []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(line, ","); !strings.HasPrefix(line, "#") && len(f) == 6 {
			sums = append(sums, strings.TrimSpace(f[2])+" "+strings.TrimSpace(f[5]))
		}
	}
	return sums
}

// sameVideo compares pictures and times.
func sameVideo(t testing.TB, path, again string, frames int) {
	t.Helper()
	want, got := frameSums(t, path), frameSums(t, again)
	if len(want) != frames || len(got) != frames {
		t.Fatalf("%d frames before, %d after, want %d", len(want), len(got), frames)
	}
	for i := range want {
		if want[i] != got[i] {
			t.Errorf("frame %d: %q, want %q", i, got[i], want[i])
		}
	}
}

// generate makes a video with ffmpeg.
func generate(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	args = append([]string{"-v", "error", "-nostdin", "-f", "lavfi"}, append(args, path)...)
	if out, err := exec.CommandContext(t.Context(), "ffmpeg", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// variable drops frames so that 53 of 120 are left, at uneven times.
const variable = "select='not(mod(n\\,3))+not(mod(n\\,8))+eq(n\\,1)+eq(n\\,2)+eq(n\\,5)'"

// Whatever the container, the codec and the pace: the same frames at the same times after splitting and
// joining.
func TestVideoThereAndBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file   string
		frames int
		args   []string
	}{
		"constant":          {"x.mp4", 50, []string{"-i", "testsrc2=s=64x48:r=25:d=2", "-pix_fmt", "yuv420p"}},
		"variable":          {"x.mp4", 53, []string{"-i", "testsrc2=s=64x48:r=25:d=4.8", "-vf", variable, "-fps_mode", "passthrough", "-pix_fmt", "yuv420p"}},
		"variable Matroska": {"x.mkv", 53, []string{"-i", "testsrc2=s=64x48:r=25:d=4.8", "-vf", variable, "-fps_mode", "passthrough", "-c:v", "ffv1"}},
		"film's pace":       {"x.mov", 48, []string{"-i", "testsrc2=s=64x48:r=24000/1001:d=2", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"}},
		"AVI":               {"x.avi", 30, []string{"-i", "testsrc2=s=65x47:r=15:d=2", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"}},
		"does not begin at 0": {"x.mkv", 10, []string{"-i", "testsrc2=s=64x48:r=10:d=1", "-vf", "setpts=PTS+3/TB",
			"-fps_mode", "passthrough", "-c:v", "ffv1"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := generate(t, c.file, c.args...)
			info, err := ProbeVideo(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			frames, err := split(t.Context(), path, everyFrame)
			if err != nil {
				t.Fatal(err)
			}
			sameVideo(t, path, joinFrames(t, JoinKindOf(gantry.MediaAVI), info.Rate, frames), c.frames)
		})
	}
}

// An MP4 holds times to 2 microseconds, those of its own pace exactly, and as many frames as it was given.
func TestJoinMP4Times(t *testing.T) {
	t.Parallel()
	dice := rand.New(rand.NewPCG(1, 2))
	p := pictures(t, 53, 64, 48)
	for _, rate := range []Rate{{25, 1}, {30000, 1001}, {1_000_000, 33_333}} {
		frames := make([]frame, len(p))
		var at time.Duration
		for i := range frames {
			frames[i] = frame{at, p[i]}
			at += time.Duration(40+dice.Int64N(200_000)) * time.Microsecond
		}
		path := joinFrames(t, gantry.MediaMP4, rate, frames)
		got, err := split(t.Context(), path, everyFrame)
		if err != nil || len(got) != len(frames) {
			t.Fatalf("%d frames, want %d: %v", len(got), len(frames), err)
		}
		for i, f := range got {
			if d := f.at - frames[i].at; d < -2*time.Microsecond || d > 2*time.Microsecond {
				t.Errorf("frame %d at %v, want %v", i, f.at, frames[i].at)
			}
		}
		info, err := ProbeVideo(t.Context(), path)
		last := time.Duration(int64(time.Second) * rate.Den / rate.Num)
		if want := frames[len(p)-1].at + last; err != nil || info.Duration < want-time.Millisecond || info.Duration > want+time.Millisecond {
			t.Errorf("lasts %v, want %v: %v", info.Duration, want, err)
		}
	}
}

// Matroska takes frames at any pace, even several in its millisecond, and all come back.
func TestJoinFast(t *testing.T) {
	t.Parallel()
	p := pictures(t, 40, 64, 48)
	frames := make([]frame, len(p))
	for i := range frames {
		frames[i] = frame{time.Duration(i/2) * 300 * time.Microsecond, p[i]}
	}
	got, err := split(t.Context(), joinFrames(t, gantry.MediaMKV, Rate{25, 1}, frames), everyFrame)
	if err != nil || len(got) != len(p) {
		t.Fatalf("%d frames, want %d: %v", len(got), len(p), err)
	}
	for i, f := range got {
		if f.at != frames[i].at.Round(time.Millisecond) || !samePixels(t, f.picture, p[i]) {
			t.Errorf("frame %d at %v, want %v", i, f.at, frames[i].at)
		}
	}
	got, err = split(t.Context(), joinFrames(t, gantry.MediaMKV, Rate{25, 1}, got), everyFrame)
	if err != nil || len(got) != len(p) {
		t.Errorf("%d frames after joining again: %v", len(got), err)
	}
}

// The encoder for an ffmpeg without libx264 counts more coarsely.
func TestJoinMP4WithoutX264(t *testing.T) {
	t.Parallel()
	for _, rate := range []Rate{{30, 1}, {100_000, 3333}} {
		path := filepath.Join(t.TempDir(), "x")
		url, _ := fileURL(path)
		p := &pictureReader{frames: givePictures(rate, pictures(t, 20, 65, 47))}
		first, _, _, err := p.next()
		if err == nil {
			_, err = encode(t.Context(), append(mp4Codec(false, rate), url), rate, first, p)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := split(t.Context(), path, everyFrame)
		if err != nil || len(got) != 20 {
			t.Fatalf("%d frames: %v", len(got), err)
		}
		want := time.Duration(19*rate.Den) * time.Second / time.Duration(rate.Num)
		if d := got[19].at - want; d < -16*time.Microsecond || d > 16*time.Microsecond {
			t.Errorf("the last at %v, want %v", got[19].at, want)
		}
	}
}

func TestJoinVideoRefuses(t *testing.T) {
	t.Parallel()
	p := pictures(t, 2, 64, 48)
	other := pictures(t, 1, 32, 48)[0]
	deep := encodePNG(image.NewGray16(image.Rect(0, 0, 64, 48)), png.BestSpeed)
	noise := bytes.Clone(p[1]) // whole by its structure, and nothing that can be inflated
	begin := bytes.Index(noise, []byte("IDAT"))
	length := int(be.Uint32(noise[begin-4:]))
	clear(noise[begin+4 : begin+4+length])
	be.PutUint32(noise[begin+4+length:], crc32.ChecksumIEEE(noise[begin:begin+4+length]))
	type f = VideoFrame
	pngAt := func(b []byte, at time.Duration) f { return f{bytes.NewReader(b), gantry.MediaPNG, at} }
	for name, c := range map[string]struct {
		kind   string
		rate   Rate
		frames []f
		want   gantry.Code
	}{
		"another size":      {gantry.MediaMKV, Rate{25, 1}, []f{pngAt(p[0], 0), pngAt(other, time.Second)}, CodeBadValue},
		"deeper":            {gantry.MediaMKV, Rate{25, 1}, []f{pngAt(p[0], 0), pngAt(deep, time.Second)}, CodeBadValue},
		"cut picture":       {gantry.MediaMKV, Rate{25, 1}, []f{pngAt(p[0], 0), pngAt(p[1][:100], time.Second)}, gantry.CodeTruncated},
		"noise":             {gantry.MediaMKV, Rate{25, 1}, []f{pngAt(p[0], 0), pngAt(noise, time.Second), pngAt(p[1], 2*time.Second)}, gantry.CodeMalformed},
		"no picture":        {gantry.MediaMKV, Rate{25, 1}, nil, gantry.CodeEmpty},
		"no rate":           {gantry.MediaMKV, Rate{25, 0}, []f{pngAt(p[0], 0)}, CodeBadValue},
		"two in one":        {gantry.MediaMKV, Rate{25, 1}, []f{pngAt(join(p[0], p[1]), 0)}, gantry.CodeMalformed},
		"AVI":               {gantry.MediaAVI, Rate{25, 1}, []f{pngAt(p[0], 0)}, gantry.CodeUnsupportedFormat},
		"does not begin":    {gantry.MediaMKV, Rate{25, 1}, []f{pngAt(p[0], time.Second)}, CodeBadValue},
		"goes back":         {gantry.MediaMKV, Rate{25, 1}, []f{pngAt(p[0], 0), pngAt(p[1], -time.Second)}, CodeBadValue},
		"stands still":      {gantry.MediaMP4, Rate{25, 1}, []f{pngAt(p[0], 0), pngAt(p[1], 39*time.Microsecond)}, CodeBadValue},
		"no end of time":    {gantry.MediaMKV, Rate{25, 1}, []f{pngAt(p[0], 0), pngAt(p[1], 1<<62)}, CodeBadValue},
		"another medium":    {gantry.MediaMKV, Rate{25, 1}, []f{{bytes.NewReader(p[0]), gantry.MediaDICOM, 0}}, gantry.CodeUnsupportedFormat},
		"a PNG as a JPEG":   {gantry.MediaMKV, Rate{25, 1}, []f{{bytes.NewReader(p[0]), gantry.MediaJPEG, 0}}, gantry.CodeMalformed},
		"a JPEG that grows": {gantry.MediaMKV, Rate{25, 1}, []f{{bytes.NewReader(hostileJPEG(t, 8192, 65535)), gantry.MediaJPEG, 0}}, gantry.CodeTooLarge},
		"a JPEG of many pixels": {gantry.MediaMKV, Rate{25, 1}, []f{{bytes.NewReader(hostileJPEG(t, 8192, 8192)), gantry.MediaJPEG, 0}},
			gantry.CodeTooLarge},
	} {
		err := JoinVideo(t.Context(), filepath.Join(t.TempDir(), "x"), c.kind, c.rate, func(i int) (VideoFrame, bool, error) {
			if i == len(c.frames) {
				return VideoFrame{}, false, nil
			}
			return c.frames[i], true, nil
		})
		if gantry.CodeOf(err) != c.want || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// What fails but is nobody's fault in the pictures keeps its own error.
func TestJoinVideoFails(t *testing.T) {
	t.Parallel()
	p := pictures(t, 1, 64, 48)
	path, down := filepath.Join(t.TempDir(), "x"), errors.New("storage is down")
	for name, second := range map[string]func() (VideoFrame, bool, error){
		"picture": func() (VideoFrame, bool, error) {
			return VideoFrame{iotest.ErrReader(down), gantry.MediaPNG, time.Second}, true, nil
		},
		"frames": func() (VideoFrame, bool, error) { return VideoFrame{}, false, down },
	} {
		err := JoinVideo(t.Context(), path, gantry.MediaMKV, Rate{25, 1}, func(i int) (VideoFrame, bool, error) {
			if i == 1 {
				return second()
			}
			return givePictures(Rate{25, 1}, p)(i)
		})
		if !errors.Is(err, down) {
			t.Errorf("%s: got %v, want the storage's error", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := JoinVideo(ctx, path, gantry.MediaMKV, Rate{25, 1}, func(i int) (VideoFrame, bool, error) {
		if i == 3 {
			cancel()
		}
		return VideoFrame{bytes.NewReader(p[0]), gantry.MediaPNG, time.Duration(i) * time.Second}, true, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

func TestJoinVideoWithoutFFmpeg(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, kind := range []string{gantry.MediaMKV, gantry.MediaMP4} {
		err := JoinVideo(t.Context(), filepath.Join(t.TempDir(), "x"), kind, Rate{25, 1}, givePictures(Rate{25, 1}, [][]byte{GapPicture(8, 8)}))
		if gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != CodeFFmpegMissing {
			t.Errorf("%s: got %v", kind, err)
		}
	}
}

func TestJoinKindOf(t *testing.T) {
	t.Parallel()
	for media, want := range map[string]string{gantry.MediaMP4: gantry.MediaMP4, gantry.MediaMKV: gantry.MediaMKV, gantry.MediaAVI: gantry.MediaMKV} {
		if got := JoinKindOf(media); got != want {
			t.Errorf("%s as %s, want %s", media, got, want)
		}
	}
}

// The real videos: every frame to the pixel and to the millisecond, and in an MP4 as many at the same times.
func TestCorpusVideo(t *testing.T) {
	t.Parallel()
	dir, files := corpus(t)
	n := 0
	for _, f := range files {
		if f.Kind != "video" {
			continue
		}
		n++
		t.Run(f.Path, func(t *testing.T) {
			path := filepath.Join(dir, f.Path)
			info, err := ProbeVideo(t.Context(), path)
			if f.Expect == "reject" {
				wantCode(t, err, f.Reason)
				return
			}
			if err != nil || info.Frames != f.Frames || info.Width != f.Columns || info.Height != f.Rows || info.Codec != f.Codec {
				t.Fatalf("got %+v, %v", info, err)
			}
			frames, err := split(t.Context(), path, everyFrame)
			if err != nil || len(frames) != f.Frames {
				t.Fatalf("%d frames, want %d: %v", len(frames), f.Frames, err)
			}
			sameVideo(t, path, joinFrames(t, gantry.MediaMKV, info.Rate, frames), f.Frames)
			again, err := split(t.Context(), joinFrames(t, gantry.MediaMP4, info.Rate, frames), everyFrame)
			if err != nil || len(again) != f.Frames {
				t.Fatalf("%d frames in the MP4, want %d: %v", len(again), f.Frames, err)
			}
			for i := range again {
				if d := again[i].at - frames[i].at; d < -2*time.Microsecond || d > 2*time.Microsecond {
					t.Errorf("frame %d of the MP4 at %v, want %v", i, again[i].at, frames[i].at)
				}
			}
		})
	}
	if n < 6 {
		t.Errorf("%d videos in the corpus, want 6 or more", n)
	}
}
