package dicom

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// opened opens a generated file.
func opened(t testing.TB, s spec) *Frames {
	t.Helper()
	b := s.bytes()
	f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
	if err != nil {
		t.Fatalf("%v (%s)", err, gantry.CodeOf(err))
	}
	return f
}

// refusedFrames wants a file's frames refused: when it is opened, or when its first frame is decoded.
func refusedFrames(t *testing.T, name string, s spec, lim FrameLimits, code gantry.Code) {
	t.Helper()
	b := s.bytes()
	f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), lim)
	if err == nil {
		_, err = f.Picture(context.Background(), 0)
	}
	if gantry.CodeOf(err) != code || gantry.KindOf(err) != gantry.Illegal {
		t.Errorf("%s: %v (%s), want %s", name, err, gantry.CodeOf(err), code)
	}
}

// values are those of frame i as numbers.
func values(t testing.TB, f *Frames, i int) []int {
	t.Helper()
	p, err := f.Picture(context.Background(), i)
	if err != nil {
		t.Fatalf("frame %d: %v (%s)", i, err, gantry.CodeOf(err))
	}
	var out []int
	for k := range p.count() {
		out = append(out, int(p.stored(k)))
	}
	return out
}

// image2 is an image of 2 rows and 2 columns with the given native pixels; more goes over it.
func image2(bits, frames int, px []byte, more map[uint32]val) spec {
	v := "OW"
	if bits == 8 {
		v = "OB"
	}
	s := spec{set: map[uint32]val{tagRows: short(2), tagColumns: short(2), tagBits: short(uint16(bits)),
		tagBitsStored: short(uint16(bits)), tagHighBit: short(uint16(bits - 1)), tagPixelData: {v, px}}}
	if frames > 1 {
		s.set[tagFrames] = str("IS", string(rune('0'+frames)))
	}
	for t, m := range more {
		s.set[t] = m
	}
	return s
}

func colour(photometric string, planar uint16) map[uint32]val {
	return map[uint32]val{tagSamples: short(3), tagPhotometric: str("CS", photometric), tagPlanar: short(planar)}
}

func signed(stored, high uint16) map[uint32]val {
	return map[uint32]val{tagSigned: short(1), tagBitsStored: short(stored), tagHighBit: short(high)}
}

func big(s spec) spec { s.ts = syntaxBig; return s }

func bytesTo(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i + 1)
	}
	return b
}

