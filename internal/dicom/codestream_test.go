package dicom

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// size reads a code stream's size from its bytes alone.
func size(k codec, b []byte) (w, h uint32, ok bool) {
	src := newSource(bytes.NewReader(b), int64(len(b)), nil)
	if k == jpegCodec {
		w, h, ok, _ = jpegSize(src, int64(len(b)))
	} else {
		w, h, ok, _ = j2kSize(src, int64(len(b)))
	}
	return w, h, ok
}

// Every kind of frame header is found, and nothing else is taken for one.
func TestJPEGMarkers(t *testing.T) {
	t.Parallel()
	for m := range 256 {
		sof := m == 0xf7 || m >= 0xc0 && m <= 0xcf && m != 0xc4 && m != 0xc8 && m != 0xcc
		b := slices.Concat([]byte{0xff, 0xd8, 0xff, byte(m), 0, 11, 8, 1, 2, 3, 4, 1, 1, 0x11, 0}, []byte{0xff, 0xda})
		w, h, ok := size(jpegCodec, b)
		if ok != sof || sof && (w != 0x304 || h != 0x102) {
			t.Errorf("marker %02x: %d x %d, %v", m, w, h, ok)
		}
	}
}

// The frame header is found behind more segments than the buffer holds.
func TestJPEGFarHeader(t *testing.T) {
	t.Parallel()
	profile := append([]byte{0xff, 0xe2, 0xff, 0xff}, make([]byte, 65533)...)
	b := slices.Concat([]byte{0xff, 0xd8}, bytes.Repeat(profile, 5), jpegStream(4, 4, 0xc2)[2:])
	if w, h, ok := size(jpegCodec, b); !ok || w != 4 || h != 4 {
		t.Errorf("%d x %d, %v", w, h, ok)
	}
	if _, err := scan(t, coded(tsJPEG, encap(nil, b)).bytes()); err != nil {
		t.Error(err)
	}
	b = slices.Concat([]byte{0xff, 0xd8}, bytes.Repeat(profile, 5), jpegStream(4, 9, 0xc2)[2:])
	if _, err := scan(t, coded(tsJPEG, encap(nil, b)).bytes()); gantry.CodeOf(err) != CodePixelSize {
		t.Errorf("another size: %v", err)
	}
}

// A stream cut anywhere has a size only when its header is whole.
func TestCodeStreamsCut(t *testing.T) {
	t.Parallel()
	jpeg, j2k := jpegStream(300, 200, 0xc0), j2kStream(70000, 3)
	for n := range jpeg {
		whole := 2 + 6 + 1 + 2 + 11 // SOI, APP0, fill, marker, frame header
		if w, h, ok := size(jpegCodec, jpeg[:n]); ok != (n >= whole) || ok && (w != 300 || h != 200) {
			t.Errorf("JPEG cut at %d: %d x %d, %v", n, w, h, ok)
		}
	}
	for n := range j2k {
		if w, h, ok := size(j2kCodec, j2k[:n]); ok != (n >= 24) || ok && (w != 70000 || h != 3) {
			t.Errorf("JPEG 2000 cut at %d: %d x %d, %v", n, w, h, ok)
		}
	}
}

// Reserved capabilities: only the low halves of the size count.
func TestJ2KReserved(t *testing.T) {
	t.Parallel()
	b := j2kStream(4, 4)
	b[8] = 0xdd // the width's highest byte
	if _, err := scan(t, coded(tsJ2K, encap(nil, b)).bytes()); gantry.CodeOf(err) != CodePixelSize {
		t.Errorf("a huge width: %v", err)
	}
	b[6] = 0xff
	if _, err := scan(t, coded(tsJ2K, encap(nil, b)).bytes()); err != nil {
		t.Errorf("not understood: %v", err)
	}
	b[11]++
	if _, err := scan(t, coded(tsJ2K, encap(nil, b)).bytes()); gantry.CodeOf(err) != CodePixelSize {
		t.Errorf("not understood, and another size: %v", err)
	}
}

