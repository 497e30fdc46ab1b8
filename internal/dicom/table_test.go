package dicom

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	library "github.com/suyashkumar/dicom"
	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSyntaxes names every transfer syntax that is taken and those that must not be.
func TestSyntaxes(t *testing.T) {
	t.Parallel()
	const root = "1.2.840.10008.1.2"
	for _, c := range []struct {
		uids string // behind the root
		want syntax
	}{
		{"", syntax{implicit: true}},
		{".1", syntax{}},
		{".1.99", syntax{deflated: true}},
		{".2", syntax{big: true}},
		{".1.98", syntax{encapsulated: true}},
		{".5", syntax{encapsulated: true, codec: rleCodec}},
		{".4.50 .4.51 .4.57 .4.70 .4.80 .4.81", syntax{encapsulated: true, codec: jpegCodec}},
		{".4.52 .4.53 .4.54 .4.55 .4.56 .4.58 .4.59 .4.60 .4.61 .4.62 .4.63 .4.64 .4.65 .4.66", syntax{encapsulated: true, opaque: true, codec: jpegCodec}},
		{".4.90 .4.91 .4.201 .4.202 .4.203", syntax{encapsulated: true, codec: j2kCodec}},
		{".4.92 .4.93", syntax{encapsulated: true, opaque: true, codec: j2kCodec}},
		{".4.100 .4.101 .4.102 .4.103 .4.104 .4.105 .4.106 .4.107 .4.108 .4.100.1 .4.106.1", syntax{encapsulated: true, codec: videoCodec}},
		{".4.110 .4.111 .4.112 .8.1", syntax{encapsulated: true, opaque: true}},
	} {
		for _, u := range strings.Split(c.uids, " ") {
			c.want.uid = root + u
			if got, ok := syntaxOf(root + u); !ok || got != c.want {
				t.Errorf("%s: %+v, %v; want %+v", root+u, got, ok, c.want)
			}
		}
	}
	for _, u := range []string{"", "1.2", root + ".", root + ".3", root + ".4", root + ".4.5", root + ".4.500", root + ".1.9", root + ".99",
		root + ".1 ", " " + root, "1.2.840.113619.5.2", "1.2.840.10008.1.1", ClassCT} {
		if s, ok := syntaxOf(u); ok {
			t.Errorf("%q is taken: %+v", u, s)
		}
	}
}

// Each VR, alone in a file, is read with the right size of length; an element behind it is found.
func TestEveryVR(t *testing.T) {
	t.Parallel()
	all := strings.Fields("AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SS ST SV TM UC UI UL UN UR US UT UV")
	if len(all) != 33 { // the 34 of PS3.5 without SQ
		t.Fatalf("%d VRs", len(all))
	}
	for _, v := range all {
		for _, n := range []int{0, 2, 8, 300, 65534} {
			s := with(0x00091001, val{v, bytes.Repeat([]byte{'1'}, n)})
			s.set[0x00091002] = str("LO", "behind")
			if in, err := scan(t, s.bytes()); err != nil || len(in.Warnings) > 0 {
				t.Errorf("%s of %d bytes: %v", v, n, err)
			}
		}
	}
	for a := range 256 {
		for _, b := range []byte{0, ' ', 'a', 'Z', 0xff} {
			if ok, _ := (vr(a)<<8 | vr(b)).known(); ok {
				t.Errorf("%q is a VR", []byte{byte(a), b})
			}
		}
	}
}

// What a VR allows, and what tags.go shows of it.
func TestVRProperties(t *testing.T) {
	t.Parallel()
	for names, want := range map[string]struct {
		chars charRule
		unit  int
	}{
		"AE AS CS DA DS DT IS LO PN SH TM UC UI UR": {lineText, 1},
		"LT ST UT":                   {freeText, 1},
		"US SS":                      {notText, 2},
		"UL SL FL":                   {notText, 4},
		"FD":                         {notText, 8},
		"AT OB OD OF OL OV OW SV UV": {notText, 0},
		"SQ UN":                      {notText, 0},
	} {
		for _, n := range strings.Fields(names) {
			v := vr(n[0])<<8 | vr(n[1])
			if v.chars() != want.chars || v.unit() != want.unit || v.letters() != n {
				t.Errorf("%s: %v, %d, %s", n, v.chars(), v.unit(), v.letters())
			}
		}
	}
	if got := vr(0).letters(); got != "UN" {
		t.Errorf("no VR is written %s", got)
	}
}

