package models

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/jpeg"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func jpegOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestJPEG decodes grey and colours to what image/jpeg makes of them.
func TestJPEG(t *testing.T) {
	t.Parallel()
	s := newService(Options{})
	for name, m := range map[string]image.Image{"grey": xray(), "colour": colours(61, 43), "odd": noisy(17, 9, 4)} {
		body := jpegOf(t, m)
		p, err := s.decode(body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := jpeg.Decode(bytes.NewReader(body))
		if err != nil || p.top != 0xff || p.width != want.Bounds().Dx() || p.height != want.Bounds().Dy() || (p.colour != nil) != (name == "colour") {
			t.Fatalf("%s: %d x %d of %d: %v", name, p.width, p.height, p.top, err)
		}
		for i, v := range p.grey {
			g := color.GrayModel.Convert(want.At(i%p.width, i/p.width)).(color.Gray).Y
			if d := int(v) - int(g); d < -1 || d > 1 {
				t.Fatalf("%s: pixel %d is %d, want %d", name, i, v, g)
			}
		}
	}
}

// resized writes another size into a JPEG's frame header.
func resized(body []byte, width, height uint16) []byte {
	b := bytes.Clone(body)
	at := bytes.Index(b, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(b[at+5:], height)
	binary.BigEndian.PutUint16(b[at+7:], width)
	return b
}

func TestJPEGRefusals(t *testing.T) {
	t.Parallel()
	whole := jpegOf(t, noisy(64, 64, 1))
	for name, c := range map[string]struct {
		body []byte
		code gantry.Code
	}{
		"signature alone": {[]byte(jpegMagic), gantry.CodeMalformed},
		"cut":             {whole[:len(whole)/2], gantry.CodeMalformed},
		"largest header":  {resized(whole, 65535, 65535), gantry.CodeTooLarge},
		"promises 48 Mpx": {resized(whole, 8000, 6000), gantry.CodeTruncated},
		"no height":       {resized(whole, 64, 0), gantry.CodeMalformed},
		"arithmetic":      {bytes.Replace(whole, []byte{0xff, 0xc0}, []byte{0xff, 0xc9}, 1), gantry.CodeUnsupportedFormat},
	} {
		s := newService(Options{})
		if _, err := s.decode(c.body); gantry.CodeOf(err) != c.code || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
	s := newService(Options{})
	large := resized(whole, 8000, 6000)
	cost := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.decode(large)
		}
	}).AllocedBytesPerOp()
	if cost > 128<<10 {
		t.Errorf("%d bytes allocated to refuse a header", cost)
	}
}

// TestLeastJPEG holds the bound on pixels of a byte to the emptiest picture there is.
func TestLeastJPEG(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]image.Image{"grey": image.NewGray(image.Rect(0, 0, 2048, 2048)), "colour": image.NewYCbCr(image.Rect(0, 0, 2048, 2048), image.YCbCrSubsampleRatio420)} {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := newService(Options{}).decode(b.Bytes()); err != nil {
			t.Errorf("%s of %d bytes: %v", name, b.Len(), err)
		}
	}
}
