package dicom

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// scan reads b with and without its size, and a byte at a time; all three must agree.
func scan(t *testing.T, b []byte) (*Info, error) {
	t.Helper()
	in, err := Scan(bytes.NewReader(b), int64(len(b)), DefaultLimits())
	slow, slowErr := Scan(iotest.OneByteReader(bytes.NewReader(b)), int64(len(b)), DefaultLimits())
	free, freeErr := Scan(bytes.NewReader(b), -1, DefaultLimits())
	if d := cmp.Diff(in, slow); d != "" || fmt.Sprint(err) != fmt.Sprint(slowErr) {
		t.Errorf("a byte at a time: %v, want %v\n%s", slowErr, err, d)
	}
	if gantry.CodeOf(err) != gantry.CodeOf(freeErr) {
		t.Errorf("without its size: %v, with it: %v", freeErr, err)
	}
	if err == nil {
		if d := cmp.Diff(in, free); d != "" {
			t.Errorf("without its size:\n%s", d)
		}
	}
	return in, err
}

func TestScanAccepts(t *testing.T) {
	t.Parallel()
	for name, s := range goods() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := s.bytes()
			in, err := scan(t, b)
			if err != nil || len(in.Warnings) > 0 {
				t.Fatalf("%v, warnings %v", err, in.Warnings)
			}
			if in.Rows != 4 || in.Columns != 4 || in.SamplesPerPixel != 1 || in.SOPInstance != goodUID ||
				in.StudyInstance != "2.25.7002" || in.SeriesInstance != "2.25.7003" || in.Modality != "OT" || in.Photometric != "MONOCHROME2" {
				t.Errorf("got %+v", in)
			}
		})
	}
}

func TestScanInfo(t *testing.T) {
	t.Parallel()
	b := goods()["jpeg in two"].bytes()
	in, err := scan(t, b)
	if err != nil {
		t.Fatal(err)
	}
	first := len(jpegStream(4, 4, 0xc0))
	if !in.Encapsulated || in.Fragments != 2 || in.Offsets != 1 || in.PixelLength != int64(first+4) {
		t.Errorf("got %+v", in)
	}
	if got := b[in.PixelOffset : in.PixelOffset+8]; !bytes.Equal(got, head(tagItem, 4)) {
		t.Errorf("at the pixel offset stands %x, want the offset table", got)
	}
	b = spec{}.bytes()
	if in, err = scan(t, b); err != nil {
		t.Fatal(err)
	}
	if got := b[in.PixelOffset : in.PixelOffset+in.PixelLength]; !bytes.Equal(got, base()[tagPixelData].b) {
		t.Errorf("at the pixel offset stands %x", got)
	}
	if in, _ = scan(t, goods()["deflated"].bytes()); in.PixelOffset != -1 || in.PixelLength != 32 {
		t.Errorf("deflated: pixels at %d, %d bytes; want -1, 32", in.PixelOffset, in.PixelLength)
	}
}

