package dicom

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func TestFrame(t *testing.T) {
	t.Parallel()
	for _, ts := range []string{syntaxExplicit, syntaxImplicit, syntaxBig} {
		s := spec{ts: ts, set: map[uint32]val{
			0x00281050: str("DS", `40\400`), 0x00281051: str("DS", `80\900`), 0x00281052: str("DS", "-1024"), 0x00281053: str("DS", "2"),
		}}
		b := s.bytes()
		p, err := Frame(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		want := &Pixels{Rows: 4, Columns: 4, BitsStored: 16, Photometric: "MONOCHROME2", RescaleSlope: 2, RescaleIntercept: -1024,
			Window: true, WindowCenter: 40, WindowWidth: 80}
		for i := range 16 {
			want.Samples = append(want.Samples, uint16(1000*i))
		}
		if d := cmp.Diff(want, p); d != "" {
			t.Errorf("%s:\n%s", ts, d)
		}
		if v := p.Value(3); v != 3000*2-1024 {
			t.Errorf("value 3 is %v", v)
		}
	}
}

func TestFrameLayouts(t *testing.T) {
	t.Parallel()
	px := func(v ...uint16) val {
		b := make([]byte, 32)
		for i, n := range v {
			binary.LittleEndian.PutUint16(b[2*i:], n)
		}
		return val{"OW", b}
	}
	for _, c := range []struct {
		name string
		set  map[uint32]val
		want []int // the first samples with their sign
	}{
		{"signed 16", map[uint32]val{0x00280103: short(1), tagPixelData: px(0xffff, 0x8000, 5)}, []int{-1, -32768, 5}},
		{"signed 12", map[uint32]val{0x00280103: short(1), 0x00280101: short(12), 0x00280102: short(11), tagPixelData: px(0x0fff, 0x0800, 0x07ff)}, []int{-1, -2048, 2047}},
		{"overlay bits", map[uint32]val{0x00280101: short(12), 0x00280102: short(11), tagPixelData: px(0xf00f, 0x1001)}, []int{15, 1}},
		{"8 bits", map[uint32]val{tagBits: short(8), 0x00280101: short(8), 0x00280102: short(7), tagPixelData: {"OB", []byte("0123456789abcdef")}}, []int{'0', '1', '2'}},
	} {
		b := spec{set: c.set}.bytes()
		p, err := Frame(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []int
		for i := range c.want {
			got = append(got, p.Stored(i))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFrameRefuses(t *testing.T) {
	t.Parallel()
	good := goods()
	two := with(tagFrames, str("IS", "2"))
	two.set[tagRows] = short(2)
	bigEight := spec{ts: syntaxBig, set: eight()}
	bigEight.set[tagPixelData] = val{"OB", make([]byte, 16)}
	for name, c := range map[string]struct {
		file spec
		kind gantry.Kind
		code gantry.Code
	}{
		"compressed":     {good["jpeg"], gantry.Permanent, gantry.CodeUnsupportedFormat},
		"deflated":       {good["deflated"], gantry.Permanent, gantry.CodeUnsupportedFormat},
		"float":          {good["float"], gantry.Permanent, gantry.CodeUnsupportedFormat},
		"lookup table":   {raw(tagModalityLUT, sq(true, tagModalityLUT, it(true))), gantry.Permanent, gantry.CodeUnsupportedFormat},
		"two frames":     {two, gantry.Permanent, gantry.CodeUnsupportedFormat},
		"palette":        {with(tagPhotometric, str("CS", "PALETTE COLOR")), gantry.Permanent, gantry.CodeUnsupportedFormat},
		"big 8 bit":      {bigEight, gantry.Permanent, gantry.CodeUnsupportedFormat},
		"high bit":       {with(0x00280102, short(11)), gantry.Permanent, gantry.CodeUnsupportedFormat},
		"stored bits":    {with(0x00280101, short(17)), gantry.Permanent, gantry.CodeUnsupportedFormat},
		"stored bits 0":  {with(0x00280101, short(0)), gantry.Permanent, gantry.CodeUnsupportedFormat},
		"bad slope":      {with(0x00281053, str("DS", "one")), gantry.Illegal, CodeBadValue},
		"infinite slope": {with(0x00281053, str("DS", "inf")), gantry.Illegal, CodeBadValue},
		"too few pixels": {with(tagRows, short(5)), gantry.Illegal, CodePixelSize},
		"no pixels":      {spec{drop: []uint32{tagPixelData}}, gantry.Illegal, CodeNoPixelData},
		"report": {spec{drop: []uint32{tagPixelData, tagRows}, set: map[uint32]val{tagClass: str("UI", "1.2.3")}},
			gantry.Permanent, gantry.CodeUnsupportedFormat},
	} {
		b := c.file.bytes()
		_, err := Frame(bytes.NewReader(b), int64(len(b)))
		if gantry.KindOf(err) != c.kind || gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v (%s)", name, err, gantry.CodeOf(err))
		}
	}
}

// TestCorpusFrames holds the samples against those that another decoder found.
func TestCorpusFrames(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	same, refused := 0, 0
	for _, r := range rows {
		if r.Expect == "reject" {
			continue
		}
		b := read(t, r.Path)
		if _, err := Tags(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Errorf("%s: tags: %v", r.Path, err)
		}
		p, err := Frame(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if gantry.CodeOf(err) != gantry.CodeUnsupportedFormat {
				t.Errorf("%s: %v", r.Path, err)
			}
			refused++
			continue
		}
		if r.Pixels == "" {
			continue
		}
		raw := make([]byte, 0, 2*len(p.Samples))
		for i := range p.Samples {
			if r.Bits == 8 {
				raw = append(raw, byte(p.Stored(i)))
			} else {
				raw = binary.LittleEndian.AppendUint16(raw, uint16(p.Stored(i)))
			}
		}
		if sum := sha256.Sum256(raw); hex.EncodeToString(sum[:]) == r.Pixels {
			same++
		} else {
			t.Errorf("%s: other samples (%d stored bits of %d)", r.Path, p.BitsStored, r.Bits)
		}
	}
	if same < 50 || refused < 30 {
		t.Errorf("%d frames compared, %d refused; want at least 50 and 30", same, refused)
	}
	t.Logf("%d frames compared, %d refused", same, refused)
}
