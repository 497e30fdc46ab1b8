package dicom

import (
	"bytes"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func tags(t *testing.T, b []byte) map[string]string {
	t.Helper()
	m, err := Tags(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The same data set gives the same tags in every encoding.
func TestTagsEncodings(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"SOPClassUID": ClassSecondaryCapture, "SOPInstanceUID": goodUID, "Modality": "OT", "PatientName": "Adams^Amy",
		"PatientID": "ID-1", "StudyInstanceUID": "2.25.7002", "SeriesInstanceUID": "2.25.7003", "SamplesPerPixel": "1",
		"PhotometricInterpretation": "MONOCHROME2", "Rows": "4", "Columns": "4", "BitsAllocated": "16", "BitsStored": "16",
		"HighBit": "15", "PixelRepresentation": "0",
	}
	for _, ts := range []string{syntaxExplicit, syntaxImplicit, syntaxBig, syntaxDeflated} {
		want[keywordSyntax] = ts
		if d := cmp.Diff(want, tags(t, spec{ts: ts}.bytes())); d != "" {
			t.Errorf("%s:\n%s", ts, d)
		}
	}
	for name, s := range goods() {
		if m := tags(t, s.bytes()); m["PatientName"] != "Adams^Amy" || m["Rows"] != "4" {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestTagsCharsets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ charset, name, want string }{
		{"", "Amy", "Amy"},
		{"ISO_IR 192", "Ärzte^Ω", "Ärzte^Ω"},
		{"ISO_IR 100", "J\xe9r\xf4me", "Jérôme"},
		{"ISO_IR 144", "\xbb\xee", "Лю"},
		{"ISO_IR 166", "\xa1\xa2", "กข"},
		{"ISO_IR 203", "\xa4a\xbe", "€aŸ"},
		{"GB18030", "\xcd\xf5", "王"},
		{`\ISO 2022 IR 87`, "Yamada=\x1b$B;3ED\x1b(B", "Yamada=山田"},
		{"ISO_IR 999", "A\xff", "A\ufffd"},
		{"ISO 2022 IR 166", "A\xa1", "A\ufffd"},
		{"", "A\xff", "A\ufffd"},
	} {
		s := with(0x00100010, str("PN", c.name))
		if c.charset != "" {
			s.set[tagCharset] = str("CS", c.charset)
		}
		if got := tags(t, s.bytes())["PatientName"]; got != c.want {
			t.Errorf("%s: %q, want %q", c.charset, got, c.want)
		}
	}
}

// Every term that the table calls the library's own must be so: it panics on some.
func TestTagsEveryCharset(t *testing.T) {
	t.Parallel()
	n := 0
	for _, prefix := range []string{"ISO_IR ", "ISO 2022 IR "} {
		for _, number := range strings.Fields("6 13 58 87 100 101 109 110 126 127 138 144 148 149 159 166 192 203") {
			term := prefix + number
			if ok, _ := knownCharset(term); !ok {
				continue
			}
			n++
			for _, value := range []string{term, `\` + term, term + `\ISO 2022 IR 87`} {
				s := with(tagCharset, str("CS", value))
				if got := tags(t, s.bytes())["PatientName"]; got != "Adams^Amy" {
					t.Errorf("%s: %q", value, got)
				}
			}
		}
	}
	if n < 31 {
		t.Errorf("%d terms known, want at least 31", n)
	}
}

func TestTagsLeavesOut(t *testing.T) {
	t.Parallel()
	s := spec{set: map[uint32]val{
		0x00104000: str("LT", strings.Repeat("x", maxTagValue+2)), // too long
		0x00080050: str("SH", ""),                                 // empty
		0x00090010: str("LO", "PRIVATE"), 0x00091001: str("LO", "private"),
		0x00100000: {"UL", []byte{4, 0, 0, 0}},
		0x00081030: str("LO", `a\b`),
		0x00181310: {"US", []byte{1, 0, 2, 0}},
		0x00189087: {"FD", []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x3f}},
		0x00280034: {"UN", []byte(`1\2`)},
		0x7fe10010: str("LO", "behind the pixels"),
	}, raw: map[uint32][]byte{0x00081140: sq(true, 0x00081140, it(true, ex(0x00081150, str("UI", "1.2")))),
		0x00280106: append(ex(0x00280106, val{"US", nil}, 3), 1, 2, 3)}} // no whole numbers
	m := tags(t, s.bytes())
	for _, k := range []string{"PatientComments", "AccessionNumber", "SmallestImagePixelValue", "GenericGroupLength",
		"ReferencedImageSequence", "ReferencedSOPClassUID", "PixelData"} {
		if v, ok := m[k]; ok {
			t.Errorf("%s is there: %q", k, v)
		}
	}
	for k, want := range map[string]string{"StudyDescription": `a\b`, "AcquisitionMatrix": `1\2`, "DiffusionBValue": "1.5", "PixelAspectRatio": `1\2`} {
		if m[k] != want {
			t.Errorf("%s = %q, want %q", k, m[k], want)
		}
	}
	for k, v := range m {
		if strings.Contains(v, "rivate") || strings.Contains(v, "behind") {
			t.Errorf("%s = %q", k, v)
		}
	}
}

func TestTagsBounded(t *testing.T) {
	t.Parallel()
	s := spec{set: map[uint32]val{}}
	for i := range uint32(100) {
		s.set[0x60003000+i<<16] = str("LT", strings.Repeat("x", maxTagValue-2))
	}
	for i := range uint32(100) {
		s.set[0x00204000+2*i] = str("LT", strings.Repeat("x", maxTagValue-2))
	}
	b := s.bytes()
	if _, err := Tags(bytes.NewReader(b), int64(len(b))); gantry.CodeOf(err) != gantry.CodeTooLarge {
		t.Errorf("%v, want too_large", err)
	}
}

// What Scan refuses Tags refuses too, before the library sees it.
func TestTagsGuarded(t *testing.T) {
	t.Parallel()
	for name, b := range map[string][]byte{
		"deep":           raw(0x0040a730, nest(100000, true)).bytes(),
		"4 GiB":          raw(0x00091001, ex(0x00091001, val{"OB", nil}, 0xf0000000)).bytes(),
		"unknown syntax": spec{ts: "1.2.840.10008.1.2.4.999"}.bytes(),
		"not DICOM":      make([]byte, 500),
	} {
		if _, err := Tags(bytes.NewReader(b), int64(len(b))); gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%s: %v", name, err)
		}
	}
	lost := gantry.Errorf(gantry.Unavailable, "", "lost")
	if _, err := Tags(iotest.ErrReader(lost), -1); err == nil || gantry.KindOf(err) != gantry.Unavailable {
		t.Errorf("the reader's error: %v", err)
	}
	b := goods()["deflated"].bytes()
	cut := io.MultiReader(bytes.NewReader(b[:len(b)-40]), iotest.ErrReader(lost))
	if _, err := Tags(cut, -1); gantry.KindOf(err) != gantry.Unavailable {
		t.Errorf("the reader's error while inflating: %v", err)
	}
}

// An element that the library would read as something else than Scan does: a 64-bit VR whose
// bytes, read with a short length, would be a deep nest.
func TestTagsNoSecondReading(t *testing.T) {
	t.Parallel()
	s := with(0x00091001, val{"OV", slices.Concat(nest(50000, true))})
	if m := tags(t, s.bytes()); m["PatientName"] != "Adams^Amy" {
		t.Errorf("got %v", slices.Sorted(maps.Keys(m)))
	}
}

// A panic of the library is a refusal without its text.
func TestTagsRecovers(t *testing.T) {
	t.Parallel()
	c := &collector{elements: []collected{{tagCharset, vrUN, []byte("SECRET")}}}
	_, err := c.parse(false, "")
	if gantry.CodeOf(err) != gantry.CodeMalformed || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("got %v", err)
	}
}
