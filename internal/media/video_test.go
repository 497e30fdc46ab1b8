package media

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// pictures gives n PNGs that tell which they are.
func pictures(t testing.TB, n, w, h int) (out [][]byte) {
	t.Helper()
	for i := range n {
		m := image.NewRGBA(image.Rect(0, 0, w, h))
		for p := range w * h {
			m.Set(p%w, p/w, color.RGBA{byte(p * (i + 1)), byte(p >> 3), byte(i * 9), 255})
		}
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			t.Fatal(err)
		}
		out = append(out, b.Bytes())
	}
	return out
}

// givePictures gives PNGs at a rate.
func givePictures(rate Rate, p [][]byte) func(int) (VideoFrame, bool, error) {
	return func(i int) (VideoFrame, bool, error) {
		if i == len(p) {
			return VideoFrame{}, false, nil
		}
		at := time.Duration(int64(i) * int64(time.Second) * rate.Den / max(1, rate.Num))
		return VideoFrame{Picture: bytes.NewReader(p[i]), Media: gantry.MediaPNG, At: at}, true, nil
	}
}

func joined(t testing.TB, kind string, rate Rate, p [][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "joined")
	if err := JoinVideo(t.Context(), path, kind, rate, givePictures(rate, p)); err != nil {
		t.Fatal(err)
	}
	return path
}

var everyFrame = SplitOptions{Format: gantry.RenderPNG, MaxFrames: 1000, MaxBytes: 1 << 30}

type frame struct {
	at      time.Duration
	picture []byte
}

func split(ctx context.Context, path string, o SplitOptions) (out []frame, err error) {
	err = SplitVideo(ctx, path, o, func(i int, pts time.Duration, p []byte) error {
		if i != len(out) {
			return errors.New("numbers are not in order")
		}
		out = append(out, frame{pts, bytes.Clone(p)})
		return nil
	})
	return out, err
}

