package dicom

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func pngOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 100}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// npyOf is an array of format 1 with a header of its own choice.
func npyOf(dict string, values ...byte) []byte {
	b := append([]byte("\x93NUMPY\x01\x00"), byte(len(dict)), byte(len(dict)>>8))
	return slices.Concat(b, []byte(dict), values)
}

// dict is the header that NumPy writes.
func dict(descr, shape string) string {
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }   \n", descr, shape)
}

// drawn is a 3 x 2 image whose pixels the test chooses.
func drawn[T interface {
	image.Image
	Set(x, y int, c color.Color)
}](m T, at func(x, y int) color.Color) T {
	for y := range 2 {
		for x := range 3 {
			m.Set(x, y, at(x, y))
		}
	}
	return m
}

func TestPictureOf(t *testing.T) {
	t.Parallel()
	area := image.Rect(0, 0, 3, 2)
	n := func(x, y int) uint8 { return uint8(40*x + 100*y) }
	colours := color.Palette{color.NRGBA{1, 2, 3, 255}, color.NRGBA{200, 100, 50, 7}, color.RGBA{9, 8, 7, 255}}
	grey := drawn(image.NewGray(area), func(x, y int) color.Color { return color.Gray{n(x, y)} })
	for name, c := range map[string]struct {
		media string
		b     []byte
		want  Picture
	}{
		"grey": {gantry.MediaPNG, pngOf(t, grey),
			Picture{Samples: 1, Bytes: 1, Values: []byte{0, 40, 80, 100, 140, 180}}},
		"grey 16": {gantry.MediaPNG, pngOf(t, drawn(image.NewGray16(area), func(x, y int) color.Color { return color.Gray16{uint16(n(x, y))<<8 | 5} })),
			Picture{Samples: 1, Bytes: 2, Values: []byte{5, 0, 5, 40, 5, 80, 5, 100, 5, 140, 5, 180}}},
		"rgb": {gantry.MediaPNG, pngOf(t, drawn(image.NewRGBA(area), func(x, y int) color.Color { return color.RGBA{n(x, y), 1, 2, 255} })),
			Picture{Samples: 3, Bytes: 1, Values: []byte{0, 1, 2, 40, 1, 2, 80, 1, 2, 100, 1, 2, 140, 1, 2, 180, 1, 2}}},
		"rgba": {gantry.MediaPNG, pngOf(t, drawn(image.NewNRGBA(area), func(x, y int) color.Color { return color.NRGBA{n(x, y), 1, 2, n(x, y)} })),
			Picture{Samples: 3, Bytes: 1, Values: []byte{0, 1, 2, 40, 1, 2, 80, 1, 2, 100, 1, 2, 140, 1, 2, 180, 1, 2}}},
		"rgb 16": {gantry.MediaPNG, pngOf(t, drawn(image.NewNRGBA64(area), func(x, y int) color.Color { return color.NRGBA64{uint16(n(x, y)), 0x102, 3, 400} })),
			Picture{Samples: 3, Bytes: 2, Values: []byte{0, 0, 2, 1, 3, 0, 40, 0, 2, 1, 3, 0, 80, 0, 2, 1, 3, 0, 100, 0, 2, 1, 3, 0, 140, 0, 2, 1, 3, 0, 180, 0, 2, 1, 3, 0}}},
		"palette": {gantry.MediaPNG, pngOf(t, drawn(image.NewPaletted(area, colours), func(x, y int) color.Color { return colours[x] })),
			Picture{Samples: 3, Bytes: 1, Values: []byte{1, 2, 3, 200, 100, 50, 9, 8, 7, 1, 2, 3, 200, 100, 50, 9, 8, 7}}},
		"jpeg": {gantry.MediaJPEG, jpegOf(t, drawn(image.NewGray(area), func(x, y int) color.Color { return color.Gray{90} })),
			Picture{Samples: 1, Bytes: 1, Values: []byte{90, 90, 90, 90, 90, 90}}},
		"jpeg in colour": {gantry.MediaJPEG, jpegOf(t, drawn(image.NewRGBA(area), func(x, y int) color.Color { return color.RGBA{90, 90, 90, 255} })),
			Picture{Samples: 3, Bytes: 1, Values: bytes.Repeat([]byte{90}, 18)}},
		"float32": {gantry.MediaNPY, npyOf(dict("<f4", "(2, 3)"), make([]byte, 24)...),
			Picture{Samples: 1, Bytes: 4, Float: true, Signed: true, Values: make([]byte, 24)}},
		"uint8": {gantry.MediaNPY, npyOf(dict("|u1", "(2, 3, 1)"), 1, 2, 3, 4, 5, 6),
			Picture{Samples: 1, Bytes: 1, Values: []byte{1, 2, 3, 4, 5, 6}}},
		"uint8 in colour": {gantry.MediaNPY, npyOf(`{"shape":(2,3,3),"descr":"<u1","fortran_order":False}`, make([]byte, 18)...),
			Picture{Samples: 3, Bytes: 1, Values: make([]byte, 18)}},
		"uint16": {gantry.MediaNPY, npyOf(dict("<u2", "(2, 3)"), make([]byte, 12)...),
			Picture{Samples: 1, Bytes: 2, Values: make([]byte, 12)}},
		"int16": {gantry.MediaNPY, npyOf(dict("<i2", "(2, 3)"), make([]byte, 12)...),
			Picture{Samples: 1, Bytes: 2, Signed: true, Values: make([]byte, 12)}},
	} {
		w := c.want
		w.Rows, w.Columns, w.BitsStored, w.Photometric = 2, 3, 8*w.Bytes, monochrome2
		if w.Samples == 3 {
			w.Photometric = "RGB"
		}
		p, err := PictureOf(iotest.OneByteReader(bytes.NewReader(c.b)), c.media, FrameLimits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if fmt.Sprintf("%+v", *p) != fmt.Sprintf("%+v", w) {
			t.Errorf("%s: %+v, want %+v", name, *p, w)
		}
	}
}

// TestPictureOfShape takes a 1 in front of rows and columns for one picture; three at the end are colours.
func TestPictureOfShape(t *testing.T) {
	t.Parallel()
	for shape, want := range map[string][3]int{"(1, 2, 6)": {2, 6, 1}, "(1, 4, 3)": {1, 4, 3}, "(3, 4, 1)": {3, 4, 1}, "(1, 12)": {1, 12, 1}} {
		p, err := PictureOf(bytes.NewReader(npyOf(dict("|u1", shape), make([]byte, 12)...)), gantry.MediaNPY, FrameLimits{})
		if err != nil || [3]int{p.Rows, p.Columns, p.Samples} != want {
			t.Errorf("%s: %+v (%v), want %v", shape, p, err, want)
		}
	}
}

// TestPictureOfGreyAlpha takes grey with alpha, which the library gives as colour, as grey.
func TestPictureOfGreyAlpha(t *testing.T) {
	t.Parallel()
	b := greyAlphaPNG(t)
	p, err := PictureOf(bytes.NewReader(b), gantry.MediaPNG, FrameLimits{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Samples != 1 || p.Bytes != 1 || !bytes.Equal(p.Values, []byte{10, 20}) {
		t.Errorf("%+v", p)
	}
}

// greyAlphaPNG has two pixels, one of them half transparent.
func greyAlphaPNG(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	var k packer
	if err := k.writePNG(&b, &pixmap{rows: 1, columns: 2, samples: 1, depth: 16, pix: []byte{10, 255, 20, 128}}); err != nil {
		t.Fatal(err)
	}
	out := b.Bytes() // two bytes of grey 16 are as many as of grey 8 with alpha
	var head bytes.Buffer
	ihdr := slices.Clone(out[16:29])
	ihdr[8], ihdr[9] = 8, 4
	if err := writeChunk(&head, "IHDR", ihdr); err != nil {
		t.Fatal(err)
	}
	copy(out[8:], head.Bytes())
	return out
}

func TestPictureOfRefuses(t *testing.T) {
	t.Parallel()
	small := FrameLimits{FrameBytes: 64}
	grey := pngOf(t, image.NewGray(image.Rect(0, 0, 3, 2)))
	huge, dense := resized(t, grey, 0xff), resized(t, grey, 0x10)
	photo := jpegOf(t, image.NewGray(image.Rect(0, 0, 8, 8)))
	denseJPEG := slices.Clone(photo)
	copy(denseJPEG[bytes.Index(photo, []byte{0xff, 0xc0})+5:], []byte{0x10, 0, 0x10, 0})
	scans := append(photo[:len(photo)-2], bytes.Repeat([]byte{0xff, markSOS}, maxScans)...)
	for name, c := range map[string]struct {
		media string
		b     []byte
		lim   FrameLimits
		code  gantry.Code
	}{
		"json":           {gantry.MediaJSON, []byte("{}"), small, gantry.CodeUnsupportedFormat},
		"too many bytes": {gantry.MediaPNG, append(slices.Clone(grey), make([]byte, 8192)...), small, gantry.CodeTooLarge},
		"huge png":       {gantry.MediaPNG, huge, FrameLimits{}, gantry.CodeTooLarge},
		"dense png":      {gantry.MediaPNG, dense, FrameLimits{}, gantry.CodeTruncated},
		"dense jpeg":     {gantry.MediaJPEG, denseJPEG, FrameLimits{}, gantry.CodeTruncated},
		"many scans":     {gantry.MediaJPEG, scans, FrameLimits{}, gantry.CodeTooLarge},
		"cut png":        {gantry.MediaPNG, grey[:36], small, gantry.CodeTruncated},
		"no png":         {gantry.MediaPNG, []byte("no picture at all, but a text of some length"), small, gantry.CodeMalformed},
		"no jpeg":        {gantry.MediaJPEG, grey, small, gantry.CodeMalformed},
		"cut jpeg":       {gantry.MediaJPEG, jpegOf(t, image.NewGray(image.Rect(0, 0, 3, 2)))[:300], FrameLimits{}, gantry.CodeTruncated},
		"cmyk": {gantry.MediaJPEG, []byte("\xff\xd8\xff\xc0\x00\x14\x08\x00\x01\x00\x01\x04\x01\x11\x00\x02\x11\x00\x03\x11\x00\x04\x11\x00\xff\xda\x00\x0e\x04\x01\x00\x02\x00\x03\x00\x04\x00\x00\x3f\x00\xff\xd9"),
			FrameLimits{}, gantry.CodeMalformed},
	} {
		p, err := PictureOf(bytes.NewReader(c.b), c.media, c.lim)
		if p != nil || gantry.CodeOf(err) != c.code || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
	own := errors.New("own")
	if _, err := PictureOf(iotest.ErrReader(own), gantry.MediaNPY, small); !errors.Is(err, own) {
		t.Errorf("%v, want the reader's own error", err)
	}
}

// resized is a PNG that says sides of some 256 times n.
func resized(t *testing.T, b []byte, n byte) []byte {
	t.Helper()
	b = slices.Clone(b)
	copy(b[16:], []byte{0, 0, n, 0xff, 0, 0, n, 0xff})
	var head bytes.Buffer
	if err := writeChunk(&head, "IHDR", b[16:29]); err != nil {
		t.Fatal(err)
	}
	copy(b[8:], head.Bytes())
	return b
}

// TestPictureOfArrayRefuses holds arrays that are no picture against their code.
func TestPictureOfArrayRefuses(t *testing.T) {
	t.Parallel()
	small := FrameLimits{FrameBytes: 64}
	grey := pngOf(t, image.NewGray(image.Rect(0, 0, 3, 2)))
	six := []byte{1, 2, 3, 4, 5, 6}
	good := npyOf(dict("|u1", "(2, 3)"), six...)
	long := slices.Clone(good)
	long[8], long[9] = 0xff, 0xff
	for name, c := range map[string]struct {
		b    []byte
		lim  FrameLimits
		code gantry.Code
	}{
		"empty array":        {nil, small, gantry.CodeMalformed},
		"no array":           {grey, small, gantry.CodeMalformed},
		"cut magic":          {good[:8], small, gantry.CodeTruncated},
		"cut header":         {good[:40], small, gantry.CodeTruncated},
		"cut values":         {good[:len(good)-1], small, gantry.CodeTruncated},
		"one value more":     {append(slices.Clone(good), 7), small, gantry.CodeMalformed},
		"long header":        {append(long, make([]byte, 1<<17)...), FrameLimits{}, gantry.CodeTooLarge},
		"format 9":           {append([]byte("\x93NUMPY\x09\x00"), good[8:]...), small, gantry.CodeUnsupportedFormat},
		"objects":            {npyOf(dict("|O", "(2, 3)"), six...), small, gantry.CodeUnsupportedFormat},
		"big endian":         {npyOf(dict(">u2", "(1, 3)"), six...), small, gantry.CodeUnsupportedFormat},
		"one dimension":      {npyOf(dict("|u1", "(6,)"), six...), small, gantry.CodeUnsupportedFormat},
		"two samples":        {npyOf(dict("|u1", "(3, 1, 2)"), six...), small, gantry.CodeUnsupportedFormat},
		"four dimensions":    {npyOf(dict("|u1", "(1, 1, 2, 3)"), six...), small, gantry.CodeMalformed},
		"no extent":          {npyOf(dict("|u1", "(0, 3)")), small, gantry.CodeMalformed},
		"negative":           {npyOf(dict("|u1", "(-2, 3)"), six...), small, gantry.CodeMalformed},
		"larger than limits": {npyOf(dict("<f4", "(999999999, 999999999)")), FrameLimits{}, gantry.CodeTooLarge},
		"by columns": {npyOf("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", six...), small,
			gantry.CodeUnsupportedFormat},
		"twice":    {npyOf("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (2, 3)}", six...), FrameLimits{}, gantry.CodeMalformed},
		"missing":  {npyOf("{'descr': '|u1', 'shape': (2, 3)}", six...), small, gantry.CodeMalformed},
		"more":     {npyOf(dict("|u1", "(2, 3)")+"x", six...), small, gantry.CodeMalformed},
		"other":    {npyOf("{'a': '|u1'}", six...), small, gantry.CodeMalformed},
		"open":     {npyOf("{'descr': '|u1", six...), small, gantry.CodeMalformed},
		"no comma": {npyOf("{'descr': '|u1' 'shape': (2, 3)}", six...), small, gantry.CodeMalformed},
	} {
		p, err := PictureOf(bytes.NewReader(c.b), gantry.MediaNPY, c.lim)
		if p != nil || gantry.CodeOf(err) != c.code || gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
}

// FuzzNPY reads headers of all kinds; what is taken is as large as it says.
func FuzzNPY(f *testing.F) {
	for _, s := range []string{dict("<f4", "(2, 3)"), dict("|u1", "(2, 3, 3)"), `{"shape":(1,2,),"descr":"<u2","fortran_order":True,}`, "{'descr': '|u1', 'shape': ("} {
		f.Add([]byte(s), uint16(24), byte(1))
	}
	f.Fuzz(func(t *testing.T, head []byte, n uint16, version byte) {
		head = head[:min(len(head), 1<<16-1)]
		b := binary.LittleEndian.AppendUint16([]byte{0x93, 'N', 'U', 'M', 'P', 'Y', version, 0}, uint16(len(head)))
		b = append(append(b, head...), make([]byte, n)...)
		p, err := PictureOf(bytes.NewReader(b), gantry.MediaNPY, FrameLimits{FrameBytes: 1 << 20})
		if err != nil {
			if gantry.KindOf(err) != gantry.Illegal || p != nil {
				t.Fatalf("%v", err)
			}
			return
		}
		if p.Rows < 1 || p.Columns < 1 || len(p.Values) != p.Rows*p.Columns*p.Samples*p.Bytes || len(p.Values) > int(n)+len(head) {
			t.Fatalf("%d values of %d x %d x %d x %d", len(p.Values), p.Rows, p.Columns, p.Samples, p.Bytes)
		}
	})
}

// FuzzPictureOf reads pictures of all kinds.
func FuzzPictureOf(f *testing.F) {
	area := image.Rect(0, 0, 3, 2)
	f.Add(pngOf(f, image.NewGray16(area)), byte(0))
	f.Add(pngOf(f, image.NewNRGBA(area)), byte(0))
	f.Add(jpegOf(f, image.NewRGBA(area)), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, kind byte) {
		media := []string{gantry.MediaPNG, gantry.MediaJPEG}[kind&1]
		p, err := PictureOf(bytes.NewReader(b), media, FrameLimits{FrameBytes: 1 << 16})
		if (err == nil) == (p == nil) || err != nil && gantry.KindOf(err) != gantry.Illegal {
			t.Fatalf("%v", err)
		}
		if p != nil && len(p.Values) != p.Rows*p.Columns*p.Samples*p.Bytes {
			t.Fatalf("%d values of %d x %d x %d x %d", len(p.Values), p.Rows, p.Columns, p.Samples, p.Bytes)
		}
	})
}