func TestDictionaryVR(t *testing.T) {
	t.Parallel()
	for tag, want := range map[uint32]vr{
		tagClass: vrUI, tagRows: vrUS, tagFrames: vrIS, 0x00100010: vrPN, 0x00081140: vrSQ, 0x0040a730: vrSQ, 0x00281052: vrDS,
		0x00091001: 0, 0x00100000: 0, tagItem: 0, tagSeqEnd: 0, 0x0010ffff: 0,
	} {
		if got := dictionaryVR(tag); got != want {
			t.Errorf("%08x: %s, want %s", tag, got.letters(), want.letters())
		}
	}
}

// A class that must have pixels is refused without them, another is remarked on.
func TestImageClasses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		classes string // behind the root of storage
		image   bool
	}{
		{"1 1.1 1.2 2 2.1 2.2 3.1 4 4.1 6.1 7 7.2 12.1 13.1.3 20 30 66.4 66.7 77.1.6 128 130 481.1", true},
		{"4.2 9.1.1 11.1 66 66.1 66.2 66.5 88.11 88.22 88.33 88.59 88.67 104.1 481.2 481.3 481.5 91.1", false},
	} {
		for _, n := range strings.Fields(c.classes) {
			uid := "1.2.840.10008.5.1.4.1.1." + n
			s := spec{drop: []uint32{tagPixelData, tagRows, tagColumns}, set: map[uint32]val{tagClass: str("UI", uid)}}
			in, err := scan(t, s.bytes())
			if refused := gantry.CodeOf(err) == CodeNoPixelData; refused != c.image {
				t.Errorf("%s: %v, want an image: %v", uid, err, c.image)
			}
			if !c.image && fmt.Sprint(in.Warnings) != "[no_pixel_data]" {
				t.Errorf("%s: warnings %v", uid, in.Warnings)
			}
		}
	}
	for _, u := range []string{"", "1.2", "1.2.840.10008.5.1.4.1.1", "1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.1.1.1.", "1.2.840.10008.5.1.4.1.2.1"} {
		if imageClass(u) {
			t.Errorf("%q is an image class", u)
		}
	}
}

// The single-byte sets of our own, whole: 7-bit bytes stay, each other byte has one meaning.
func TestOwnCharsets(t *testing.T) {
	t.Parallel()
	for _, term := range []string{"ISO_IR 166", "ISO_IR 203"} {
		seen := map[string]byte{}
		for c := 1; c < 256; c++ {
			got, ok := toUTF8(term, []byte{byte(c)})
			if !ok || c < 0x80 && got != string(rune(c)) {
				t.Errorf("%s: %02x is %q", term, c, got)
			}
			if other, twice := seen[got]; twice && got != "\ufffd" {
				t.Errorf("%s: %02x and %02x are both %q", term, other, c, got)
			}
			seen[got] = byte(c)
		}
	}
	for c, want := range map[byte]string{0xa1: "ก", 0xda: "ฺ", 0xdf: "฿", 0xfb: "๛", 0xdb: "\ufffd", 0xfc: "\ufffd"} {
		if got, _ := toUTF8("ISO_IR 166", []byte{c}); got != want {
			t.Errorf("Thai %02x is %q, want %q", c, got, want)
		}
	}
	for c, want := range map[byte]string{0xa4: "€", 0xa6: "Š", 0xa8: "š", 0xb4: "Ž", 0xb8: "ž", 0xbc: "Œ", 0xbd: "œ", 0xbe: "Ÿ", 0xe9: "é", 0xa5: "¥"} {
		if got, _ := toUTF8("ISO_IR 203", []byte{c}); got != want {
			t.Errorf("Latin-9 %02x is %q, want %q", c, got, want)
		}
	}
	if _, ok := toUTF8("ISO_IR 100", nil); ok {
		t.Error("a set of the library's is decoded here")
	}
}

// The library really does not take the terms that are kept from it; when it learns them, this
// test says so and libraryCharset can go.
func TestLibraryLacksCharsets(t *testing.T) {
	t.Parallel()
	for _, term := range []string{"ISO_IR 166", "ISO 2022 IR 166", "ISO_IR 203", "ISO 2022 IR 203"} {
		b := with(tagCharset, str("CS", term)).bytes()
		if err := libraryParse(b); err == nil {
			t.Errorf("%s: the library reads it", term)
		}
	}
	if err := libraryParse(spec{}.bytes()); err != nil {
		t.Errorf("the sound file: %v", err)
	}
}

// libraryParse is the library alone, without our guard.
func libraryParse(b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("panic")
		}
	}()
	set, err := library.Parse(bytes.NewReader(b), int64(len(b)), nil, library.SkipPixelData())
	if err == nil {
		_, err = set.FindElementByTag(tag.PatientName)
	}
	return err
}
