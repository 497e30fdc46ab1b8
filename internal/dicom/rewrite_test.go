package dicom

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func rewriterOf(t *testing.T, b []byte) *rewriter {
	t.Helper()
	rw, err := newRewriter(bytes.NewReader(b), int64(len(b)), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return rw
}

func rewritten(t *testing.T, rw *rewriter) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := rw.write(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// front is the data set of a spec in front of its pixel data, encoded as ts.
func front(s spec, ts string) []byte {
	s.drop = append(slices.Clone(s.drop), tagPixelData, tagFloatPixels)
	raw := map[uint32][]byte{}
	for t, b := range s.raw {
		if t < groupPixels {
			raw[t] = b
		}
	}
	s.raw = raw
	return s.body(ts)
}

// TestRewriteVerbatim leaves every element as it was, in every encoding.
func TestRewriteVerbatim(t *testing.T) {
	t.Parallel()
	for name, s := range goods() {
		ts := syntaxExplicit
		if s.ts == syntaxImplicit {
			ts = s.ts
		}
		rw := rewriterOf(t, s.bytes())
		if got := rewritten(t, rw); !bytes.Equal(got, front(s, ts)) {
			t.Errorf("%s: other bytes", name)
		}
		if rw.syntax() != ts {
			t.Errorf("%s: written as %s", name, rw.syntax())
		}
	}
}

// TestRewriteEdits changes, adds and takes away elements and leaves those beside them.
func TestRewriteEdits(t *testing.T) {
	t.Parallel()
	for _, ts := range []string{syntaxExplicit, syntaxImplicit} {
		in := spec{ts: ts, set: map[uint32]val{0x00081030: str("LO", "old"), 0x00080000: {"UL", []byte{1, 0, 0, 0}}}}
		rw := rewriterOf(t, in.bytes())
		rw.setText(0x00081030, vrLO, "new")
		rw.setText(0x00082111, vrST, "added")
		rw.setShort(0x00280106, 7)
		rw.remove(tagModality)
		want := spec{ts: ts, drop: []uint32{tagModality}, set: map[uint32]val{0x00081030: str("LO", "new"),
			0x00082111: str("ST", "added"), 0x00280106: short(7)}}
		if got := rewritten(t, rw); !bytes.Equal(got, front(want, ts)) {
			t.Errorf("%s: other bytes", ts)
		}
		if rw.text(0x00081030) != "new" || rw.text(tagModality) != "" || rw.has(tagModality) || !rw.has(tagRows) {
			t.Errorf("%s: other values", ts)
		}
		rw.keep(func(tag uint32) bool { return tag == tagRows })
		if n := len(rewritten(t, rw)); n != 10 {
			t.Errorf("%s: %d bytes for one element", ts, n)
		}
	}
}

// TestRewriteAppendItem puts an item behind those that are there, in every form of a sequence.
func TestRewriteAppendItem(t *testing.T) {
	t.Parallel()
	const tag = 0x0018a001
	maker := ex(0x00080070, str("LO", "M"))
	implicit := el(false, true, 0x00080070, str("LO", "M"))
	added := it(false, ex(0x00080070, str("LO", "gantry")))
	for name, c := range map[string]struct{ raw, want []byte }{
		"none":      {nil, sq(false, tag, added)},
		"defined":   {sq(false, tag, it(false, maker)), sq(false, tag, it(false, maker), added)},
		"undefined": {sq(true, tag, it(true, maker)), sq(false, tag, it(true, maker), added)},
		"unknown": {slices.Concat(ex(tag, val{"UN", nil}, undefined), it(true, implicit), head(tagSeqEnd, 0)),
			slices.Concat(ex(tag, val{"UN", nil}, undefined), it(true, implicit),
				it(false, el(false, true, 0x00080070, str("LO", "gantry"))), head(tagSeqEnd, 0))},
	} {
		s := spec{}
		if c.raw != nil {
			s.raw = map[uint32][]byte{tag: c.raw}
		}
		rw := rewriterOf(t, s.bytes())
		rw.appendItem(tag, func(i *itemWriter) { i.text(0x00080070, vrLO, "gantry") })
		if got := rw.elements[tag]; !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", name, got, c.want)
		}
	}
}

// TestRewriteOutOfOrder sorts what stands in the wrong order.
func TestRewriteOutOfOrder(t *testing.T) {
	t.Parallel()
	late := slices.Concat(ex(0x00100040, str("CS", "O")), ex(0x00080050, str("SH", "A1")))
	rw := rewriterOf(t, spec{raw: map[uint32][]byte{0x00100040: late}}.bytes())
	want := spec{set: map[uint32]val{0x00100040: str("CS", "O"), 0x00080050: str("SH", "A1")}}
	if !bytes.Equal(rewritten(t, rw), front(want, syntaxExplicit)) {
		t.Error("other bytes")
	}
}

// TestRewriteRefuses bounds the memory of a rewriter and passes the scan's refusals on.
func TestRewriteRefuses(t *testing.T) {
	t.Parallel()
	un := slices.Concat([]byte{0, 9, 0x10, 0x10, 'U', 'N', 0, 0, 0xff, 0xff, 0xff, 0xff}, head(tagSeqEnd, 0))
	for name, c := range map[string]struct {
		b    []byte
		code gantry.Code
	}{
		"too large":          {spec{set: map[uint32]val{0x00091001: {"OB", make([]byte, maxRewritten)}}}.bytes(), gantry.CodeTooLarge},
		"too large inflated": {spec{ts: syntaxDeflated, set: map[uint32]val{0x00091001: {"OB", make([]byte, maxRewritten)}}}.bytes(), CodeArchiveBomb},
		"cut off":            {spec{}.bytes()[:303], gantry.CodeTruncated},
		"unknown sequence":   {spec{ts: syntaxBig, raw: map[uint32][]byte{0x00091010: un}}.bytes(), gantry.CodeUnsupportedFormat},
	} {
		if _, err := newRewriter(bytes.NewReader(c.b), int64(len(c.b)), DefaultLimits()); gantry.CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %s", name, err, c.code)
		}
	}
}

