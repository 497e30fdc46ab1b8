package dicom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// several is a file of three frames of 4 x 4 pixels.
func several(ts string, set map[uint32]val) spec {
	px := make([]byte, 3*32)
	for i := range 3 * 16 {
		binary.LittleEndian.PutUint16(px[2*i:], uint16(80*i))
	}
	s := spec{ts: ts, set: map[uint32]val{tagFrames: str("IS", "3"), tagPixelData: {"OW", px},
		0x00080008: str("CS", `ORIGINAL\PRIMARY\AXIAL`), 0x00100010: str("PN", "\xc4dams"), tagCharset: str("CS", "ISO_IR 100"),
		0x00080021: str("DA", "20260101"), 0x00081030: str("LO", "study"), 0x00091001: {"OB", []byte{1, 2}}, tagFrameTime: str("DS", "40"),
		tagIncrement: {"AT", []byte{0x18, 0, 0x63, 0x10}}}}
	if ts == syntaxBig {
		s.set[tagIncrement] = val{"AT", []byte{0, 0x18, 0x10, 0x63}}
	}
	maps.Copy(s.set, set)
	return s
}

// joinOf joins the answers of a model that gives back what it got.
func joinOf(t *testing.T, b []byte, change func(*Joining)) ([]byte, error) {
	t.Helper()
	j := Joining{Source: bytes.NewReader(b), Size: int64(len(b)), UID: "2.25.1", SeriesUID: "2.25.2", SeriesNumber: 9001,
		Sent: gantry.RenderPNG, Window: Window{kind: windowStored}, Pipeline: "chest", Version: "1", Processor: "echo"}
	f, err := OpenFrames(j.Source, j.Size, FrameLimits{})
	if err != nil {
		t.Fatal(err)
	}
	j.Frames = f.Len()
	if change != nil {
		change(&j)
	}
	media := map[gantry.Rendering]string{gantry.RenderPNG: gantry.MediaPNG, gantry.RenderJPEG: gantry.MediaJPEG, gantry.RenderNPY: gantry.MediaNPY}[j.Sent]
	var out bytes.Buffer
	err = Join(t.Context(), &out, j, func(i int) (*Picture, error) {
		var answer bytes.Buffer
		if err := f.Render(t.Context(), &answer, i, j.Sent, j.Window); err != nil {
			return nil, err
		}
		return PictureOf(&answer, media, FrameLimits{})
	})
	return out.Bytes(), err
}

// joined is joinOf where nothing may go wrong.
func joined(t *testing.T, b []byte, change func(*Joining)) []byte {
	t.Helper()
	out, err := joinOf(t, b, change)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Scan(bytes.NewReader(out), int64(len(out)), DefaultLimits()); err != nil {
		t.Fatalf("the result: %v", err)
	}
	return out
}

func allValues(t *testing.T, b []byte) (values [][]byte, l Layout) {
	t.Helper()
	f, err := OpenFrames(bytes.NewReader(b), int64(len(b)), FrameLimits{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Len() {
		p, err := f.Picture(t.Context(), i)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, p.Values)
	}
	return values, f.Layout()
}

func asNPY(j *Joining) { j.Sent, j.Window = gantry.RenderNPY, Window{} }

// layouts are files of several frames whose values a model can give back.
func layouts() map[string]spec {
	rescale := map[uint32]val{tagSlope: str("DS", "0.37"), tagIntercept: str("DS", "-1024.5")}
	twelve := map[uint32]val{0x00280101: short(12), 0x00280102: short(11), 0x00280103: short(1)}
	high := map[uint32]val{0x00280101: short(12), 0x00280102: short(15)}
	byteFrames := eight()
	byteFrames[tagPixelData] = val{"OB", []byte(strings.Repeat("\x00\x01\x80\xff", 12))}
	colour := maps.Clone(byteFrames)
	colour[tagSamples], colour[tagPhotometric] = short(3), str("CS", "RGB")
	colour[tagPlanar] = short(1)
	colour[tagPixelData] = val{"OB", []byte(strings.Repeat("\x00\x01\x80\xff\x33\x44", 24))}
	odd := maps.Clone(byteFrames)
	odd[tagRows], odd[tagColumns], odd[tagPixelData] = short(1), short(3), val{"OB", []byte("abcdefghi\x00")}
	shown := maps.Clone(byteFrames)
	shown[tagPhotometric] = str("CS", monochrome1)
	signedByte := maps.Clone(byteFrames)
	signedByte[0x00280103] = short(1)
	signed := map[uint32]val{0x00280103: short(1)}
	maps.Copy(signed, rescale)
	out := map[string]spec{"12 signed": several("", twelve), "high bits": several("", high), "rescaled": several("", rescale),
		"signed and rescaled": several("", signed), "8": several("", byteFrames), "colour": several("", colour),
		"odd": several("", odd), "monochrome1": several("", shown), "8 signed": several("", signedByte)}
	for _, ts := range []string{syntaxExplicit, syntaxImplicit, syntaxDeflated, syntaxBig} {
		out[ts] = several(ts, nil)
	}
	return out
}

// TestJoinIdentity puts frames back together that a model left as they were.
func TestJoinIdentity(t *testing.T) {
	t.Parallel()
	for name, s := range layouts() {
		for way, change := range map[string]func(*Joining){"png": nil, "npy": asNPY} {
			b := s.bytes()
			out := joined(t, b, change)
			got, l := allValues(t, out)
			want, was := allValues(t, b)
			if !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%s as %s: other values", name, way)
			}
			was.TransferSyntax, was.Planar = l.TransferSyntax, false
			if l != was {
				t.Errorf("%s as %s: %+v, want %+v", name, way, l, was)
			}
			if again := joined(t, b, change); !bytes.Equal(out, again) {
				t.Errorf("%s as %s: not the same bytes again", name, way)
			}
		}
	}
}