// TestNativeFrames reads the last frame of every native layout.
func TestNativeFrames(t *testing.T) {
	t.Parallel()
	words := []byte{0xff, 0x0f, 0x00, 0x08, 0xff, 0xf7, 0x01, 0x00} // 12 bits, with others above
	for name, c := range map[string]struct {
		file spec
		want []int
	}{
		"8 bit":               {image2(8, 2, bytesTo(8), nil), []int{5, 6, 7, 8}},
		"8 bit signed":        {image2(8, 1, []byte{0, 127, 128, 255}, signed(8, 7)), []int{0, 127, -128, -1}},
		"7 bit of 8, signed":  {image2(8, 1, []byte{0, 63, 64, 0xff}, signed(7, 6)), []int{0, 63, -64, -1}},
		"4 high bits of 8":    {image2(8, 1, []byte{0x1f, 0x2f, 0x3f, 0xf0}, map[uint32]val{tagBitsStored: short(4), tagHighBit: short(7)}), []int{1, 2, 3, 15}},
		"16 bit":              {image2(16, 1, []byte{1, 2, 3, 4, 5, 6, 255, 255}, nil), []int{0x201, 0x403, 0x605, 0xffff}},
		"12 of 16":            {image2(16, 1, words, map[uint32]val{tagBitsStored: short(12), tagHighBit: short(11)}), []int{0xfff, 0x800, 0x7ff, 1}},
		"12 of 16, signed":    {image2(16, 1, words, signed(12, 11)), []int{-1, -2048, 2047, 1}},
		"12 high of 16":       {image2(16, 1, words, map[uint32]val{tagBitsStored: short(12), tagHighBit: short(15)}), []int{0xff, 0x80, 0xf7f, 0}},
		"32 bit":              {image2(32, 1, []byte{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 255, 255, 255, 255}, nil), []int{1, 256, 1 << 24, 1<<32 - 1}},
		"24 of 32, signed":    {image2(32, 1, []byte{1, 0, 0, 9, 0, 0, 0x80, 9, 255, 255, 255, 0, 0, 1, 0, 0}, signed(24, 23)), []int{1, -1 << 23, -1, 256}},
		"16 bit, big":         {big(image2(16, 2, bytesTo(16), nil)), []int{0xa09, 0xc0b, 0xe0d, 0x100f}},
		"8 bit, big, OB":      {big(image2(8, 2, bytesTo(8), nil)), []int{5, 6, 7, 8}},
		"8 bit, big, OW":      {big(image2(8, 2, bytesTo(8), map[uint32]val{tagPixelData: {"OW", bytesTo(8)}})), []int{5, 6, 7, 8}},
		"8 bit, big, OW, odd": {big(image2(8, 2, nil, map[uint32]val{tagColumns: short(1), tagRows: short(3), tagPixelData: {"OW", bytesTo(6)}})), []int{4, 5, 6}},
		"bits":                {image2(1, 3, []byte{0b01010110, 0b1011}, nil), []int{1, 1, 0, 1}},
		"bits, unaligned":     {image2(1, 3, []byte{0b11010010, 0b01110110}, map[uint32]val{tagRows: short(1), tagColumns: short(5)}), []int{1, 0, 1, 1, 1}},
		"RGB":                 {image2(8, 1, bytesTo(12), colour("RGB", 0)), []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
		"RGB by plane":        {image2(8, 1, bytesTo(12), colour("RGB", 1)), []int{1, 5, 9, 2, 6, 10, 3, 7, 11, 4, 8, 12}},
		"RGB of 16 by plane": {image2(16, 1, bytesTo(24), colour("RGB", 1)), []int{0x201, 0xa09, 0x1211, 0x403, 0xc0b, 0x1413,
			0x605, 0xe0d, 0x1615, 0x807, 0x100f, 0x1817}},
		"4:2:2":    {image2(8, 1, bytesTo(8), colour("YBR_FULL_422", 0)), []int{1, 3, 4, 2, 3, 4, 5, 7, 8, 6, 7, 8}},
		"deflated": {spec{ts: syntaxDeflated, set: image2(16, 2, bytesTo(16), nil).set}, []int{0xa09, 0xc0b, 0xe0d, 0x100f}},
		"implicit": {spec{ts: syntaxImplicit, set: image2(16, 2, bytesTo(16), nil).set}, []int{0xa09, 0xc0b, 0xe0d, 0x100f}},
	} {
		f := opened(t, c.file)
		if got := values(t, f, f.Len()-1); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestFloatFrames(t *testing.T) {
	t.Parallel()
	px := binary.LittleEndian.AppendUint32(make([]byte, 12), 0x3fc00000) // 1.5
	f := opened(t, image2(32, 1, nil, map[uint32]val{tagFloatPixels: {"OF", px}}).without(tagPixelData))
	p, err := f.Picture(context.Background(), 0)
	if err != nil || !p.Float || p.stored(3) != 1.5 {
		t.Errorf("%+v, %v", p, err)
	}
	px = binary.LittleEndian.AppendUint64(make([]byte, 24), 0xbff8000000000000) // -1.5
	f = opened(t, image2(64, 1, nil, map[uint32]val{tagDoublePixel: {"OD", px}}).without(tagPixelData))
	if p, err = f.Picture(context.Background(), 0); err != nil || p.stored(3) != -1.5 {
		t.Errorf("%+v, %v", p, err)
	}
	if got := samples8(renderPNG(t, f, 0, "full")); !slices.Equal(got, []byte{255, 255, 255, 0}) {
		t.Errorf("shown as %v", got)
	}
}

// without is the file without an element.
func (s spec) without(tag uint32) spec {
	s.drop = append(slices.Clone(s.drop), tag)
	delete(s.set, tag)
	return s
}

func TestLayout(t *testing.T) {
	t.Parallel()
	f := opened(t, image2(16, 2, bytesTo(16), map[uint32]val{tagLossy: str("CS", "01"), tagSigned: short(1), tagBitsStored: short(12), tagHighBit: short(11)}))
	want := Layout{Rows: 2, Columns: 2, Frames: 2, Samples: 1, BitsAllocated: 16, BitsStored: 12, HighBit: 11, Signed: true,
		Photometric: "MONOCHROME2", TransferSyntax: syntaxExplicit, Lossy: true}
	if f.Layout() != want || f.Len() != 2 {
		t.Errorf("%+v of %d frames", f.Layout(), f.Len())
	}
	for uid, lossy := range map[string]bool{tsJPEG: true, tsLS: false, tsJ2K: false, tsRLE: false, tsMPEG: true,
		"1.2.840.10008.1.2.4.91": true, "1.2.840.10008.1.2.4.70": false, "1.2.840.10008.1.2.4.81": true} {
		if lossySyntax(uid) != lossy {
			t.Errorf("%s lossy: %v", uid, !lossy)
		}
	}
}

func TestFramesRefuse(t *testing.T) {
	t.Parallel()
	ok := func() spec { return image2(16, 2, bytesTo(16), nil) }
	more := func(m map[uint32]val) spec { return image2(8, 1, bytesTo(16), m) }
	for name, c := range map[string]struct {
		file spec
		lim  FrameLimits
		code gantry.Code
	}{
		"no DICOM syntax":     {spec{ts: "1.2.3"}, FrameLimits{}, CodeUnsupportedSyntax},
		"report":              {spec{drop: []uint32{tagPixelData, tagRows}, set: map[uint32]val{tagClass: str("UI", "1.2.3")}}, FrameLimits{}, CodeNoPixelData},
		"JPEG 2000":           {goods()["j2k"], FrameLimits{}, CodeUnsupportedSyntax},
		"MPEG":                {goods()["mpeg"], FrameLimits{}, CodeUnsupportedSyntax},
		"JPEG XL":             {coded(tsXL, encap(nil, []byte("stream"))), FrameLimits{}, CodeUnsupportedSyntax},
		"two frames":          {ok(), FrameLimits{Frames: 1}, gantry.CodeTooLarge},
		"frame of 8 bytes":    {ok(), FrameLimits{FrameBytes: 7}, gantry.CodeTooLarge},
		"16 bytes in all":     {ok(), FrameLimits{TotalBytes: 15}, gantry.CodeTooLarge},
		"inflated":            {spec{ts: syntaxDeflated}, FrameLimits{InflatedBytes: 100}, CodeArchiveBomb},
		"stream over":         {coded(tsRLE, encap(nil, rleStream(1, 64))), FrameLimits{FrameBytes: 20}, gantry.CodeTooLarge},
		"two samples":         {more(map[uint32]val{tagSamples: short(2)}), FrameLimits{}, gantry.CodeUnsupportedFormat},
		"24 bit":              {image2(24, 1, bytesTo(12), nil), FrameLimits{}, gantry.CodeUnsupportedFormat},
		"64 bit":              {image2(64, 1, bytesTo(32), nil), FrameLimits{}, gantry.CodeUnsupportedFormat},
		"RGB of 32 bit":       {image2(32, 1, bytesTo(48), colour("RGB", 0)), FrameLimits{}, gantry.CodeUnsupportedFormat},
		"9 of 8 bits":         {more(map[uint32]val{tagBitsStored: short(9)}), FrameLimits{}, CodeBadValue},
		"0 bits":              {more(map[uint32]val{tagBitsStored: short(0)}), FrameLimits{}, CodeBadValue},
		"high bit below":      {more(map[uint32]val{tagHighBit: short(5)}), FrameLimits{}, CodeBadValue},
		"high bit above":      {more(map[uint32]val{tagHighBit: short(8)}), FrameLimits{}, CodeBadValue},
		"4:2:0":               {image2(8, 1, bytesTo(12), colour("YBR_PARTIAL_420", 0)), FrameLimits{}, gantry.CodeUnsupportedFormat},
		"4:2:2, odd":          {image2(8, 1, bytesTo(12), map[uint32]val{tagSamples: short(3), tagPhotometric: str("CS", "YBR_FULL_422"), tagColumns: short(1)}), FrameLimits{}, gantry.CodeUnsupportedFormat},
		"float of 16 bit":     {spec{set: map[uint32]val{tagFloatPixels: {"OF", make([]byte, 64)}}, drop: []uint32{tagPixelData}}, FrameLimits{}, CodeBadValue},
		"slope":               {more(map[uint32]val{tagSlope: str("DS", "one")}), FrameLimits{}, CodeBadValue},
		"intercept":           {more(map[uint32]val{tagIntercept: str("DS", "1e999")}), FrameLimits{}, CodeBadValue},
		"center":              {more(map[uint32]val{tagCenter: str("DS", "NaN")}), FrameLimits{}, CodeBadValue},
		"width":               {more(map[uint32]val{tagWidth: str("DS", "-")}), FrameLimits{}, CodeBadValue},
		"function":            {more(map[uint32]val{tagFunction: str("CS", "CUBIC")}), FrameLimits{}, CodeBadValue},
		"palette missing":     {more(map[uint32]val{tagPhotometric: str("CS", "PALETTE COLOR")}), FrameLimits{}, CodeBadValue},
		"too few pixels, cut": {with(tagRows, short(5)), FrameLimits{}, CodePixelSize},
	} {
		refusedFrames(t, name, c.file, c.lim, c.code)
	}
}

// TestFramesContext shows what is not the file's fault.
func TestFramesContext(t *testing.T) {
	t.Parallel()
	f := opened(t, image2(16, 2, bytesTo(16), nil))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Picture(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := f.Render(ctx, io.Discard, 0, gantry.RenderPNG, Window{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	for _, i := range []int{-1, 2} {
		if _, err := f.Picture(context.Background(), i); gantry.CodeOf(err) != CodeBadValue || gantry.KindOf(err) != gantry.Permanent {
			t.Errorf("frame %d: %v", i, err)
		}
	}
	if err := f.Render(context.Background(), io.Discard, 0, "tiff", Window{}); gantry.KindOf(err) != gantry.Permanent {
		t.Errorf("tiff: %v", err)
	}
	f.at = bytes.NewReader(nil)
	if _, err := f.Picture(context.Background(), 0); !errors.Is(err, io.EOF) || gantry.KindOf(err) != gantry.Transient {
		t.Errorf("a file that went away: %v", err)
	}
}

// counting counts the bytes that are read.
type counting struct {
	r    *bytes.Reader
	mu   sync.Mutex
	read int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.mu.Lock()
	c.read += int64(n)
	c.mu.Unlock()
	return n, err
}

// TestFramesRead shows that opening reads no pixels, and a frame only its own; and, as a control,
// that a scan reads all.
func TestFramesRead(t *testing.T) {
	t.Parallel()
	file := slices512(8)
	c := &counting{r: bytes.NewReader(file)}
	f, err := OpenFrames(c, int64(len(file)), FrameLimits{})
	if err != nil {
		t.Fatal(err)
	}
	if c.read > 3*bufferSize {
		t.Errorf("opening read %d of %d bytes", c.read, len(file))
	}
	c.read = 0
	if _, err := f.Picture(context.Background(), 7); err != nil || c.read != 512*512*2 {
		t.Errorf("a frame read %d bytes: %v", c.read, err)
	}
	c.read = 0
	if _, err := Scan(io.NewSectionReader(c, 0, int64(len(file))), int64(len(file)), DefaultLimits()); err != nil || c.read != int64(len(file)) {
		t.Errorf("a scan read %d of %d bytes: %v", c.read, len(file), err)
	}
}

// TestFramesTogether renders from many goroutines what one renders alone.
func TestFramesTogether(t *testing.T) {
	t.Parallel()
	f := opened(t, image2(16, 8, bytesTo(64), nil))
	windows := []string{"file", "full", "stored", "9000/5000"}
	var want []string
	for n := range 32 {
		want = append(want, string(samples8(renderPNG(t, f, n%8, windows[n/8]))))
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for k := range 64 {
				n := (k*7 + g) % 32
				if string(samples8(renderPNG(t, f, n%8, windows[n/8]))) != want[n] {
					t.Errorf("frame %d through %s is another picture", n%8, windows[n/8])
				}
			}
		})
	}
	wg.Wait()
}

// TestFrameTexts: nothing of a file may be in the text of an error.
func TestFrameTexts(t *testing.T) {
	t.Parallel()
	for tag, v := range map[uint32]val{tagSlope: str("DS", "Adams^Amy"), tagFunction: str("CS", "ADAMS"), tagCenter: str("DS", "Adams")} {
		b := with(tag, v).bytes()
		_, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
		if err == nil || strings.Contains(strings.ToLower(err.Error()), "adams") {
			t.Errorf("%v", err)
		}
	}
}
