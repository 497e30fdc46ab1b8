package dicom

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/jpeg"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func encodeJPEG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := jpeg.Encode(&out, m, &jpeg.Options{Quality: 100}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// greyJPEG is a JPEG of one grey.
func greyJPEG(t testing.TB, w, h int, v uint8) []byte {
	t.Helper()
	m := image.NewGray(image.Rect(0, 0, w, h))
	for i := range m.Pix {
		m.Pix[i] = v
	}
	return encodeJPEG(t, m)
}

// colourJPEG is a JPEG whose components are everywhere 180, 100 and 90, without any marker of
// how they are meant.
func colourJPEG(t testing.TB, w, h int) []byte {
	t.Helper()
	m := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	for i := range m.Y {
		m.Y[i] = 180
	}
	for i := range m.Cb {
		m.Cb[i], m.Cr[i] = 100, 90
	}
	return encodeJPEG(t, m)
}

// adobe puts an APP14 segment behind the start of the image.
func adobe(stream []byte, transform byte) []byte {
	return slices.Concat(stream[:2], []byte("\xff\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"), []byte{transform}, stream[2:])
}

// jfif puts an APP0 segment behind the start of the image.
func jfif(stream []byte) []byte {
	return slices.Concat(stream[:2], []byte("\xff\xe0\x00\x10JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00"), stream[2:])
}

// TestBaselineColour: the components come as they stand, and an Adobe marker says what they are
// before the file does.
func TestBaselineColour(t *testing.T) {
	t.Parallel()
	stream := colourJPEG(t, 6, 5)
	for name, c := range map[string]struct {
		stream      []byte
		photometric string
		want        string
	}{
		"file says RGB":       {stream, "RGB", "RGB"},
		"file says YBR":       {stream, "YBR_FULL_422", "YBR_FULL"},
		"JFIF says nothing":   {jfif(stream), "RGB", "RGB"},
		"Adobe RGB":           {adobe(stream, 0), "YBR_FULL_422", "RGB"},
		"Adobe YCbCr":         {adobe(stream, 1), "RGB", "YBR_FULL"},
		"Adobe behind JFIF":   {jfif(adobe(stream, 0)), "YBR_FULL", "RGB"},
		"Adobe of four":       {adobe(stream, 2), "YBR_FULL", "YBR_FULL"},
		"another application": {bytes.Replace(adobe(stream, 0), []byte("Adobe"), []byte("Adobf"), 1), "YBR_FULL", "YBR_FULL"},
	} {
		s := encapsulated(syntaxBaseline, 1, nil, c.stream)
		s.set[tagRows], s.set[tagColumns] = short(5), short(6)
		for tag, v := range colour(c.photometric, 0) {
			s.set[tag] = v
		}
		f := opened(t, s)
		p, err := f.Picture(context.Background(), 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Photometric != c.want {
			t.Errorf("%s: %s, want %s", name, p.Photometric, c.want)
		}
		want := []byte{180, 100, 90}
		checkNear(t, name+" decoded", p.Values[len(p.Values)-3:], want)
		if c.want == "YBR_FULL" {
			want[0], want[1], want[2] = color.YCbCrToRGB(180, 100, 90)
		}
		checkNear(t, name+" shown", samples8(renderPNG(t, f, 0, "file"))[:3], want)
	}
}

func checkNear(t *testing.T, name string, got, want []byte) {
	t.Helper()
	if most, _ := difference(got, want); most > 2 {
		t.Errorf("%s: %v, want %v", name, got, want)
	}
}

func TestBaselineRefuses(t *testing.T) {
	t.Parallel()
	stream := greyJPEG(t, 16, 16, 100)
	sof := bytes.Index(stream, []byte{0xff, 0xc0})
	set := func(at int, b ...byte) []byte {
		out := slices.Clone(stream)
		copy(out[sof+at:], b)
		return out
	}
	huge := set(5, 0xff, 0xff, 0xff, 0xff)
	for name, c := range map[string]struct {
		l      *Layout
		stream []byte
		code   gantry.Code
	}{
		"nothing":       {grey(16, 16, 8), nil, gantry.CodeTruncated},
		"text":          {grey(16, 16, 8), []byte("<html></html>"), gantry.CodeMalformed},
		"another size":  {grey(16, 17, 8), stream, CodePixelSize},
		"65535 x 65535": {grey(65535, 65535, 8), huge, gantry.CodeTruncated},
		"12 bits":       {grey(16, 16, 8), set(4, 12), gantry.CodeUnsupportedFormat},
		"lossless":      {grey(16, 16, 8), set(1, 0xc3), gantry.CodeUnsupportedFormat},
		"cut":           {grey(16, 16, 8), stream[:len(stream)-8], gantry.CodeTruncated},
		"only zeros":    {grey(16, 16, 8), append(stream[:sof:sof], make([]byte, 50)...), gantry.CodeTruncated},
	} {
		if _, err := decodeBaseline(nil, c.stream, c.l, FrameLimits{}); gantry.CodeOf(err) != c.code || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
	refusedFrames(t, "three for one", encapsulated(syntaxBaseline, 1, nil, colourJPEG(t, 2, 2)), FrameLimits{}, CodePixelSize)
}

// TestBaselineWide takes 8 bits into the 16 that are allocated.
func TestBaselineWide(t *testing.T) {
	t.Parallel()
	s := encapsulated(syntaxExtended, 1, nil, greyJPEG(t, 2, 2, 200))
	s.set[tagBits], s.set[tagBitsStored], s.set[tagHighBit] = short(16), short(8), short(7)
	if got := values(t, opened(t, s), 0); max(got[3]-200, 200-got[3]) > 2 {
		t.Errorf("%v, want about 200", got)
	}
}

func FuzzBaseline(f *testing.F) {
	f.Add(greyJPEG(f, 16, 16, 100))
	f.Add(colourJPEG(f, 16, 16))
	f.Add(jfif(adobe(colourJPEG(f, 16, 16), 0)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		for _, n := range []int{1, 3} {
			l := grey(16, 16, 8)
			l.Samples, l.Photometric = n, "RGB"
			got, err := decodeBaseline(nil, stream, l, FrameLimits{})
			switch {
			case err != nil && gantry.KindOf(err) != gantry.Illegal:
				t.Fatalf("%v", err)
			case err == nil && len(got.values) != 16*16*got.samples:
				t.Fatalf("%d bytes of %d samples", len(got.values), got.samples)
			}
			adobeTransform(stream)
		}
	})
}