// TestJoinElements keeps the source's elements as they are but for those that speak of the result.
func TestJoinElements(t *testing.T) {
	t.Parallel()
	b := several("", map[uint32]val{0x00082111: str("ST", "before"), 0x00280106: short(0), 0x60000010: short(4)}).bytes()
	was, rw := rewriterOf(t, b), rewriterOf(t, joined(t, b, nil))
	changed := map[uint32]string{tagInstance: "2.25.1", tagSeries: "2.25.2", 0x00200011: "9001", 0x00200013: "1",
		0x00080008: `DERIVED\SECONDARY\AXIAL`, 0x0008103e: "AI: chest 1", tagFrames: "3",
		0x00082111: "before; Frames put through pipeline chest, version 1, processor echo, by gantry"}
	gone := []uint32{0x00080021, 0x00280106, 0x60000010}
	for tag, want := range changed {
		if got := rw.text(tag); got != want {
			t.Errorf("%08x: %q, want %q", tag, got, want)
		}
	}
	for tag, e := range was.elements {
		if changed[tag] == "" && !slices.Contains(gone, tag) && !bytes.Equal(rw.elements[tag], e) {
			t.Errorf("%08x: not as it was", tag)
		}
	}
	for _, tag := range gone {
		if rw.has(tag) {
			t.Errorf("%08x: still there", tag)
		}
	}
	_, source := rw.parts(tagSourceImages)
	_, maker := rw.parts(tagEquipment)
	if !bytes.Contains(source, []byte(goodUID)) || !bytes.Contains(source, []byte("YES ")) || !bytes.Contains(maker, []byte("109102")) {
		t.Errorf("%q, %q", source, maker)
	}
}

// TestJoinDerived makes a secondary capture of what is not in the source's terms.
func TestJoinDerived(t *testing.T) {
	t.Parallel()
	grey := func(j *Joining) { j.Window = Window{kind: windowFull} }
	half := func(j *Joining) { j.Window, j.Sent = Window{kind: windowFull}, gantry.RenderJPEG; j.Lossy = true }
	in := map[uint32]val{tagSlope: str("DS", "2"), tagIntercept: str("DS", "-1024"), tagCenter: str("DS", "40")}
	for name, change := range map[string]func(*Joining){"png": grey, "jpeg": half} {
		b := several("", in).bytes()
		out := joined(t, b, change)
		was, rw := rewriterOf(t, b), rewriterOf(t, out)
		_, l := allValues(t, out)
		if l.BitsAllocated != 8 || l.BitsStored != 8 || l.Frames != 3 || l.Photometric != monochrome2 || l.Lossy != (name == "jpeg") {
			t.Errorf("%s: %+v", name, l)
		}
		for tag, want := range map[uint32]string{tagClass: ClassGreyByteCapture, tagSlope: "1", tagIntercept: "0", tagCenter: "",
			0x00080008: `DERIVED\SECONDARY`, 0x00080070: "gantry", 0x00091001: "", tagFrameTime: "40"} {
			if got := rw.text(tag); got != want {
				t.Errorf("%s: %08x is %q, want %q", name, tag, got, want)
			}
		}
		for _, tag := range []uint32{tagCharset, 0x00100010, 0x00100020, 0x00081030, tagStudy, tagIncrement} {
			if !bytes.Equal(rw.elements[tag], was.elements[tag]) {
				t.Errorf("%s: %08x is not as it was", name, tag)
			}
		}
	}
}