func samePixels(t *testing.T, a, b []byte) bool {
	t.Helper()
	x, err := png.Decode(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	y, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for i := range x.Bounds().Dx() * x.Bounds().Dy() {
		px, py := i%x.Bounds().Dx(), i/x.Bounds().Dx()
		if x.Bounds() != y.Bounds() || color.RGBAModel.Convert(x.At(px, py)) != color.RGBAModel.Convert(y.At(px, py)) {
			return false
		}
	}
	return true
}

// Lossless there and back: every picture, to the pixel, at its time; and the same bytes every time.
func TestVideoRoundTrip(t *testing.T) {
	t.Parallel()
	p := pictures(t, 25, 65, 47)
	path := joined(t, gantry.MediaMKV, Rate{25, 1}, p)
	first, _ := os.ReadFile(path)
	if second, _ := os.ReadFile(joined(t, gantry.MediaMKV, Rate{25, 1}, p)); !bytes.Equal(first, second) {
		t.Error("other bytes the second time")
	}
	got, err := split(t.Context(), path, everyFrame)
	if err != nil || len(got) != len(p) {
		t.Fatalf("%d frames, want %d: %v", len(got), len(p), err)
	}
	for i, f := range got {
		if want := time.Duration(i) * 40 * time.Millisecond; f.at != want || !samePixels(t, f.picture, p[i]) {
			t.Errorf("frame %d at %v: want %v and the same pixels", i, f.at, want)
		}
	}
	few, err := split(t.Context(), path, SplitOptions{Format: gantry.RenderJPEG, Sample: 5, MaxFrames: 5, MaxBytes: 1 << 20})
	if err != nil || len(few) != 5 || few[1].at != 200*time.Millisecond {
		t.Fatalf("%d samples: %v", len(few), err)
	}
	if c, err := jpeg.DecodeConfig(bytes.NewReader(few[0].picture)); err != nil || c.Width != 65 || c.Height != 47 {
		t.Errorf("a sample of %d x %d: %v", c.Width, c.Height, err)
	}
}

func TestVideoMP4(t *testing.T) {
	t.Parallel()
	path := joined(t, gantry.MediaMP4, Rate{30000, 1001}, pictures(t, 12, 65, 47))
	info, err := ProbeVideo(t.Context(), path)
	if err != nil || info.Kind != gantry.MediaMP4 || info.Width != 66 || info.Height != 48 || info.Frames != 12 || info.Rate != (Rate{30000, 1001}) {
		t.Errorf("got %+v, %v", info, err)
	}
	if info.Duration < 390*time.Millisecond || info.Duration > 410*time.Millisecond {
		t.Errorf("lasts %v", info.Duration)
	}
	if got, err := split(t.Context(), path, everyFrame); err != nil || len(got) != 12 {
		t.Errorf("%d frames, %v", len(got), err)
	}
	data, _ := os.ReadFile(path)
	if bytes.Contains(data, []byte("Lavf")) {
		t.Error("the file tells which program wrote it")
	}
}

func TestSplitVideoLimits(t *testing.T) {
	t.Parallel()
	path := joined(t, gantry.MediaMKV, Rate{25, 1}, pictures(t, 10, 64, 48))
	for name, o := range map[string]SplitOptions{
		"frames": {Format: gantry.RenderPNG, MaxFrames: 9, MaxBytes: 1 << 20},
		"bytes":  {Format: gantry.RenderPNG, MaxFrames: 10, MaxBytes: 2000},
	} {
		got, err := split(t.Context(), path, o)
		if gantry.CodeOf(err) != gantry.CodeTooLarge || len(got) == 10 {
			t.Errorf("%s: %d frames and %v", name, len(got), err)
		}
	}
	_, err := split(t.Context(), path, SplitOptions{Format: gantry.RenderNPY, MaxFrames: 10, MaxBytes: 1 << 20})
	wantCode(t, err, gantry.CodeUnsupportedFormat)
	enough := errors.New("enough")
	if err := SplitVideo(t.Context(), path, everyFrame, func(int, time.Duration, []byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v, want the caller's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = SplitVideo(ctx, path, everyFrame, func(int, time.Duration, []byte) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// A file that is cut or changed never passes as a whole one.
func TestVideoBroken(t *testing.T) {
	t.Parallel()
	p := pictures(t, 10, 64, 48)
	for _, kind := range []string{gantry.MediaMKV, gantry.MediaMP4} {
		data, err := os.ReadFile(joined(t, kind, Rate{25, 1}, p))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "secret-name")
		for _, n := range []int{1, 100, len(data) / 2, len(data) - 1} {
			if err := os.WriteFile(path, data[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := split(t.Context(), path, everyFrame)
			wantCode(t, err, gantry.CodeTruncated, gantry.CodeUnsupportedFormat)
			if strings.Contains(err.Error(), "secret-name") {
				t.Errorf("the error tells the file's name: %v", err)
			}
		}
	}
	// FFV1 has a CRC-32 for each slice.
	data, _ := os.ReadFile(joined(t, gantry.MediaMKV, Rate{25, 1}, p))
	data[len(data)/2] ^= 0x55
	path := filepath.Join(t.TempDir(), "changed")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := split(t.Context(), path, everyFrame)
	wantCode(t, err, gantry.CodeMalformed, gantry.CodeTruncated)
	_, err = ProbeVideo(t.Context(), filepath.Join(t.TempDir(), "secret-name"))
	if !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

// A child without ffmpeg, one that runs too long, and one that takes more than it may.
func TestChild(t *testing.T) {
	t.Parallel()
	_, err := newChild(t.Context(), "no-such-program")
	if gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != CodeFFmpegMissing {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c, err := newChild(ctx, "sh", "-c", "sleep 60 & sleep 60")
	wantCode(t, err)
	begin := time.Now()
	if _, err = c.output(1); gantry.KindOf(err) != gantry.Timeout || time.Since(begin) > 4*time.Second {
		t.Errorf("got %v after %v: its own child held it", err, time.Since(begin))
	}
	if _, err := os.Stat(c.dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the child's folder is left")
	}
	c, _ = newChild(t.Context(), "sh", "-c", "sleep 0.2; ulimit -v; ulimit -n; env")
	out, err := c.output(1 << 10)
	if err != nil || !strings.HasPrefix(string(out), "3145728\n64\n") || strings.Contains(string(out), "GANTRY") {
		t.Errorf("got %q and %v", out, err)
	}
}

// Pictures are cut the same however the stream arrives, and never beyond their limit.
func FuzzCutter(f *testing.F) {
	p := pictures(f, 2, 8, 8)
	f.Add(join(p...))
	f.Add(join(jpegs(f)["grey"], jpegs(f)["colour"]))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, kind := range []string{gantry.MediaPNG, gantry.MediaJPEG} {
			c, sum := newCutter(iotest.HalfReader(bytes.NewReader(data)), kind), 0
			for {
				b, err := c.next(1 << 16)
				if err == io.EOF && sum != len(data) {
					t.Fatalf("%d of %d bytes cut", sum, len(data))
				}
				if err != nil {
					break
				}
				if sum += len(b); len(b) > 1<<16 || verifyAs(kind, b) != nil {
					t.Fatalf("a picture of %d bytes that is none", len(b))
				}
			}
		}
	})
}