// Several frames: one fragment each, or several; each that begins a stream is looked at.
func TestFramesAndFragments(t *testing.T) {
	t.Parallel()
	one, other := jpegStream(4, 4, 0xc0), jpegStream(4, 5, 0xc0)
	rle := rleStream(1, 64)
	for _, c := range []struct {
		name      string
		ts        string
		frames    string
		fragments [][]byte
		code      gantry.Code
	}{
		{"two of two", tsJPEG, "2", [][]byte{one, one}, ""},
		{"two in three", tsJPEG, "2", [][]byte{one, []byte("more"), one}, ""},
		{"three in two", tsJPEG, "3", [][]byte{one, one}, CodePixelSize},
		{"second of another size", tsJPEG, "2", [][]byte{one, other}, CodePixelSize},
		{"first goes on", tsJPEG, "2", [][]byte{[]byte("more"), one}, gantry.CodeMalformed},
		{"empty first", tsJPEG, "1", [][]byte{nil, one}, gantry.CodeMalformed},
		{"RLE", tsRLE, "2", [][]byte{rle, rle}, ""},
		{"RLE that varies", tsRLE, "2", [][]byte{rle, rleStream(2, 64, 66)}, CodePixelSize},
		{"RLE that goes on", tsRLE, "1", [][]byte{rle, []byte("more")}, gantry.CodeMalformed},
		{"video", tsMPEG, "500", [][]byte{[]byte("stream")}, ""},
		{"video of nothing", tsMPEG, "500", nil, CodePixelSize},
	} {
		s := coded(c.ts, encap(nil, c.fragments...))
		s.set[tagFrames] = str("IS", c.frames)
		in, err := scan(t, s.bytes())
		if gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v (%s), want %q", c.name, err, gantry.CodeOf(err), c.code)
		}
		if err == nil && in.Fragments != len(c.fragments) {
			t.Errorf("%s: %d fragments", c.name, in.Fragments)
		}
	}
}

// The bytes of a delimiter inside a fragment are pixels: lengths are followed.
func TestDelimiterInFragment(t *testing.T) {
	t.Parallel()
	f := slices.Concat(jpegStream(4, 4, 0xc0), head(tagSeqEnd, 0), ex(0x00100010, str("PN", "x")))
	in, err := scan(t, coded(tsJPEG, encap(nil, f, f)).bytes())
	if err != nil || in.Fragments != 2 || in.PixelLength != int64(2*len(f)) {
		t.Errorf("%v, %+v", err, in)
	}
}

// An offset table is counted, never allocated or believed.
func TestOffsetTable(t *testing.T) {
	t.Parallel()
	var table []byte
	for i := range uint32(1000) {
		table = binary.LittleEndian.AppendUint32(table, 0xffffff00+i)
	}
	in, err := scan(t, coded(tsJPEG, encap(table, jpegStream(4, 4, 0xc0))).bytes())
	if err != nil || in.Offsets != 1000 || in.Fragments != 1 {
		t.Errorf("%v, %+v", err, in)
	}
}

// Icons are walked like all else, but their streams are their own.
func TestIcon(t *testing.T) {
	t.Parallel()
	icon := func(px []byte) spec {
		s := coded(tsJPEG, encap(nil, jpegStream(4, 4, 0xc0)))
		s.raw[0x00880200] = sq(true, 0x00880200, it(true, ex(tagRows, short(64)), px))
		return s
	}
	in, err := scan(t, icon(encap(nil, jpegStream(64, 64, 0xc0))).bytes())
	if err != nil || in.Fragments != 1 || in.Rows != 4 {
		t.Errorf("encapsulated: %v, %+v", err, in)
	}
	if in, err = scan(t, icon(ex(tagPixelData, val{"OB", make([]byte, 64)})).bytes()); err != nil || in.Rows != 4 {
		t.Errorf("native: %v, %+v", err, in)
	}
	cut := encap(nil, []byte(strings.Repeat("x", 10)))
	if _, err = scan(t, icon(cut[:len(cut)-8]).bytes()); gantry.CodeOf(err) != gantry.CodeMalformed {
		t.Errorf("without its delimiter: %v", err)
	}
}
