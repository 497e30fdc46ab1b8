package media

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"path/filepath"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A grey picture before coloured ones, as where the first frame failed, takes no colour from them; and
// depth is kept.
func TestJoinMixedPictures(t *testing.T) {
	t.Parallel()
	rate := Rate{25, 1}
	colours := pictures(t, 2, 64, 48)
	deep := image.NewGray16(image.Rect(0, 0, 64, 48))
	for i := range 64 * 48 {
		deep.SetGray16(i%64, i/64, color.Gray16{Y: uint16(i * 21)})
	}
	palette := image.NewPaletted(image.Rect(0, 0, 64, 48), color.Palette{color.RGBA{200, 3, 7, 255}, color.RGBA{0, 99, 255, 255}})
	palette.Pix[77] = 1
	for name, p := range map[string][][]byte{
		"grey, colours, palette": {GapPicture(64, 48), colours[0], GapPicture(64, 48), encodePNG(palette, png.BestSpeed), colours[1]},
		"16 bits, then 8":        {encodePNG(deep, png.BestSpeed), colours[0]},
	} {
		got, err := split(t.Context(), joined(t, gantry.MediaMKV, rate, p), everyFrame)
		if err != nil || len(got) != len(p) {
			t.Fatalf("%s: %d frames, want %d: %v", name, len(got), len(p), err)
		}
		for i := range p {
			if !samePixels(t, got[i].picture, p[i]) {
				t.Errorf("%s: frame %d has other pixels", name, i)
			}
		}
	}
	_, err := split(t.Context(), joined(t, gantry.MediaMP4, rate, [][]byte{GapPicture(64, 48), colours[0], encodePNG(deep, png.BestSpeed)}), everyFrame)
	wantCode(t, err)
}

// JPEGs and PNGs in one video.
func TestJoinJPEG(t *testing.T) {
	t.Parallel()
	m := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for i := range m.Pix {
		m.Pix[i] = byte(i / 64)
	}
	var b, grey bytes.Buffer
	if err := errors.Join(jpeg.Encode(&b, m, nil), jpeg.Encode(&grey, image.NewGray(m.Rect), nil)); err != nil {
		t.Fatal(err)
	}
	frames := []VideoFrame{{Media: gantry.MediaJPEG, Picture: &b}, {Media: gantry.MediaPNG, Picture: bytes.NewReader(GapPicture(64, 48))},
		{Media: gantry.MediaJPEG, Picture: &grey}}
	want, err := jpeg.Decode(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x")
	err = JoinVideo(t.Context(), path, gantry.MediaMKV, Rate{1, 1}, func(i int) (VideoFrame, bool, error) {
		if i == len(frames) {
			return VideoFrame{}, false, nil
		}
		frames[i].At = time.Duration(i) * time.Second
		return frames[i], true, nil
	})
	wantCode(t, err)
	got, err := split(t.Context(), path, everyFrame)
	if err != nil || len(got) != 3 || got[2].at != 2*time.Second {
		t.Fatalf("%d frames: %v", len(got), err)
	}
	if !samePixels(t, got[0].picture, encodePNG(want, png.BestSpeed)) || !samePixels(t, got[1].picture, GapPicture(64, 48)) {
		t.Error("other pixels")
	}
}

// hostileJPEG says of itself that it is large, in few bytes.
func hostileJPEG(t testing.TB, width, height int) []byte {
	b := bytes.Clone(jpegs(t)["colour"])
	at := bytes.Index(b, []byte{0xFF, 0xC0})
	be.PutUint16(b[at+5:], uint16(height))
	be.PutUint16(b[at+7:], uint16(width))
	return b
}

func TestGapPicture(t *testing.T) {
	t.Parallel()
	for _, sides := range [][2]int{{1, 1}, {1, 300}, {640, 480}, {31, 17}, {0, -5}, {9000, 2}} {
		b := GapPicture(sides[0], sides[1])
		m, err := png.Decode(bytes.NewReader(b))
		if err != nil || verifyAs(gantry.MediaPNG, b) != nil || !bytes.Equal(b, GapPicture(sides[0], sides[1])) {
			t.Fatalf("%v: %v, or not the same twice", sides, err)
		}
		w, h := m.Bounds().Dx(), m.Bounds().Dy()
		if w != min(max(1, sides[0]), 8192) || h != max(1, sides[1]) {
			t.Errorf("%v: %d x %d", sides, w, h)
		}
		for _, corner := range []image.Point{{0, 0}, {w - 1, 0}, {0, h - 1}, {w - 1, h - 1}} {
			if m.At(corner.X, corner.Y) != (color.Gray{Y: 255}) {
				t.Errorf("%v: no line in the corner at %v", sides, corner)
			}
		}
		if w > 16 && h > 16 && (m.At(w/2, 1) != color.Gray{} || m.At(1, h/2) != color.Gray{} || m.At(w/2, h/2) != color.Gray{Y: 255}) {
			t.Errorf("%v: not black with a cross", sides)
		}
	}
}
