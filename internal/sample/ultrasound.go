package sample

import (
	"encoding/binary"
	"fmt"
	"image"
	"strconv"
)

// classUltrasound is Ultrasound Multi-frame Image Storage (PS3.4 annex B.5).
const classUltrasound = "1.2.840.10008.5.1.4.1.1.3.1"

const (
	syntaxExplicit = "1.2.840.10008.1.2.1"
	implementation = "2.25.76683766776530815108235131587827429264" // of gantry, as package dicom writes it
	frameTime      = 40                                            // milliseconds
)

// Ultrasound is Loop as one multi-frame DICOM file (PS3.3 section A.7), 8-bit grey, in explicit
// little endian, 25 frames a second. The UIDs depend on the numbers alone. It is nil if a number is
// not from 1 to 65535.
func Ultrasound(frames, width, height int) []byte {
	if min(frames, width, height) < 1 || max(frames, width, height) > 65535 {
		return nil
	}
	name := fmt.Sprintf("us %d %d %d", frames, width, height)
	instance := uid(name + " instance")
	meta := set{}
	meta.bytes(0x00020001, "OB", []byte{0, 1})
	meta.text(0x00020002, "UI", classUltrasound)
	meta.text(0x00020003, "UI", instance)
	meta.text(0x00020010, "UI", syntaxExplicit)
	meta.text(0x00020012, "UI", implementation)
	meta.text(0x00020013, "SH", "GANTRY")
	d := set(append(make([]byte, 128), "DICM"...))
	d.bytes(0x00020000, "UL", binary.LittleEndian.AppendUint32(nil, uint32(len(meta))))
	d = append(d, meta...)
	d.about(name, instance)
	d.picture(Loop(frames, width, height), width, height)
	return d
}

// set is a data set in explicit little endian. Elements are added in the order of their tags.
type set []byte

// about adds who, what and when.
func (d *set) about(name, instance string) {
	d.text(0x00080008, "CS", `DERIVED\SECONDARY`)
	d.text(0x00080016, "UI", classUltrasound)
	d.text(0x00080018, "UI", instance)
	d.text(0x00080020, "DA", "20260101")
	d.text(0x00080023, "DA", "20260101")
	d.text(0x00080030, "TM", "120000")
	d.text(0x00080033, "TM", "120000")
	d.text(0x00080050, "SH", "")
	d.text(0x00080060, "CS", "US")
	d.text(0x00080070, "LO", "gantry")
	d.text(0x00080090, "PN", "")
	d.text(0x00081030, "LO", "Computed phantom")
	d.text(0x0008103e, "LO", "Heart, one beat")
	d.text(0x00100010, "PN", "Phantom^Heart")
	d.text(0x00100020, "LO", "GANTRY-PHANTOM")
	d.text(0x00100030, "DA", "")
	d.text(0x00100040, "CS", "")
	d.text(0x00180015, "CS", "HEART")
	d.text(0x00181063, "DS", strconv.Itoa(frameTime))
	d.text(0x0020000d, "UI", uid(name+" study"))
	d.text(0x0020000e, "UI", uid(name+" series"))
	d.text(0x00200010, "SH", "1")
	d.text(0x00200011, "IS", "1")
	d.text(0x00200013, "IS", "1")
	d.text(0x00200020, "CS", "")
}

// picture adds the frames.
func (d *set) picture(frames []*image.Gray, width, height int) {
	d.number(0x00280002, 1)
	d.text(0x00280004, "CS", "MONOCHROME2")
	d.text(0x00280008, "IS", strconv.Itoa(len(frames)))
	d.bytes(0x00280009, "AT", []byte{0x18, 0x00, 0x63, 0x10}) // the Frame Time above
	d.number(0x00280010, height)
	d.number(0x00280011, width)
	d.number(0x00280100, 8)
	d.number(0x00280101, 8)
	d.number(0x00280102, 7)
	d.number(0x00280103, 0)
	d.text(0x00280301, "CS", "NO")
	d.text(0x00282110, "CS", "00")
	var pix []byte
	for _, m := range frames {
		pix = append(pix, m.Pix...)
	}
	d.bytes(0x7fe00010, "OB", pix)
}

func (d *set) number(tag uint32, n int) {
	d.bytes(tag, "US", binary.LittleEndian.AppendUint16(nil, uint16(n)))
}

func (d *set) text(tag uint32, vr, s string) {
	b := []byte(s)
	if len(b)%2 == 1 && vr == "UI" {
		b = append(b, 0)
	} else if len(b)%2 == 1 {
		b = append(b, ' ')
	}
	d.bytes(tag, vr, b)
}

// bytes adds an element (PS3.5 section 7.1.2).
func (d *set) bytes(tag uint32, vr string, b []byte) {
	out := binary.LittleEndian.AppendUint16(*d, uint16(tag>>16))
	out = append(binary.LittleEndian.AppendUint16(out, uint16(tag)), vr...)
	if n := len(b) + len(b)%2; vr == "OB" {
		out = binary.LittleEndian.AppendUint32(append(out, 0, 0), uint32(n))
	} else {
		out = binary.LittleEndian.AppendUint16(out, uint16(n))
	}
	out = append(out, b...)
	*d = append(out, make([]byte, len(b)%2)...)
}