// TestTurn turns values of every size, and items.
func TestTurn(t *testing.T) {
	t.Parallel()
	big := []byte{0, 8, 0x11, 0x40, 'S', 'Q', 0, 0, 0, 0, 0, 26, 0xff, 0xfe, 0xe0, 0, 0, 0, 0, 18,
		0, 0x18, 0x10, 0x63, 'F', 'D', 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0}
	want := []byte{8, 0, 0x40, 0x11, 'S', 'Q', 0, 0, 26, 0, 0, 0, 0xfe, 0xff, 0, 0xe0, 18, 0, 0, 0,
		0x18, 0, 0x63, 0x10, 'F', 'D', 8, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0}
	if err := turn(big[:36]); err != nil || !bytes.Equal(big, want) {
		t.Errorf("%x (%v), want %x", big, err, want)
	}
	for cut := 1; cut < 20; cut++ {
		b := []byte{0, 0x18, 0x10, 0x63, 'O', 'L', 0, 0, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8}
		if err := turn(b[:cut]); gantry.CodeOf(err) != gantry.CodeTruncated {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// TestCorpusRewrite writes every image of the corpus as it was, and turns big endian as dcmtk does.
func TestCorpusRewrite(t *testing.T) {
	t.Parallel()
	rows, read := corpus(t)
	for _, r := range rows {
		if r.Expect == "reject" || r.Rows == 0 {
			continue
		}
		b := read(t, r.Path)
		rw := rewriterOf(t, b)
		ts, _ := syntaxOf(r.TransferSyntax)
		got := rewritten(t, rw)
		if !ts.deflated && !ts.big && r.Reason != string(CodeOutOfOrder) && !bytes.Contains(b, got) && !groupLengths(b) {
			t.Errorf("%s: other bytes", r.Path)
		}
		if ts.encapsulated || ts.deflated || r.Frames < 2 && r.Path != "dicom/files/CT_small.dcm" || rw.has(0x00280106) {
			continue
		}
		big, little := filepath.Join(t.TempDir(), "big.dcm"), filepath.Join(t.TempDir(), "little.dcm")
		tool(t, "dcmconv", "+tb", "-e", filepath.Join(os.Getenv("GANTRY_CORPUS"), r.Path), big)
		tool(t, "dcmconv", "+te", "-e", big, little)
		if !bytes.Equal(rewritten(t, rewriterOf(t, mustRead(t, big))), rewritten(t, rewriterOf(t, mustRead(t, little)))) {
			t.Errorf("%s: big endian is turned in another way than dcmtk's", r.Path)
		}
	}
}

// groupLengths tells whether a data set has the retired lengths of groups, which are dropped.
func groupLengths(b []byte) bool {
	return bytes.Contains(b, binary.LittleEndian.AppendUint32([]byte{8, 0, 0, 0}, 4)) || bytes.Contains(b, []byte{8, 0, 0, 0, 'U', 'L', 4, 0})
}

func mustRead(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