func TestScanWarns(t *testing.T) {
	t.Parallel()
	report := spec{drop: []uint32{tagPixelData, tagRows, tagColumns}, set: map[uint32]val{tagClass: str("UI", "1.2.840.10008.5.1.4.1.1.88.11")}}
	dir := spec{class: classDirectory, drop: slices.Collect(func(yield func(uint32) bool) {
		for t := range base() {
			if !yield(t) {
				return
			}
		}
	}), raw: map[uint32][]byte{0x00041130: ex(0x00041130, str("CS", "DISK"))}}
	odd := with(tagPixelData, val{"OB", []byte("123456789")})
	odd.set[tagRows], odd.set[tagColumns], odd.set[tagBits] = short(3), short(3), short(8)
	for _, c := range []struct {
		name string
		file spec
		want []gantry.Code
	}{
		{"program", spec{preamble: "MZ\x90"}, []gantry.Code{CodeExecutablePreamble}},
		{"ELF", spec{preamble: "\x7fELF"}, []gantry.Code{CodeExecutablePreamble}},
		{"TIFF", spec{preamble: "II*\x00"}, nil},
		{"no group length", spec{noLength: true}, []gantry.Code{CodeMissingGroupLength}},
		{"short group length", spec{length: -4}, []gantry.Code{CodeWrongGroupLength}},
		{"long group length", spec{length: 4}, []gantry.Code{CodeWrongGroupLength}},
		{"out of order", raw(0x00100010, ex(0x00100030, str("DA", "")), ex(0x00100010, str("PN", "A"))), []gantry.Code{CodeOutOfOrder}},
		{"another instance", spec{meta: "2.25.9"}, []gantry.Code{CodeUIDMismatch}},
		{"no series", spec{drop: []uint32{tagSeries}}, []gantry.Code{CodeMissingUID}},
		{"empty study", with(tagStudy, str("UI", "")), []gantry.Code{CodeMissingUID}},
		{"unknown charset", with(tagCharset, str("CS", "ISO_IR 999")), []gantry.Code{CodeUnknownCharset}},
		{"long charset", with(tagCharset, str("CS", strings.Repeat(`\`, 300))), []gantry.Code{CodeUnknownCharset}},
		{"unknown charset in an item", raw(0x00081140, sq(true, 0x00081140, it(true, ex(tagCharset, str("CS", "X"))))), []gantry.Code{CodeUnknownCharset}},
		{"CR LF in a name", with(0x00100010, str("PN", "A\r\nB")), []gantry.Code{CodeControlCharacters}},
		{"CR LF in a comment", with(0x00104000, str("LT", "A\r\nB")), nil},
		{"NUL in an id", with(0x00100020, str("LO", "A\x00B")), []gantry.Code{CodeControlCharacters}},
		{"NULs behind an id", with(0x00100020, str("LO", "AB\x00\x00")), nil},
		{"escape", with(0x00100010, str("PN", "A\x1b[2J")), []gantry.Code{CodeControlCharacters}},
		{"escape of a charset", spec{set: map[uint32]val{tagCharset: str("CS", `\ISO 2022 IR 87`), 0x00100010: str("PN", "A=\x1b$B;3\x1b(B")}}, nil},
		{"control in an implicit name", spec{ts: syntaxImplicit, set: map[uint32]val{0x00100010: str("PN", "A\aB")}}, []gantry.Code{CodeControlCharacters}},
		{"too many pixels", with(tagPixelData, val{"OW", make([]byte, 34)}), []gantry.Code{CodePixelSize}},
		{"odd pixels", odd, nil},
		{"report", report, []gantry.Code{CodeNoPixelData}},
		{"directory", dir, []gantry.Code{CodeDirectory}},
		{"JPEG XL", spec{ts: tsXL, raw: map[uint32][]byte{tagPixelData: encap(nil, []byte("abcd"))}}, []gantry.Code{CodeUnsupportedSyntax}},
		{"gzip trailer", spec{ts: syntaxDeflated, tail: make([]byte, 8)}, nil},
		{"empty frames", with(tagFrames, str("IS", "")), nil},
		{"all UN", with(tagRows, val{"UN", []byte{4, 0}}), nil},
		{"two warnings", spec{meta: "2.25.9", preamble: "MZ"}, []gantry.Code{CodeExecutablePreamble, CodeUIDMismatch}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in, err := scan(t, c.file.bytes())
			if err != nil {
				t.Fatalf("%v (%s)", err, gantry.CodeOf(err))
			}
			if d := cmp.Diff(c.want, in.Warnings); d != "" {
				t.Error(d)
			}
		})
	}
}

// A size that does not fit the bytes is never an accepted file.
func TestScanSize(t *testing.T) {
	t.Parallel()
	b := spec{}.bytes()
	for _, n := range []int{-20, -1, 1, 1000} {
		if _, err := Scan(bytes.NewReader(b), int64(len(b)+n), DefaultLimits()); gantry.CodeOf(err) != gantry.CodeTruncated {
			t.Errorf("size %+d: %v, want truncated", n, err)
		}
	}
}

// An error of the reader is its own, wherever it comes, and no verdict on the file.
func TestScanReaderError(t *testing.T) {
	t.Parallel()
	lost := gantry.Errorf(gantry.Timeout, "", "lost")
	for name, s := range goods() {
		b := s.bytes()
		for n := range b {
			r := io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(lost))
			in, err := Scan(r, int64(len(b)), DefaultLimits())
			if !errors.Is(err, lost) || in != nil {
				t.Fatalf("%s cut at %d: %v, want the reader's error", name, n, err)
			}
		}
	}
	stuck := io.MultiReader(bytes.NewReader(make([]byte, 10)), stuckReader{})
	if _, err := Scan(stuck, -1, DefaultLimits()); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that gives nothing: %v", err)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestScanLimits(t *testing.T) {
	t.Parallel()
	zeros := slices.Concat(spec{}.header(syntaxDeflated), deflated(slices.Concat(ex(0x00091001, val{"OB", make([]byte, 20<<20)}))))
	many := slices.Concat(spec{}.header(syntaxImplicit), bytes.Repeat(head(0x00090000, 0), 1))
	for i := range uint32(perDataset + 1) {
		many = append(many, head(0x00110000+i, 0)...)
	}
	wild := spec{}.header(syntaxImplicit)
	for i := range uint32(maxDisorder + 2) {
		wild = append(wild, head(0x00110000+2*maxDisorder-i, 0)...)
	}
	for _, c := range []struct {
		name string
		file []byte
		l    Limits
		code gantry.Code
	}{
		{"inflated", zeros, Limits{MaxInflated: 1 << 20, MaxRatio: 1 << 30}, CodeArchiveBomb},
		{"ratio", zeros, Limits{}, CodeArchiveBomb},
		{"ratio allowed", zeros, Limits{MaxRatio: 5000}, CodeMissingUID},
		{"elements", spec{}.bytes(), Limits{MaxElements: 5}, gantry.CodeTooLarge},
		{"fragments", coded(tsMPEG, encap(nil, bytes.Repeat([]byte{1}, 4), nil, nil, nil, nil)).bytes(), Limits{MaxElements: 18}, gantry.CodeTooLarge},
		{"elements in one data set", many, Limits{}, gantry.CodeTooLarge},
		{"disorder", wild, Limits{}, gantry.CodeMalformed},
		{"value", spec{}.bytes(), Limits{MaxValue: 31}, gantry.CodeTooLarge},
		{"depth", raw(0x0040a730, nest(3, false)).bytes(), Limits{Depth: 2}, CodeTooDeep},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := Scan(bytes.NewReader(c.file), int64(len(c.file)), c.l); gantry.CodeOf(err) != c.code {
				t.Errorf("%v (%s), want %s", err, gantry.CodeOf(err), c.code)
			}
		})
	}
}

// Lengths and counts that a file only claims cost nothing.
func TestScanMemory(t *testing.T) {
	for name, b := range map[string][]byte{
		"4 GiB value":  raw(0x00091001, ex(0x00091001, val{"OB", nil}, 0xf0000000)).bytes(),
		"2e9 frames":   with(tagFrames, str("IS", "2000000000")).bytes(),
		"65535 square": spec{set: map[uint32]val{tagRows: short(65535), tagColumns: short(65535)}}.bytes(),
		"million deep": raw(0x0040a730, nest(1000000, true)).bytes(),
		"table":        coded(tsJPEG, append(ex(tagPixelData, val{"OB", nil}, undefined), head(tagItem, 0xfffffffc)...)).bytes(),
	} {
		var a, z runtime.MemStats
		runtime.ReadMemStats(&a)
		_, err := Scan(bytes.NewReader(b), -1, DefaultLimits())
		runtime.ReadMemStats(&z)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if n := z.TotalAlloc - a.TotalAlloc; n > 256<<10 {
			t.Errorf("%s: %d bytes allocated for a file of %d", name, n, len(b))
		}
	}
}

// No refusal repeats a value: every text of these files holds the mark.
func TestErrorsHoldNoValues(t *testing.T) {
	t.Parallel()
	const mark = "CANARY"
	marked := map[uint32]val{
		tagInstance: str("UI", mark), tagStudy: str("UI", mark), tagFrames: str("IS", mark), tagCharset: str("CS", mark),
		tagPhotometric: str("CS", mark), tagModality: str("CS", mark), 0x00100010: str("PN", mark), 0x00100020: str("LO", mark), tagClass: str("UI", mark),
	}
	n := 0
	for tag, v := range marked {
		for _, s := range []spec{with(tag, v), {ts: mark}, {class: mark, meta: mark, set: marked}} {
			b := s.bytes()
			for cut := 200; cut <= len(b); cut += 5 {
				if _, err := Scan(bytes.NewReader(b[:cut]), int64(cut), DefaultLimits()); err != nil {
					n++
					if strings.Contains(err.Error(), mark) {
						t.Fatalf("the error repeats a value: %v", err)
					}
				}
			}
		}
	}
	if n < 1000 {
		t.Errorf("%d refusals seen, want over 1,000", n)
	}
}

func TestNativeSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rows, columns, samples, bits, frames int
		photometric                          string
		want                                 int64
	}{
		{4, 4, 1, 16, 1, "MONOCHROME2", 32},
		{3, 3, 3, 8, 1, "RGB", 27},
		{510, 510, 1, 1, 3, "MONOCHROME2", 97538}, // 780,300 bits
		{100, 100, 3, 8, 1, "YBR_FULL_422", 20000},
		{100, 100, 3, 8, 2, "YBR_PARTIAL_420", 30000},
		{65535, 65535, 1, 64, math.MaxInt32, "", -1},
		{65535, 65535, 65535, 64, math.MaxInt32, "", -1},
	} {
		n, ok := nativeSize(c.rows, c.columns, c.samples, c.bits, c.frames, c.photometric)
		if !ok {
			n = -1
		}
		if n != c.want {
			t.Errorf("%+v: %d", c, n)
		}
	}
}

func TestValidUID(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"1", "1.2", "2.25.0", "1.02", strings.Repeat("1", 64)} {
		if !ValidUID(s) {
			t.Errorf("%q is none", s)
		}
	}
	for _, s := range []string{"", ".", "..", "1.", ".1", "1..2", "1.2a", "1 2", "1/2", "1\x00", strings.Repeat("1", 65), "१"} {
		if ValidUID(s) {
			t.Errorf("%q is one", s)
		}
	}
}
