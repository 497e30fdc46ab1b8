package dicom

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// with is the sound image with one element changed.
func with(tag uint32, v val) spec { return spec{set: map[uint32]val{tag: v}} }

// raw is the sound image with bytes in the place of an element.
func raw(tag uint32, b ...[]byte) spec {
	return spec{raw: map[uint32][]byte{tag: slices.Concat(b...)}}
}

// coded is an image in a transfer syntax with the given pixel data.
func coded(ts string, px []byte) spec {
	s := raw(tagPixelData, px)
	s.ts, s.set = ts, eight()
	return s
}

func TestScanRefuses(t *testing.T) {
	t.Parallel()
	ff := func(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }
	frames := func(s string) spec { return with(tagFrames, str("IS", s)) }
	comment := uint32(0x00104000)
	for _, c := range []struct {
		name string
		file []byte
		code gantry.Code
	}{
		{"empty", nil, gantry.CodeEmpty},
		{"one byte", []byte{0}, CodeNotDICOM},
		{"131 bytes", make([]byte, 131), CodeNotDICOM},
		{"text", []byte(strings.Repeat("<html>", 100)), CodeNotDICOM},
		{"preamble only", append(make([]byte, 128), "DICM"...), gantry.CodeTruncated},
		{"no transfer syntax", spec{ts: "-"}.bytes(), CodeMissingSyntax},
		{"private transfer syntax", spec{ts: "1.2.840.113619.5.2"}.bytes(), CodeUnsupportedSyntax},
		{"unknown transfer syntax", spec{ts: "1.2.840.10008.1.2.4.999"}.bytes(), CodeUnsupportedSyntax},
		{"prefix of a transfer syntax", spec{ts: "1.2.840.10008.1.2.4"}.bytes(), CodeUnsupportedSyntax},
		{"group length past the end", spec{length: 100000}.bytes(), gantry.CodeTruncated},
		{"group length of 4 GiB", spec{length: 0xf0000000}.bytes(), CodeLengthOutOfBounds},
		{"sequence in the meta", append(append(make([]byte, 128), "DICM"...), sq(true, 0x00020001, it(true))...), gantry.CodeMalformed},

		{"OB of 4 GiB", raw(tagPixelData, ex(tagPixelData, val{"OB", ff(4)}, 0xf0000000)).bytes(), CodeLengthOutOfBounds},
		{"UT of 4 GiB", raw(0x0040a160, ex(0x0040a160, val{"UT", ff(4)}, 0xf0000000)).bytes(), CodeLengthOutOfBounds},
		{"implicit of 4 GiB", spec{ts: syntaxImplicit, raw: map[uint32][]byte{comment: el(false, true, comment, str("LT", "abcd"), 0xfffffffe)}}.bytes(), CodeLengthOutOfBounds},
		{"OB past the end", raw(tagPixelData, ex(tagPixelData, val{"OB", ff(4)}, 4000)).bytes(), gantry.CodeTruncated},
		{"past its item", raw(0x00081140, sq(false, 0x00081140, append(head(tagItem, 18), ex(0x00081150, str("UI", "1.2.3.4.56"), 200)...))).bytes(), CodeLengthOutOfBounds},
		{"item past its sequence", raw(0x00081140, sq(false, 0x00081140, append(head(tagItem, 400), ex(0x00081150, str("UI", "1.2.3.4.56"))...))).bytes(), CodeLengthOutOfBounds},
		{"sequence past its item", raw(0x00081140, sq(true, 0x00081140, it(false, ex(0x00081199, val{"SQ", nil}, 40)))).bytes(), CodeLengthOutOfBounds},
		{"open item past its sequence", raw(0x00081140, ex(0x00081140, val{"SQ", head(tagItem, undefined)})).bytes(), CodeLengthOutOfBounds},
		{"seven bytes left in an item", raw(0x00081140, sq(true, 0x00081140, it(false, ff(7)))).bytes(), CodeLengthOutOfBounds},
		{"fragment past the end", coded(tsJPEG, append(ex(tagPixelData, val{"OB", nil}, undefined), head(tagItem, 4000)...)).bytes(), gantry.CodeTruncated},

		{"no VR", raw(comment, ex(comment, val{"\xff\xff", ff(4)})).bytes(), CodeBadVR},
		{"VR of the future", raw(comment, ex(comment, val{"ZZ", ff(4)})).bytes(), CodeBadVR},
		{"UT of undefined length", raw(0x0040a160, ex(0x0040a160, str("UT", "abcd"), undefined)).bytes(), gantry.CodeMalformed},
		{"OB of undefined length", raw(0x00091001, ex(0x00091001, val{"OB", nil}, undefined), it(false), head(tagSeqEnd, 0)).bytes(), gantry.CodeMalformed},
		{"implicit text of undefined length", spec{ts: syntaxImplicit, raw: map[uint32][]byte{comment: head(comment, undefined)}}.bytes(), gantry.CodeMalformed},
		{"native pixels of undefined length", raw(tagPixelData, encap(nil, ff(32))).bytes(), gantry.CodeMalformed},
		{"encapsulated pixels of defined length", spec{ts: tsJPEG}.bytes(), gantry.CodeMalformed},
		{"delimiter outside", raw(comment, head(tagItemEnd, 0)).bytes(), gantry.CodeMalformed},
		{"delimiter with a length", raw(0x00081140, ex(0x00081140, val{"SQ", nil}, undefined), head(tagSeqEnd, 4)).bytes(), gantry.CodeMalformed},
		{"item end with a length", raw(0x00081140, sq(true, 0x00081140, append(head(tagItem, undefined), head(tagItemEnd, undefined)...))).bytes(), gantry.CodeMalformed},
		{"element for an item", raw(0x00081140, sq(true, 0x00081140, ex(0x00081150, str("UI", "1.2")))).bytes(), gantry.CodeMalformed},
		{"zeros behind", spec{tail: make([]byte, 64)}.bytes(), CodeBadVR},
		{"zeros behind implicit", spec{ts: syntaxImplicit, tail: make([]byte, 64)}.bytes(), gantry.CodeMalformed},
		{"meta again", raw(comment, ex(tagMetaInstance, str("UI", "1.2"))).bytes(), gantry.CodeMalformed},
		{"bytes behind the deflated", spec{ts: syntaxDeflated, tail: ff(10)}.bytes(), gantry.CodeMalformed},
		{"corrupt deflated", slices.Concat(spec{}.header(syntaxDeflated), ff(100)), gantry.CodeMalformed},

		{"33 levels", raw(0x0040a730, nest(33, true)).bytes(), CodeTooDeep},
		{"2,000 levels", raw(0x0040a730, nest(2000, false)).bytes(), CodeTooDeep},
		{"1,000,000 levels", raw(0x0040a730, nest(1000000, true)).bytes(), CodeTooDeep},

		{"twice", raw(0x00100020, ex(0x00100020, str("LO", "A")), ex(0x00100020, str("LO", "B"))).bytes(), CodeDuplicateElement},
		{"twice, with another between", raw(0x00100020, ex(0x00100020, str("LO", "A")), ex(0x00100030, str("DA", "")), ex(0x00100020, str("LO", "B"))).bytes(), CodeDuplicateElement},
		{"twice in an item", raw(0x00081140, sq(true, 0x00081140, it(false, ex(0x00081150, str("UI", "1")), ex(0x00081150, str("UI", "2"))))).bytes(), CodeDuplicateElement},
		{"twice in the meta", append(append(make([]byte, 128), "DICM"...), bytes.Repeat(ex(tagMetaSyntax, str("UI", syntaxExplicit)), 2)...), CodeDuplicateElement},
		{"two kinds of pixels", with(tagFloatPixels, val{"OF", make([]byte, 64)}).bytes(), CodeDuplicateElement},

		{"no SOP instance", spec{drop: []uint32{tagInstance}}.bytes(), CodeMissingUID},
		{"no SOP class", spec{drop: []uint32{tagClass}}.bytes(), CodeMissingUID},
		{"UID as a path", with(tagInstance, str("UI", "../../../etc/evil")).bytes(), CodeBadUID},
		{"UID of dots", with(tagInstance, str("UI", "..")).bytes(), CodeBadUID},
		{"UID of 200", with(tagSeries, str("UI", "1."+strings.Repeat("2", 198))).bytes(), CodeBadUID},
		{"UID with something far behind it", with(tagStudy, str("UI", "1.2"+strings.Repeat(" ", 300)+"x")).bytes(), CodeBadUID},
		{"two UIDs", with(tagStudy, str("UI", `1.2\1.3`)).bytes(), CodeBadUID},

		{"frames 3", frames("3").bytes(), CodePixelSize},
		{"frames 2e9", frames("2000000000").bytes(), CodePixelSize},
		{"frames -1", frames("-1").bytes(), CodeBadValue},
		{"frames 0", frames("0").bytes(), CodeBadValue},
		{"frames 1A", frames("1A").bytes(), CodeBadValue},
		{"frames 1e12", frames("999999999999").bytes(), CodeBadValue},
		{"frames far behind spaces", frames(strings.Repeat(" ", 300) + "9").bytes(), CodeBadValue},
		{"frames with something far behind", frames("1" + strings.Repeat(" ", 300) + "9").bytes(), CodeBadValue},
		{"two frames values", frames(`1\1`).bytes(), CodeBadValue},
		{"rows 0", with(tagRows, short(0)).bytes(), CodeBadValue},
		{"no rows", spec{drop: []uint32{tagRows}}.bytes(), CodeBadValue},
		{"two rows", with(tagRows, val{"US", []byte{4, 0, 4, 0}}).bytes(), CodeBadValue},
		{"rows as text", with(tagRows, str("LO", "4")).bytes(), CodeBadVR},
		{"bits 12", with(tagBits, short(12)).bytes(), CodeBadValue},
		{"bits 65528", with(tagBits, short(65528)).bytes(), CodeBadValue},
		{"no samples per pixel", spec{drop: []uint32{tagSamples}}.bytes(), CodeBadValue},
		{"65535 rows and columns", spec{set: map[uint32]val{tagRows: short(65535), tagColumns: short(65535)}}.bytes(), CodePixelSize},
		{"no pixels", spec{drop: []uint32{tagPixelData}}.bytes(), CodeNoPixelData},
		{"a private image without pixels", spec{drop: []uint32{tagPixelData}, set: map[uint32]val{tagClass: str("UI", "1.2.3")}}.bytes(), CodeNoPixelData},
		{"pixels as text", raw(tagPixelData, ex(tagPixelData, str("UT", "abcd"))).bytes(), CodeBadVR},

		{"another JPEG size", coded(tsJPEG, encap(nil, jpegStream(65535, 65535, 0xc1))).bytes(), CodePixelSize},
		{"another JPEG-LS size", coded(tsLS, encap(nil, jpegStream(4, 5, 0xf7))).bytes(), CodePixelSize},
		{"another JPEG 2000 size", coded(tsJ2K, encap(nil, j2kStream(1<<31, 4))).bytes(), CodePixelSize},
		{"two JPEG sizes", coded(tsJPEG, encap(nil, jpegStream(5, 4, 0xc0), jpegStream(4, 4, 0xc0))).bytes(), CodePixelSize},
		{"JPEG without a frame header", coded(tsJPEG, encap(nil, []byte("\xff\xd8\xff\xda\x00\x02"))).bytes(), gantry.CodeMalformed},
		{"JPEG segment past its fragment", coded(tsJPEG, encap(nil, []byte("\xff\xd8\xff\xe0\xff\xff"))).bytes(), gantry.CodeMalformed},
		{"JPEG cut in the frame header", coded(tsJPEG, encap(nil, jpegStream(4, 4, 0xc0)[:16])).bytes(), gantry.CodeMalformed},
		{"no JPEG", coded(tsJPEG, encap(nil, []byte("nothing"))).bytes(), gantry.CodeMalformed},
		{"no JPEG 2000", coded(tsJ2K, encap(nil, []byte("nothing"))).bytes(), gantry.CodeMalformed},
		{"JPEG 2000 of 20 bytes", coded(tsJ2K, encap(nil, j2kStream(4, 4)[:20])).bytes(), gantry.CodeMalformed},
		{"RLE without header", coded(tsRLE, encap(nil, []byte{1, 0})).bytes(), gantry.CodeMalformed},
		{"RLE of 16 segments", coded(tsRLE, encap(nil, rleStream(16, 64))).bytes(), gantry.CodeMalformed},
		{"RLE segment outside", coded(tsRLE, encap(nil, rleStream(2, 64, 5000))).bytes(), CodeLengthOutOfBounds},
		{"RLE of two samples", coded(tsRLE, encap(nil, rleStream(2, 64, 66))).bytes(), CodePixelSize},
		{"no fragments", coded(tsJPEG, encap(nil)).bytes(), CodePixelSize},
		{"one fragment for two frames", func() []byte {
			s := coded(tsJPEG, encap(nil, jpegStream(4, 4, 0xc0)))
			s.set[tagFrames] = str("IS", "2")
			return s.bytes()
		}(), CodePixelSize},
		{"offset table of 3 bytes", coded(tsJPEG, encap([]byte{1, 2, 3}, jpegStream(4, 4, 0xc0))).bytes(), gantry.CodeMalformed},
		{"fragment of undefined length", coded(tsJPEG, append(ex(tagPixelData, val{"OB", nil}, undefined), head(tagItem, undefined)...)).bytes(), gantry.CodeMalformed},
		{"element among fragments", coded(tsJPEG, append(ex(tagPixelData, val{"OB", nil}, undefined), ex(0x7fe10010, str("LO", "x"))...)).bytes(), gantry.CodeMalformed},
		{"delimiter for the offset table", coded(tsJPEG, append(ex(tagPixelData, val{"OB", nil}, undefined), head(tagSeqEnd, 0)...)).bytes(), gantry.CodeMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in, err := scan(t, c.file)
			if gantry.CodeOf(err) != c.code || gantry.KindOf(err) != gantry.Illegal {
				t.Fatalf("%v (%v), want %s", err, gantry.CodeOf(err), c.code)
			}
			if in.Size != int64(len(c.file)) || in.SHA.IsZero() {
				t.Errorf("read %d of %d bytes, digest %s", in.Size, len(c.file), in.SHA)
			}
		})
	}
}
