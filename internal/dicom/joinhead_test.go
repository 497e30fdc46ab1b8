package dicom

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// shown sends frames as they are seen.
func shown(j *Joining) { j.Window = Window{kind: windowFull} }

// TestJoinDerivedEncodings makes derived images of sources in every encoding. They stay implicit
// where these are, and say the same.
func TestJoinDerivedEncodings(t *testing.T) {
	t.Parallel()
	var first map[uint32]string
	for _, ts := range []string{syntaxExplicit, syntaxImplicit, syntaxDeflated, syntaxBig} {
		out := joined(t, several(ts, nil).bytes(), shown)
		in, err := Scan(bytes.NewReader(out), int64(len(out)), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		want := syntaxExplicit
		if ts == syntaxImplicit {
			want = ts
		}
		if in.TransferSyntax != want || len(in.Warnings) > 0 {
			t.Errorf("%s: %s with %v", ts, in.TransferSyntax, in.Warnings)
		}
		rw, values := rewriterOf(t, out), map[uint32]string{}
		for tag := range rw.elements {
			if tag != tagSourceImages && tag != tagEquipment && tag != 0x00081115 { // heads within differ
				values[tag] = rw.text(tag)
			}
		}
		if first == nil {
			first = values
		}
		for tag, v := range values {
			if first[tag] != v {
				t.Errorf("%s: %08x is %q, want %q", ts, tag, v, first[tag])
			}
		}
		if len(values) != len(first) {
			t.Errorf("%s: %d elements, want %d", ts, len(values), len(first))
		}
	}
}

// TestJoinIncrements counts the frames of a derived image where the source has no times.
func TestJoinIncrements(t *testing.T) {
	t.Parallel()
	pages := string([]byte{0x18, 0, 1, 0x20})
	for name, c := range map[string]struct {
		change             map[uint32]val
		drop               []uint32
		pages, times, next string
	}{
		"times":            {nil, nil, "", "40", string([]byte{0x18, 0, 0x63, 0x10})},
		"no pointer":       {nil, []uint32{tagIncrement}, `1\2\3`, "", pages},
		"no time":          {nil, []uint32{tagFrameTime}, `1\2\3`, "", pages},
		"other increments": {map[uint32]val{tagIncrement: {"AT", []byte{0x54, 0, 0x10, 0}}}, nil, `1\2\3`, "", pages},
	} {
		s := several("", c.change)
		for _, tag := range c.drop {
			delete(s.set, tag)
		}
		rw := rewriterOf(t, joined(t, s.bytes(), shown))
		_, next := rw.parts(tagIncrement)
		if rw.text(tagPageNumbers) != c.pages || rw.text(tagFrameTime) != c.times || string(next) != c.next {
			t.Errorf("%s: pages %q, times %q, by %x", name, rw.text(tagPageNumbers), rw.text(tagFrameTime), next)
		}
	}
}

// TestJoinPaired leaves the side open where the part may be one of a pair.
func TestJoinPaired(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  map[uint32]val
		has  bool
		side string
	}{
		"unknown part": {nil, true, ""},
		"empty part":   {map[uint32]val{tagBodyPart: str("CS", "")}, true, ""},
		"one of two":   {map[uint32]val{tagBodyPart: str("CS", "KNEE")}, true, ""},
		"part":         {map[uint32]val{tagBodyPart: str("CS", "HEAD")}, false, ""},
		"side":         {map[uint32]val{tagBodyPart: str("CS", "KNEE"), tagLaterality: str("CS", "L")}, true, "L"},
	} {
		rw := rewriterOf(t, joined(t, several("", c.set).bytes(), shown))
		if rw.has(tagLaterality) != c.has || rw.text(tagLaterality) != c.side || rw.text(tagBodyPart) != strings.Trim(string(c.set[tagBodyPart].b), " ") {
			t.Errorf("%s: %v, %q", name, rw.has(tagLaterality), rw.text(tagLaterality))
		}
	}
}

