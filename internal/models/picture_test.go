package models

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/draw"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/dicom"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// stored gives a grey image in other layouts of colour, 8 bits deep.
func stored(grey *image.Gray) map[string]image.Image {
	palette := make(color.Palette, 256)
	for i := range palette {
		palette[i] = color.Gray{uint8(i)}
	}
	out := map[string]draw.Image{
		"rgb": image.NewRGBA(grey.Rect), "rgba": image.NewNRGBA(grey.Rect), "palette": image.NewPaletted(grey.Rect, palette),
	}
	all := map[string]image.Image{}
	for name, m := range out {
		draw.Draw(m, grey.Rect, grey, image.Point{}, draw.Src)
		all[name] = m
	}
	return all
}

// TestLayouts decodes every colour type and depth of PNG to the same luminance.
func TestLayouts(t *testing.T) {
	t.Parallel()
	grey := xray()
	s := newService(Options{})
	deep := image.NewGray16(grey.Rect)
	deepRGB := image.NewNRGBA64(grey.Rect)
	draw.Draw(deep, grey.Rect, grey, image.Point{}, draw.Src)
	draw.Draw(deepRGB, grey.Rect, grey, image.Point{}, draw.Src)
	all := stored(grey)
	all["grey"], all["grey16"], all["rgb16"] = grey, deep, deepRGB
	clear := *deepRGB
	clear.Pix = bytes.Clone(deepRGB.Pix)
	clear.Pix[6], clear.Pix[7] = 0x80, 0 // one pixel half transparent: stored with alpha
	all["rgba16"] = &clear
	for name, m := range all {
		p, err := s.decode(encoded(t, m))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		step := (int(p.top) + 1) >> 8 // of 8 bits
		for i, v := range p.grey {
			if int(v)/step != int(grey.Pix[i]) {
				t.Fatalf("%s: pixel %d is %d of %d, want %d of 255", name, i, v, p.top, grey.Pix[i])
			}
		}
		var out bytes.Buffer
		if err := p.encode(&out, &s.encoders); err != nil {
			t.Fatal(err)
		}
		again := decoded(t, out.Bytes())
		for i := range 1000 {
			if x := i * 261 % (512 * 512); again.At(x%512, x/512) != m.At(x%512, x/512) {
				a, _, _, _ := again.At(x%512, x/512).RGBA()
				if b, _, _, _ := m.At(x%512, x/512).RGBA(); a != b {
					t.Fatalf("%s: pixel %d is written as %d, want %d", name, x, a, b)
				}
			}
		}
	}
}

func TestSmallDepths(t *testing.T) {
	t.Parallel()
	// Two rows of four pixels of 1 bit, 0101 and 1111, in a stored deflate block.
	raw := []byte{0x78, 0x01, 0x01, 4, 0, 0xfb, 0xff, 0, 0x50, 0, 0xf0, 0, 0, 0, 0}
	a, b := uint32(1), uint32(0) // Adler-32
	for _, c := range raw[7:11] {
		a = (a + uint32(c)) % 65521
		b = (b + a) % 65521
	}
	binary.BigEndian.PutUint32(raw[11:], b<<16|a)
	body := bare(4, 2, 1, 0, append(chunk("IDAT", raw), chunk("IEND", nil)...)...)
	p, err := newService(Options{}).decode(body)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]uint16{0, 255, 0, 255, 255, 255, 255, 255}, p.grey); d != "" {
		t.Error(d)
	}
}

// TestShortPalette decodes an index that the palette has not; image/png makes it black.
func TestShortPalette(t *testing.T) {
	t.Parallel()
	m := image.NewPaletted(image.Rect(0, 0, 3, 2), color.Palette{color.White, color.Gray{100}})
	m.Pix[4] = 1
	body := encoded(t, m)
	at := bytes.Index(body, []byte("PLTE"))
	short := append(append(bytes.Clone(body[:at-4]), chunk("PLTE", body[at+4:at+7])...), body[at+4+6+4:]...)
	p, err := newService(Options{}).decode(short)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]uint16{255, 255, 255, 255, 0, 255}, p.grey); d != "" {
		t.Error(d)
	}
}

// TestRefusals names what is wrong with each body, before anything is allocated for it.
func TestRefusals(t *testing.T) {
	t.Parallel()
	whole := encoded(t, xray())
	broken := bytes.Clone(whole)
	broken[len(broken)/2] ^= 0xff
	cut := slice()
	for name, c := range map[string]struct {
		body []byte
		code gantry.Code
	}{
		"empty":             {nil, gantry.CodeEmpty},
		"signature alone":   {[]byte(pngMagic), gantry.CodeTruncated},
		"cut in the header": {whole[:28], gantry.CodeTruncated},
		"cut in the pixels": {whole[:len(whole)/2], gantry.CodeMalformed},
		"a flipped byte":    {broken, gantry.CodeMalformed},
		"no pixels":         {bare(8, 8, 8, 0), gantry.CodeMalformed},
		"largest header":    {bare(65535, 65535, 16, 6), gantry.CodeTooLarge},
		"beyond 31 bits":    {bare(1<<31, 1, 8, 0), gantry.CodeMalformed},
		"overflowing":       {bare(1<<31-1, 1<<31-1, 8, 0), gantry.CodeTooLarge},
		"no width":          {bare(0, 8, 8, 0), gantry.CodeMalformed},
		"no header chunk":   {append([]byte(pngMagic), chunk("IDAT", make([]byte, 20))...), gantry.CodeMalformed},
		"promises 64 Mpx":   {bare(8192, 8192, 8, 0), gantry.CodeTruncated},
		"promises colours":  {bare(600, 600, 16, 6, make([]byte, 300)...), gantry.CodeTruncated},
		"odd depth":         {bare(8, 8, 7, 0), gantry.CodeMalformed},
		"dicom cut":         {cut[:len(cut)-1000], gantry.CodeTruncated},
		"dicom preamble":    {append(make([]byte, 128), "DICM"...), ""},
		"dicom compressed":  {bytes.Replace(slice(), []byte("MONOCHROME2"), []byte("RGB        "), 1), gantry.CodeUnsupportedFormat},
		"dicom of no size":  {bytes.Replace(slice(), []byte("\x28\x00\x10\x00US\x02\x00\x80\x00"), []byte("\x28\x00\x10\x00US\x02\x00\x00\x00"), 1), dicom.CodeBadValue},
	} {
		_, err := newService(Options{}).decode(c.body)
		if err == nil || c.code != "" && gantry.CodeOf(err) != c.code || gantry.KindOf(err) == gantry.Transient {
			t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), c.code)
		}
	}
	if _, err := newService(Options{}).decode([]byte("PK\x03\x04 and so on")); err != errNoImage {
		t.Errorf("a zip: %v", err)
	}
}