// TestJoinLossy writes down the lossy compression that the source's transfer syntax tells of, and
// keeps a history that is there.
func TestJoinLossy(t *testing.T) {
	t.Parallel()
	frame := jpegOf(t, image.NewGray(image.Rect(0, 0, 64, 64)))
	frame = append(frame, make([]byte, len(frame)%2)...)
	set := eight()
	set[tagFrames], set[tagRows], set[tagColumns] = str("IS", "2"), short(64), short(64)
	in := spec{ts: tsJPEG, set: set, drop: []uint32{tagPixelData}, raw: map[uint32][]byte{tagPixelData: encap(nil, frame, frame)}}
	ratio := strconv.FormatFloat(64*64/float64(len(frame)), 'f', 2, 64)
	for _, want := range []string{"01 ISO_10918_1 " + ratio, "01  30"} {
		rw := rewriterOf(t, joined(t, in.bytes(), nil))
		if got := rw.text(tagLossy) + " " + rw.text(tagLossyMethod) + " " + rw.text(tagLossyRatio); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		set[tagLossy], set[tagLossyRatio] = str("CS", "01"), str("DS", "30")
	}
}

// answers gives the same picture to every frame.
func answers(p Picture) func(int) (*Picture, error) {
	return func(int) (*Picture, error) { return &p, nil }
}

// TestJoinClasses chooses the class of a derived image by what the pictures are.
func TestJoinClasses(t *testing.T) {
	t.Parallel()
	b := several("", nil).bytes()
	for class, p := range map[string]Picture{
		ClassGreyByteCapture:  {Rows: 2, Columns: 2, Samples: 1, Bytes: 1, Photometric: monochrome2, Values: make([]byte, 4)},
		ClassGreyWordCapture:  {Rows: 2, Columns: 2, Samples: 1, Bytes: 2, Photometric: monochrome2, Values: make([]byte, 8)},
		ClassTrueColorCapture: {Rows: 4, Columns: 4, Samples: 3, Bytes: 1, Photometric: "RGB", Values: make([]byte, 48)},
	} {
		var out bytes.Buffer
		j := Joining{Source: bytes.NewReader(b), Size: int64(len(b)), UID: "2.25.1", SeriesUID: "2.25.2", Frames: 3}
		if err := Join(t.Context(), &out, j, answers(p)); err != nil {
			t.Fatal(err)
		}
		if in, err := Scan(&out, -1, Limits{}); err != nil || in.SOPClass != class || in.Frames != 3 {
			t.Errorf("%+v (%v), want class %s", in, err, class)
		}
	}
}

// TestJoinGap leaves a black frame in the place of one that was not answered.
func TestJoinGap(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]uint16{"12 signed": 0xf800, "rescaled": 0, "monochrome1": 0xffff, "high bits": 0} {
		b := layouts()[name].bytes()
		out := joined(t, b, func(j *Joining) { j.Missing = func(i int) bool { return i != 1 } })
		got, _ := allValues(t, out)
		whole, _ := allValues(t, b)
		if !bytes.Equal(got[1], whole[1]) || len(got) != 3 {
			t.Errorf("%s: the answered frame has moved or changed", name)
		}
		if v := binary.LittleEndian.Uint16(got[0]); v != want || !bytes.Equal(got[0], got[2]) {
			t.Errorf("%s: %04x in the gap, want %04x", name, v, want)
		}
		if text := rewriterOf(t, out).text(0x00082111); !strings.HasSuffix(text, "; frames 1, 3 not answered") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// TestGaps lists runs, and no more than the description can hold.
func TestGaps(t *testing.T) {
	t.Parallel()
	j := Joining{Frames: 5000, Missing: func(i int) bool { return i == 2 || i > 5 && i < 9 }}
	if got := j.gaps(); got != "frames 3, 7-9 not answered" {
		t.Error(got)
	}
	j.Missing = func(i int) bool { return i%2 == 0 }
	if got := j.gaps(); len(got) > 600 || !strings.Contains(got, " more not answered") {
		t.Error(got)
	}
	j.Missing = nil
	if got := j.gaps(); got != "" {
		t.Error(got)
	}
}

// TestResultUID gives each list of parts its own UID.
func TestResultUID(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, parts := range [][]string{nil, {""}, {"a"}, {"a", ""}, {"a", "b"}, {"ab"}, {"b", "a"}} {
		for _, namespace := range [][16]byte{{}, {1}} {
			u, name := ResultUID(namespace, parts...), fmt.Sprintf("%q in %x", parts, namespace)
			if !ValidUID(u) || !strings.HasPrefix(u, "2.25.") || u != ResultUID(namespace, parts...) || seen[u] != "" {
				t.Errorf("%s: %s, as for %s", name, u, seen[u])
			}
			seen[u] = name
		}
	}
}
