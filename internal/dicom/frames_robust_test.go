package dicom

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// tight are limits under which a hostile file can do little.
func tight() FrameLimits {
	return FrameLimits{Frames: 1000, FrameBytes: 1 << 20, TotalBytes: 1 << 26, InflatedBytes: 1 << 20}
}

// readFrames is what the product does with the frames of a file: no step may panic, and whatever
// is refused has a reason. What Scan refuses has no frames.
func readFrames(t testing.TB, b []byte) {
	f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), tight())
	if err != nil {
		reasoned(t, err)
		return
	}
	if _, err := Scan(bytes.NewReader(b), int64(len(b)), tight().Scan); err != nil {
		t.Fatalf("frames of a refused file: %v", err)
	}
	l := f.Layout()
	for i := range min(f.Len(), 3) {
		p, err := f.Picture(context.Background(), i)
		if err != nil {
			reasoned(t, err)
			continue
		}
		if len(p.Values) != l.size() || p.Bytes*p.Samples*p.Rows*p.Columns != l.size() {
			t.Fatalf("%d bytes for %+v", len(p.Values), l)
		}
		for _, as := range []gantry.Rendering{gantry.RenderPNG, gantry.RenderJPEG, gantry.RenderNPY} {
			for _, w := range []Window{{}, {kind: windowFull}, {kind: windowStored}, {kind: windowGiven, center: 40, width: 400}} {
				if err := f.Render(context.Background(), io.Discard, i, as, w); err != nil {
					reasoned(t, err)
				}
			}
		}
	}
}

func reasoned(t testing.TB, err error) {
	if gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) == "" || gantry.CodeOf(err) == "illegal" {
		t.Fatalf("a refusal without a reason: %v", err)
	}
}

// framed are sound files that have frames in every way that is read here.
func framed(t testing.TB) map[string]spec {
	files := map[string]spec{
		"8 bit": image2(8, 2, bytesTo(8), nil), "signed": image2(16, 2, bytesTo(16), signed(12, 11)),
		"32 bit": image2(32, 1, bytesTo(16), nil), "bits": image2(1, 3, bytesTo(2), nil),
		"big": big(image2(8, 2, bytesTo(8), map[uint32]val{tagPixelData: {"OW", bytesTo(8)}})),
		"RGB": image2(8, 1, bytesTo(12), colour("RGB", 1)), "4:2:2": image2(8, 1, bytesTo(8), colour("YBR_FULL_422", 0)),
		"palette": paletted(16, nil), "deflated": {ts: syntaxDeflated, set: image2(16, 2, bytesTo(16), nil).set},
		"RLE":      encapsulated(syntaxRLE, 2, nil, rleFrame([]byte{7, 7, 7, 7}), rleFrame([]byte{1, 2, 2, 3})),
		"basic":    encapsulated(syntaxFragments, 3, table32(0, 20, 40), []byte{1, 2}, []byte{3, 4}, []byte{5, 6}, []byte{7, 8}, []byte{9, 10}, []byte{11, 12}),
		"baseline": encapsulated(syntaxBaseline, 1, nil, greyJPEG(t, 2, 2, 100)),
		"windowed": image2(16, 1, bytesTo(8), map[uint32]val{tagSlope: ds("2"), tagIntercept: ds("-1000"), tagCenter: ds("0"), tagWidth: ds("100")}),
	}
	for name, tag := range map[string]uint32{"modality": tagModalityLUT, "VOI": tagVOILUT} {
		s := image2(16, 1, bytesTo(8), nil)
		s.raw = map[uint32][]byte{tag: lutItem(tag, 1, 16, 0, 600, 1000)}
		files[name] = s
	}
	s := image2(16, 2, bytesTo(16), nil)
	s.raw = map[uint32][]byte{tagSharedGroups: sq(true, tagSharedGroups, it(false, groupsOf("2", "100"))),
		tagFrameGroups: sq(false, tagFrameGroups, it(false, groupsOf("1", "50")), it(true, groupsOf("", "5")))}
	files["groups"] = s
	s = encapsulated(syntaxFragments, 3, nil, []byte{1, 2}, []byte{3, 4}, []byte{5, 6}, []byte{7, 8}, []byte{9, 10}, []byte{11, 12})
	s.set[tagOffsets] = table64(0, 20, 40)
	files["extended"] = s
	s = paletted(16, nil).without(tagPaletteData).without(tagPaletteData + 1).without(tagPaletteData + 2)
	for c := range uint32(3) {
		s.set[tagPaletteSegments+c] = val{"OW", px16(0, 1, 10, 1, 1, 12, 2, 1, 0, 0)}
	}
	files["segments"] = s
	return files
}