// TestRefusedBeforeAllocation gives headers that promise much and looks at what they cost.
func TestRefusedBeforeAllocation(t *testing.T) {
	s := newService(Options{})
	small := written(t, func(*dicom.Image) {})
	s.maxPixels = 5
	for name, body := range map[string][]byte{"dicom": small, "png": bare(3, 2, 8, 0)} {
		if _, err := s.decode(body); gantry.CodeOf(err) != gantry.CodeTooLarge {
			t.Errorf("%s of 6 pixels where 5 are allowed: %v", name, err)
		}
	}
	s.maxPixels = MaxPixels
	idat := chunk("IDAT", append([]byte{0x78, 0x01}, make([]byte, 4096)...))
	body := bare(8000, 8000, 16, 6, idat...) // half a gigabyte, if it were believed
	cost := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.decode(body)
		}
	}).AllocedBytesPerOp()
	if cost > 64<<10 {
		t.Errorf("%d bytes allocated to refuse a header", cost)
	}
}

func TestDisplay(t *testing.T) {
	t.Parallel()
	s := newService(Options{})
	values := func(body []byte) []uint16 {
		t.Helper()
		p, err := s.decode(body)
		if err != nil {
			t.Fatal(err)
		}
		if p.top != 0xffff || p.width != 3 || p.height != 2 {
			t.Errorf("%d x %d of %d", p.width, p.height, p.top)
		}
		return p.grey
	}
	// Values are -1024, -200, 0, 40, 240, 3071. The window 40/401 runs from -160.5 to 239.5.
	soft := written(t, func(*dicom.Image) {})
	want := []uint16{0, 0, 26296, 32849, 65535, 65535}
	if d := cmp.Diff(want, values(soft)); d != "" {
		t.Error("window:", d)
	}
	for i := range want {
		want[i] = 0xffff - want[i]
	}
	if d := cmp.Diff(want, values(bytes.Replace(soft, []byte("MONOCHROME2"), []byte("MONOCHROME1"), 1))); d != "" {
		t.Error("inverted:", d)
	}
	all := written(t, func(m *dicom.Image) { m.WindowWidth = 0 })
	if d := cmp.Diff([]uint16{0, 13187, 16388, 17028, 20229, 65535}, values(all)); d != "" {
		t.Error("whole range:", d)
	}
	step := written(t, func(m *dicom.Image) { m.WindowWidth = 1 })
	if d := cmp.Diff([]uint16{0, 0, 0, 65535, 65535, 65535}, values(step)); d != "" {
		t.Error("window of one value:", d)
	}
	signed := written(t, func(m *dicom.Image) {
		m.Signed, m.RescaleSlope, m.RescaleIntercept, m.WindowWidth = true, -1, 0, 0
		m.Samples = []uint16{0x8000, 0xffff, 0, 1, 2, 0x7fff}
	})
	if d := cmp.Diff([]uint16{65535, 32768, 32767, 32766, 32765, 0}, values(signed)); d != "" {
		t.Error("signed, slope below 0:", d)
	}
	flat := written(t, func(m *dicom.Image) { m.Samples, m.WindowWidth = make([]uint16, 6), 0 })
	if d := cmp.Diff(make([]uint16, 6), values(flat)); d != "" {
		t.Error("one value:", d)
	}
}

// TestShallowDICOM checks the table for samples of 8 bits and fewer, which fit 8 bits of display.
func TestShallowDICOM(t *testing.T) {
	t.Parallel()
	px := &dicom.Pixels{Rows: 1, Columns: 3, BitsStored: 4, Samples: []uint16{2, 5, 12}, Photometric: "MONOCHROME2", RescaleSlope: 1}
	want := []uint16{0, 0, 0, 26, 51, 77, 102, 128, 153, 179, 204, 230, 255, 255, 255, 255}
	if d := cmp.Diff(want, displayTable(px, 0xff)); d != "" {
		t.Error(d)
	}
	px.Window, px.WindowCenter, px.WindowWidth = true, 8, 0.5 // narrower than the standard allows: as if there were none
	if d := cmp.Diff(want, displayTable(px, 0xff)); d != "" {
		t.Error(d)
	}
}