// TestJoinPalette keeps the indices of a palette, and makes colour of what was sent in colour.
func TestJoinPalette(t *testing.T) {
	t.Parallel()
	set := eight()
	set[tagPhotometric] = str("CS", paletteColor)
	set[tagPixelData] = val{"OB", []byte(strings.Repeat("\x00\x01\x02\x03", 12))}
	for i := range uint32(3) {
		set[tagPaletteShape+i] = val{"US", []byte{4, 0, 0, 0, 16, 0}}
		set[tagPaletteData+i] = val{"OW", []byte{0, 0, 0, byte(40 * i), 0, 100, 0, 255}}
	}
	b := several("", set).bytes()
	kept := joined(t, b, nil)
	if values, l := allValues(t, kept); l.Photometric != paletteColor || !bytes.Equal(bytes.Join(values, nil), set[tagPixelData].b) {
		t.Errorf("kept: %+v", l)
	}
	out := joined(t, b, shown)
	values, l := allValues(t, out)
	if l.Photometric != "RGB" || l.Samples != 3 || !bytes.Equal(values[0][:12], []byte{0, 0, 0, 0, 40, 80, 100, 100, 100, 255, 255, 255}) {
		t.Errorf("derived: %+v, %v", l, values[0][:12])
	}
	if rw := rewriterOf(t, out); rw.text(tagClass) != ClassTrueColorCapture || rw.has(tagPaletteShape) || rw.has(tagSlope) {
		t.Error("a derived image of another class, or with what is the source's own")
	}
}

// TestJoinKept replaces what must not stay in an object whose pixels are others.
func TestJoinKept(t *testing.T) {
	t.Parallel()
	groups := sq(false, tagSharedGroups, it(false, sq(false, 0x00289110, it(false, ex(0x00280030, str("DS", `1\1`))))))
	s := several("", map[uint32]val{0x00189004: str("CS", "PRODUCT"), 0x60000010: short(4), 0x60020010: short(4), 0x60023000: {"OW", []byte{1, 2}},
		0x4ffe0001: {"SQ", nil}, 0x00880200: {"SQ", nil}})
	s.class = "1.2.840.10008.5.1.4.1.1.4.1"
	s.set[tagClass], s.raw = str("UI", s.class), map[uint32][]byte{tagSharedGroups: groups}
	s.tail = ex(0xfffcfffc, val{"OB", []byte{0, 0}})
	b := s.bytes()
	for _, way := range []func(*Joining){nil, asNPY} {
		rw := rewriterOf(t, joined(t, b, way))
		for tag, want := range map[uint32]string{tagClass: s.class, 0x00189004: "RESEARCH", tagImageType: `DERIVED\PRIMARY\AXIAL`} {
			if got := rw.text(tag); got != want {
				t.Errorf("%08x: %q, want %q", tag, got, want)
			}
		}
		if !bytes.Equal(rw.elements[tagSharedGroups], groups) || !rw.has(0x60020010) || !rw.has(0x60023000) {
			t.Error("functional groups or an overlay of its own are not as they were")
		}
		for _, tag := range []uint32{0x60000010, 0x4ffe0001, 0x00880200} {
			if rw.has(tag) {
				t.Errorf("%08x: still there", tag)
			}
		}
	}
}

// TestJoinOneFrame joins an image of one frame without making several of it.
func TestJoinOneFrame(t *testing.T) {
	t.Parallel()
	b := spec{drop: []uint32{tagSeries}}.bytes()
	rw := rewriterOf(t, joined(t, b, nil))
	if rw.has(tagFrames) || rw.has(0x00081115) || rw.text(tagImageType) != `DERIVED\SECONDARY` {
		t.Error("a number of frames, or a reference to a series without UID")
	}
	rw = rewriterOf(t, joined(t, b, shown))
	if rw.text(tagFrames) != "1" || rw.has(tagIncrement) {
		t.Errorf("%q frames", rw.text(tagFrames))
	}
}

// TestJoinNumbers takes whole numbers back through the rescaling, as those of float32.
func TestJoinNumbers(t *testing.T) {
	t.Parallel()
	b := several("", map[uint32]val{tagSlope: str("DS", "2"), tagIntercept: str("DS", "-1000")}).bytes()
	j := Joining{Source: bytes.NewReader(b), Size: int64(len(b)), UID: "2.25.1", SeriesUID: "2.25.2", Frames: 3, Sent: gantry.RenderNPY}
	p := Picture{Rows: 4, Columns: 4, Samples: 1, Bytes: 2, Signed: true, BitsStored: 16, Photometric: monochrome2,
		Values: bytes.Repeat([]byte{0x18, 0xfc, 0x0a, 0}, 8)} // -1000 and 10
	var out bytes.Buffer
	if err := Join(t.Context(), &out, j, answers(p)); err != nil {
		t.Fatal(err)
	}
	values, _ := allValues(t, out.Bytes())
	if want := bytes.Repeat([]byte{0, 0, 0xf9, 1}, 8); !bytes.Equal(values[2], want) { // 0 and 505
		t.Errorf("%v, want %v", values[2], want)
	}
}