// TestFrameBitFlips turns every third bit of each of those files behind the file meta.
func TestFrameBitFlips(t *testing.T) {
	t.Parallel()
	for name, s := range framed(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opened(t, s)
			b := s.bytes()
			step := 3 + len(b)/512*8
			for i := 300 * 8; i < len(b)*8; i += step {
				b[i/8] ^= 1 << (i % 8)
				readFrames(t, b)
				b[i/8] ^= 1 << (i % 8)
			}
		})
	}
}

// TestHostileFrames opens every hostile file of the corpus within the memory of one frame.
func TestHostileFrames(t *testing.T) {
	dir := os.Getenv("GANTRY_CORPUS")
	if dir == "" {
		t.Skip("GANTRY_CORPUS is not set: it names the folder with manifest.json")
	}
	files, err := filepath.Glob(filepath.Join(dir, "dicom", "hostile", "*"))
	if err != nil || len(files) < 40 {
		t.Fatalf("%d hostile files: %v", len(files), err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		readFrames(t, b)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
			t.Errorf("%s: %d bytes allocated for %d", filepath.Base(name), used, len(b))
		}
	}
}

// TestFrameMemory: sizes that a file only says cost nothing. The control is a file that has them.
func TestFrameMemory(t *testing.T) {
	allocated := func(s spec) (uint64, error) {
		b := s.bytes()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{FrameBytes: 8 << 30, TotalBytes: 8 << 40})
		if err == nil {
			_, err = f.Picture(context.Background(), 0)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc, err
	}
	large := map[uint32]val{tagRows: short(16384), tagColumns: short(16384)}
	rle := encapsulated(syntaxRLE, 1, nil, rleRaw(0x81, 1, 0, 0))
	lie := bytes.Replace(greyJPEG(t, 2, 2, 9), []byte{8, 0, 2, 0, 2}, []byte{8, 0x40, 0, 0x40, 0}, 1)
	baseline := encapsulated(syntaxBaseline, 1, nil, lie)
	native := encapsulated(syntaxFragments, 1, nil, []byte{1, 2})
	for name, s := range map[string]spec{"RLE": rle, "JPEG": baseline, "native in fragments": native} {
		for tag, v := range large {
			s.set[tag] = v
		}
		if n, err := allocated(s); gantry.CodeOf(err) != gantry.CodeTruncated || n > 1<<20 {
			t.Errorf("%s: %d bytes allocated, %v", name, n, err)
		}
	}
	control := encapsulated(syntaxRLE, 1, nil, rleRaw([]byte(strings.Repeat("\x81\x01", 1024*1024/128))...))
	control.set[tagRows], control.set[tagColumns] = short(1024), short(1024)
	if n, err := allocated(control); err != nil || n < 1<<20 {
		t.Errorf("control: %d bytes allocated, %v", n, err)
	}
}

// TestManyAttributes bounds what functional groups can make us keep.
func TestManyAttributes(t *testing.T) {
	t.Parallel()
	item := it(false, groupsOf("", "50"))
	s := image2(16, 1, bytesTo(8), nil)
	s.raw = map[uint32][]byte{tagFrameGroups: sq(true, tagFrameGroups, bytes.Repeat(item, maxAttributes/3+1))}
	refusedFrames(t, "groups without end", s, FrameLimits{}, gantry.CodeTooLarge)
}

func FuzzFrames(f *testing.F) {
	for _, s := range framed(f) {
		f.Add(s.bytes())
	}
	for _, s := range goods() {
		f.Add(s.bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) { readFrames(t, b) })
}

// FuzzSegments spreads out palettes.
func FuzzSegments(f *testing.F) {
	f.Add(uint16(4), px16(0, 1, 7, 0, 1, 8, 2, 2, 0, 0))
	f.Add(uint16(5), px16(0, 1, 0, 1, 4, 100))
	f.Fuzz(func(t *testing.T, n uint16, b []byte) {
		if got, err := segmented(words(b), int(n)); err == nil && len(got) != int(n) {
			t.Fatalf("%d entries, want %d", len(got), n)
		}
	})
}

func FuzzParseWindow(f *testing.F) {
	f.Add("-600/1500")
	f.Add("full")
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWindow(s)
		if err != nil {
			return
		}
		if again, err := ParseWindow(w.String()); err != nil || again != w {
			t.Fatalf("%v, again %v: %v", w, again, err)
		}
	})
}
