package dicom

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// rendered gives the bytes of frame 0.
func rendered(t *testing.T, f *Frames, as gantry.Rendering, window string) []byte {
	t.Helper()
	w, err := ParseWindow(window)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := f.Render(context.Background(), &out, 0, as, w); err != nil {
		t.Fatalf("%v (%s)", err, gantry.CodeOf(err))
	}
	return out.Bytes()
}

// TestStored: a frame can be put back from its stored PNG, whatever the file says about showing it.
func TestStored(t *testing.T) {
	t.Parallel()
	shown := map[uint32]val{tagSlope: ds("3"), tagCenter: ds("7"), tagWidth: ds("2"), tagPhotometric: str("CS", monochrome1)}
	signedToo := func(stored, high uint16) map[uint32]val {
		m := signed(stored, high)
		m[tagSlope], m[tagCenter], m[tagWidth] = ds("3"), ds("7"), ds("2")
		return m
	}
	for name, c := range map[string]struct {
		file   spec
		offset int
	}{
		"8 bit":            {image2(8, 1, []byte{0, 1, 200, 255}, shown), 0},
		"16 bit":           {image2(16, 1, px16(0, 1, 300, 65535), shown), 0},
		"8 bit, signed":    {image2(8, 1, []byte{0, 1, 200, 255}, signedToo(8, 7)), 128},
		"16 bit, signed":   {image2(16, 1, px16(0, 1, 0x8000, 0xffff), signedToo(16, 15)), 1 << 15},
		"12 bit, signed":   {image2(16, 1, px16(0, 1, 0x800, 0xfff), signedToo(12, 11)), 1 << 11},
		"bits":             {image2(1, 1, []byte{0b0110}, nil), 0},
		"palette":          {paletted(8, nil), 0},
		"RGB":              {image2(8, 1, bytesTo(12), colour("RGB", 1)), 0},
		"RGB of 16":        {image2(16, 1, bytesTo(24), colour("RGB", 0)), 0},
		"YBR":              {image2(8, 1, bytesTo(12), colour("YBR_FULL", 0)), 0},
		"YBR, 4:2:2":       {image2(8, 1, bytesTo(8), colour("YBR_FULL_422", 0)), 0},
		"unknown colour":   {image2(8, 1, bytesTo(12), colour("HSV", 0)), 0},
		"RLE, as any":      {encapsulated(syntaxRLE, 1, nil, rleFrame([]byte{1, 2, 2, 3})), 0},
		"big endian words": {big(image2(16, 1, px16(0, 1, 300, 65535), nil)), 0},
	} {
		f := opened(t, c.file)
		m, err := png.Decode(bytes.NewReader(rendered(t, f, gantry.RenderPNG, "stored")))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []int
		for i := range 4 {
			switch m := m.(type) {
			case *image.Gray:
				got = append(got, int(m.Pix[i])-c.offset)
			case *image.Gray16:
				got = append(got, int(m.Gray16At(i%2, i/2).Y)-c.offset)
			case *image.RGBA:
				got = append(got, int(m.Pix[4*i]), int(m.Pix[4*i+1]), int(m.Pix[4*i+2]))
			case *image.RGBA64:
				at := m.RGBA64At(i%2, i/2)
				got = append(got, int(at.R), int(at.G), int(at.B))
			}
		}
		if want := values(t, f, 0); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// paletted is an image of the indices 0, 9, 10 and 12 whose palette begins at 9. Its colours are
// 10, 20, 30; 11, 21, 31 and so on, or 256 times as much in 16 bits.
func paletted(bits int, change map[uint32]val) spec {
	m := map[uint32]val{tagPhotometric: str("CS", paletteColor)}
	for c := range uint32(3) {
		var entries []byte
		for i := range 3 {
			v := int(10*(c+1)) + i
			if bits == 16 {
				entries = append(entries, 0xee)
			}
			entries = append(entries, byte(v))
		}
		if bits == 8 {
			entries = append(entries, 0)
		}
		m[tagPaletteShape+c] = val{"US", px16(3, 9, bits)}
		m[tagPaletteData+c] = val{"OW", entries}
	}
	for tag, v := range change {
		m[tag] = v
	}
	return image2(8, 1, []byte{0, 9, 10, 12}, m)
}

func TestColours(t *testing.T) {
	t.Parallel()
	want := []byte{10, 20, 30, 10, 20, 30, 11, 21, 31, 12, 22, 32}
	words := map[uint32]val{}
	for c := range 3 {
		words[tagPaletteData+uint32(c)] = val{"OW", px16(10*(c+1), 10*(c+1)+1, 10*(c+1)+2)}
	}
	for name, c := range map[string]struct {
		file spec
		want []byte
	}{
		"palette of 8":               {paletted(8, nil), want},
		"palette of 8 in words":      {paletted(8, words), want},
		"palette of 16":              {paletted(16, nil), want},
		"palette of 16, big endian":  {big(paletted(16, nil)), want},
		"palette of 8, big endian":   {big(paletted(8, nil)), want},
		"RGB":                        {image2(8, 1, bytesTo(12), colour("RGB", 0)), bytesTo(12)},
		"RGB of 16":                  {image2(16, 1, px16(0, 32767, 65535, 0, 0, 0, 0, 0, 0, 257, 514, 771), colour("RGB", 0)), []byte{0, 127, 255, 0, 0, 0, 0, 0, 0, 1, 2, 3}},
		"YBR_FULL, grey, red, black": {image2(8, 1, []byte{128, 128, 128, 76, 85, 255, 0, 128, 128, 255, 128, 128}, colour("YBR_FULL", 0)), []byte{128, 128, 128, 254, 0, 0, 0, 0, 0, 255, 255, 255}},
	} {
		f := opened(t, c.file)
		if got := samples8(renderPNG(t, f, 0, "full")); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		m, err := jpeg.Decode(bytes.NewReader(rendered(t, f, gantry.RenderJPEG, "file")))
		if err != nil || m.Bounds() != image.Rect(0, 0, 2, 2) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}

func TestPalettesRefused(t *testing.T) {
	t.Parallel()
	parts := func(bits int, words ...int) map[uint32]val {
		m := map[uint32]val{}
		for c := range uint32(3) {
			m[tagPaletteShape+c] = val{"US", px16(3, 9, bits)}
			m[tagPaletteSegments+c] = val{"OW", px16(words...)}
		}
		return m
	}
	inParts := func(m map[uint32]val) spec {
		return paletted(8, m).without(tagPaletteData).without(tagPaletteData + 1).without(tagPaletteData + 2)
	}
	for name, c := range map[string]struct {
		file spec
		code gantry.Code
	}{
		"no shape":       {paletted(8, map[uint32]val{tagPaletteShape: {"US", px16(3)}}), CodeBadValue},
		"two entries":    {paletted(8, map[uint32]val{tagPaletteShape + 1: {"US", px16(2, 9, 8)}}), CodeBadValue},
		"7 bits":         {paletted(8, map[uint32]val{tagPaletteShape + 1: {"US", px16(3, 9, 7)}}), CodeBadValue},
		"17 bits":        {paletted(8, map[uint32]val{tagPaletteShape + 1: {"US", px16(3, 9, 17)}}), CodeBadValue},
		"65,536 entries": {paletted(8, map[uint32]val{tagPaletteShape: {"US", px16(0, 9, 8)}}), CodeBadValue},
		"16 bits in 3":   {paletted(8, map[uint32]val{tagPaletteShape: {"US", px16(3, 9, 16)}}), CodeBadValue},
		"no green":       {paletted(8, nil).without(tagPaletteData + 1), CodeBadValue},
		"segments of 8":  {inParts(parts(8, 0, 3, 1, 2, 3)), gantry.CodeUnsupportedFormat},
		"segments end":   {inParts(parts(16, 0, 3, 1, 2)), CodeBadValue},
	} {
		refusedFrames(t, name, c.file, FrameLimits{}, c.code)
	}
	f := opened(t, inParts(parts(16, 0, 2, 10<<8, 11<<8, 1, 1, 12<<8)))
	if got := samples8(renderPNG(t, f, 0, "file"))[9:]; !slices.Equal(got, []byte{12, 12, 12}) {
		t.Errorf("in segments: %v", got)
	}
}

func TestSegments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		words []uint16
		n     int
		want  []uint16 // nil: refused
	}{
		"plain":               {[]uint16{0, 3, 7, 8, 9}, 3, []uint16{7, 8, 9}},
		"line":                {[]uint16{0, 1, 0, 1, 4, 100}, 5, []uint16{0, 25, 50, 75, 100}},
		"falling line":        {[]uint16{0, 1, 9, 1, 2, 0}, 3, []uint16{9, 4, 0}},
		"again":               {[]uint16{0, 1, 7, 0, 1, 8, 2, 2, 0, 0}, 4, []uint16{7, 8, 7, 8}},
		"again, from a line":  {[]uint16{0, 1, 4, 1, 1, 8, 2, 1, 6, 0}, 3, []uint16{4, 8, 8}},
		"too few":             {[]uint16{0, 1, 7}, 2, nil},
		"too many":            {[]uint16{0, 3, 7, 8, 9}, 2, nil},
		"line from nothing":   {[]uint16{1, 3, 7}, 3, nil},
		"line too long":       {[]uint16{0, 1, 0, 1, 65535, 9}, 3, nil},
		"unknown kind":        {[]uint16{3, 1, 7}, 1, nil},
		"copies itself":       {[]uint16{2, 1, 0, 0}, 1, nil},
		"copies a copy":       {[]uint16{0, 1, 7, 2, 1, 0, 0, 2, 1, 6, 0}, 3, nil},
		"copies from far":     {[]uint16{0, 1, 7, 2, 1, 0xffff, 0xffff}, 3, nil},
		"copies nothing":      {[]uint16{0, 0, 0, 1, 7, 2, 65535, 0, 0}, 3, nil},
		"nothing":             {nil, 1, nil},
		"empty segments only": {make([]uint16, 4000), 1, nil},
	} {
		got, err := segmented(c.words, c.n)
		if c.want == nil && gantry.CodeOf(err) != CodeBadValue || c.want != nil && (err != nil || !slices.Equal(got, c.want)) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

// readNPY takes an array apart, as NumPy's format 1.0 says.
func readNPY(t *testing.T, b []byte) (shape string, v []float32) {
	t.Helper()
	n := int(binary.LittleEndian.Uint16(b[8:]))
	head := string(b[10 : 10+n])
	if string(b[:8]) != "\x93NUMPY\x01\x00" || (10+n)%64 != 0 || !strings.HasSuffix(head, "\n") {
		t.Fatalf("no NPY: %q", b[:min(len(b), 80)])
	}
	shape, ok := strings.CutPrefix(head, "{'descr': '<f4', 'fortran_order': False, 'shape': (")
	shape, _, end := strings.Cut(shape, "), }")
	if !ok || !end {
		t.Fatalf("head %q", head)
	}
	for b = b[10+n:]; len(b) > 0; b = b[4:] {
		v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return shape, v
}

func TestNPY(t *testing.T) {
	t.Parallel()
	hu := signed(12, 11)
	hu[tagSlope], hu[tagIntercept], hu[tagPhotometric] = ds("0.5"), ds("-1000"), str("CS", monochrome1)
	modality := image2(16, 1, px16(0, 1, 2, 9), map[uint32]val{tagSlope: ds("7")})
	modality.raw = map[uint32][]byte{tagModalityLUT: lutItem(tagModalityLUT, 1, 16, 0, 600, 1000)}
	for name, c := range map[string]struct {
		file  spec
		shape string
		want  []float32
	}{
		"rescaled":  {image2(16, 1, px16(0, 1, 0x7ff, 0xfff), hu), "2, 2", []float32{-1000, -999.5, 23.5, -1000.5}},
		"by table":  {modality, "2, 2", []float32{0, 0, 600, 1000}},
		"not 2 x 2": {image2(8, 1, bytesTo(4), map[uint32]val{tagRows: short(1), tagColumns: short(4)}), "1, 4", []float32{1, 2, 3, 4}},
		"indices":   {paletted(8, nil), "2, 2", []float32{0, 9, 10, 12}},
		"bits":      {image2(1, 1, []byte{0b0110}, nil), "2, 2", []float32{0, 1, 1, 0}},
		"RGB":       {image2(8, 1, bytesTo(12), colour("RGB", 1)), "2, 2, 3", []float32{1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12}},
		"RGB of 16": {image2(16, 1, px16(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 65535), colour("RGB", 0)), "2, 2, 3", []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 65535}},
		"YBR":       {image2(8, 1, []byte{128, 128, 128, 76, 85, 255, 0, 128, 128, 255, 128, 128}, colour("YBR_FULL", 0)), "2, 2, 3", []float32{128, 128, 128, 254, 0, 0, 0, 0, 0, 255, 255, 255}},
	} {
		shape, got := readNPY(t, rendered(t, opened(t, c.file), gantry.RenderNPY, "full"))
		if shape != c.shape || !slices.Equal(got, c.want) {
			t.Errorf("%s: (%s) %v, want (%s) %v", name, shape, got, c.shape, c.want)
		}
	}
}

// TestJPEG has the quality that it should: a step of one in 255 stays nearly that.
func TestJPEG(t *testing.T) {
	t.Parallel()
	px := make([]byte, 64*64)
	for i := range px {
		px[i] = byte(i%64*2 + i/64*2)
	}
	f := opened(t, image2(8, 1, px, map[uint32]val{tagRows: short(64), tagColumns: short(64)}))
	m, err := jpeg.Decode(bytes.NewReader(rendered(t, f, gantry.RenderJPEG, "file")))
	if err != nil {
		t.Fatal(err)
	}
	if most, mean := difference(samples8(m), px); most > 4 || mean > 1 {
		t.Errorf("differs by up to %d, %.2f on average", most, mean)
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	float := image2(32, 1, nil, map[uint32]val{tagFloatPixels: {"OF", make([]byte, 16)}}).without(tagPixelData)
	for name, c := range map[string]struct {
		file   spec
		as     gantry.Rendering
		window string
	}{
		"stored as JPEG":   {image2(8, 1, bytesTo(4), nil), gantry.RenderJPEG, "stored"},
		"stored 32 bit":    {image2(32, 1, bytesTo(16), nil), gantry.RenderPNG, "stored"},
		"stored floats":    {float, gantry.RenderPNG, "stored"},
		"unknown colour":   {image2(8, 1, bytesTo(12), colour("HSV", 0)), gantry.RenderPNG, "file"},
		"unknown grey":     {image2(8, 1, bytesTo(4), map[uint32]val{tagPhotometric: str("CS", "MONOCHROME3")}), gantry.RenderPNG, "file"},
		"YBR of 16":        {image2(16, 1, bytesTo(24), colour("YBR_FULL", 0)), gantry.RenderJPEG, "file"},
		"array of unknown": {image2(8, 1, bytesTo(12), colour("HSV", 0)), gantry.RenderNPY, "file"},
	} {
		w, err := ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err = opened(t, c.file).Render(context.Background(), &out, 0, c.as, w)
		if gantry.CodeOf(err) != gantry.CodeUnsupportedFormat || gantry.KindOf(err) != gantry.Illegal || out.Len() > 0 {
			t.Errorf("%s: %v, after %d bytes", name, err, out.Len())
		}
	}
}

// fullDisk is a writer that takes n bytes.
type fullDisk int

func (d *fullDisk) Write(p []byte) (int, error) {
	if *d -= fullDisk(len(p)); *d < 0 {
		return 0, errFull
	}
	return len(p), nil
}

var errFull = errors.New("no space")

// TestRenderWriter passes on what the writer says, wherever it stops.
func TestRenderWriter(t *testing.T) {
	t.Parallel()
	f := opened(t, image2(8, 1, bytesTo(4), nil))
	for _, as := range []gantry.Rendering{gantry.RenderPNG, gantry.RenderJPEG, gantry.RenderNPY} {
		whole := len(rendered(t, f, as, "file"))
		for n := range whole {
			d := fullDisk(n)
			if err := f.Render(context.Background(), &d, 0, as, Window{}); !errors.Is(err, errFull) {
				t.Errorf("%s, %d of %d bytes: %v", as, n, whole, err)
			}
		}
	}
}

// TestPNGSizes writes pictures of odd sizes, which the standard library must read as they were.
func TestPNGSizes(t *testing.T) {
	t.Parallel()
	for _, size := range [][2]int{{1, 1}, {1, 300}, {300, 1}, {3, 5}, {257, 129}} {
		px := make([]byte, size[0]*size[1])
		for i := range px {
			px[i] = byte(i * i >> 3)
		}
		f := opened(t, image2(8, 1, px, map[uint32]val{tagRows: short(uint16(size[0])), tagColumns: short(uint16(size[1]))}))
		if got := samples8(renderPNG(t, f, 0, "file")); !bytes.Equal(got, px) {
			t.Error(fmt.Sprint(size), "is another picture")
		}
	}
}
