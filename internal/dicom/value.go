package dicom

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

// The elements whose values the verdict needs, as far as they are not in meta.go.
const (
	tagCharset     = 0x00080005
	tagClass       = 0x00080016
	tagInstance    = 0x00080018
	tagModality    = 0x00080060
	tagStudy       = 0x0020000d
	tagSeries      = 0x0020000e
	tagSamples     = 0x00280002
	tagPhotometric = 0x00280004
	tagFrames      = 0x00280008
	tagRows        = 0x00280010
	tagColumns     = 0x00280011
	tagBits        = 0x00280100
	tagModalityLUT = 0x00283000
	tagFloatPixels = 0x7fe00008
	tagDoublePixel = 0x7fe00009
	tagPixelData   = 0x7fe00010
)

const (
	slotMetaLength = iota
	slotMetaClass
	slotMetaInstance
	slotMetaSyntax
	slotCharset
	slotClass
	slotInstance
	slotModality
	slotStudy
	slotSeries
	slotSamples
	slotPhotometric
	slotFrames
	slotRows
	slotColumns
	slotBits
	slots
)

// heldMax is how much of a value is kept. No sound one of those above is longer but a list of
// character sets.
const heldMax = 256

// held is a value kept for the verdict.
type held struct {
	present bool
	vr      vr // 0 if implicit
	at      int64
	big     bool
	whole   bool // not cut at heldMax
	value   []byte
}

// text is the value without its padding.
func (h held) text() string { return string(bytes.Trim(h.value, " \x00")) }

// slot gives the place of a value of the outermost data set and the VR that it must have.
func slot(t uint32) (i int, v vr) {
	switch t {
	case tagMetaLength:
		return slotMetaLength, vrUL
	case tagMetaClass:
		return slotMetaClass, vrUI
	case tagMetaInstance:
		return slotMetaInstance, vrUI
	case tagMetaSyntax:
		return slotMetaSyntax, vrUI
	case tagCharset:
		return slotCharset, vrCS
	case tagClass:
		return slotClass, vrUI
	case tagInstance:
		return slotInstance, vrUI
	case tagModality:
		return slotModality, vrCS
	case tagStudy:
		return slotStudy, vrUI
	case tagSeries:
		return slotSeries, vrUI
	case tagSamples:
		return slotSamples, vrUS
	case tagPhotometric:
		return slotPhotometric, vrCS
	case tagFrames:
		return slotFrames, vrIS
	case tagRows:
		return slotRows, vrUS
	case tagColumns:
		return slotColumns, vrUS
	case tagBits:
		return slotBits, vrUS
	}
	return -1, 0
}

// leaf reads a value that is neither sequence nor pixel data.
func (s *scanner) leaf(f *frame, e element) error {
	if err := s.fits(f, e.length, e); err != nil {
		return err
	}
	if s.leaves != nil && e.tag>>16 != groupMeta {
		if err := s.leaves(e); err != nil {
			return err
		}
	}
	if len(s.stack) == 1 {
		if e.tag == tagFloatPixels || e.tag == tagDoublePixel {
			return s.nativePixels(e)
		}
		if err := s.hold(f, e); err != nil {
			return err
		}
	} else if e.tag == tagCharset {
		b, err := s.src.peek(int(min(e.length, heldMax)))
		if err != nil {
			return err
		}
		s.charset(string(b), e.length <= heldMax)
	}
	if e.vr.chars() != notText && e.length <= min(s.lim.MaxValue, hugeLength) {
		return s.text(e)
	}
	return s.past(e, e.length)
}

// hold keeps the value of an element that the verdict needs, or shows it to the visitor.
func (s *scanner) hold(f *frame, e element) error {
	i, want := slot(e.tag)
	if i >= 0 {
		if e.explicit && e.vr != want && e.vr != vrUN {
			return refuse(CodeBadVR, e.tag, e.at, "not the VR of this element")
		}
		b, err := s.src.peek(int(min(e.length, heldMax)))
		if err != nil {
			return err
		}
		s.held[i] = held{present: true, vr: e.vr, at: e.at, big: f.big && e.vr != vrUN,
			whole: e.length <= heldMax, value: bytes.Clone(b)}
		if i == slotCharset {
			s.charset(string(b), e.length <= heldMax)
		}
	}
	if s.visit != nil && e.length <= maxTagValue && e.tag>>16 != groupMeta {
		b, err := s.src.peek(int(e.length))
		if err != nil {
			return err
		}
		s.visit(e, b)
	}
	return nil
}

// charset checks the terms of a Specific Character Set, of any data set.
func (s *scanner) charset(value string, whole bool) {
	if !whole {
		s.warn(CodeUnknownCharset)
		return
	}
	for _, t := range charsets(value) {
		ok, extension := knownCharset(t)
		if !ok {
			s.warn(CodeUnknownCharset)
		}
		s.escapes = s.escapes || extension
	}
}

// text goes past a text and looks for control characters, which are harmless here but not in
// headers, terminals and tables (PS3.5 section 6.1.3). NULs at the end are padding.
func (s *scanner) text(e element) error {
	rule, nul, bad := e.vr.chars(), false, false
	for left := e.length; left > 0; {
		b, err := s.src.chunk(left)
		if err != nil {
			return err
		}
		left -= int64(len(b))
		for _, c := range b {
			switch {
			case c == 0:
				nul = true
			case c < ' ' && !s.control(c, rule), c == 0x7f, nul && c != ' ':
				bad = true
			}
		}
	}
	if bad {
		s.warn(CodeControlCharacters)
	}
	return nil
}

func (s *scanner) control(c byte, rule charRule) bool {
	switch c {
	case '\t', '\n', '\f', '\r':
		return rule == freeText
	case 0x1b:
		return s.escapes
	}
	return false
}

// number is the value of an US element, at least 1.
func (s *scanner) number(i int, tag uint32) (int, error) {
	h := s.held[i]
	if !h.present || len(h.value) != 2 {
		return 0, refuse(CodeBadValue, tag, h.at, "not one 16-bit number")
	}
	n := binary.LittleEndian.Uint16(h.value)
	if h.big {
		n = binary.BigEndian.Uint16(h.value)
	}
	if n == 0 {
		return 0, refuse(CodeBadValue, tag, h.at, "is 0")
	}
	return int(n), nil
}

// frames is Number of Frames, 1 where it is missing or empty.
func (s *scanner) frames() (int, error) {
	h := s.held[slotFrames]
	t := h.text()
	if t == "" && h.whole || !h.present {
		return 1, nil
	}
	n, err := strconv.ParseInt(t, 10, 32)
	if err != nil || n < 1 || !h.whole {
		return 0, refuse(CodeBadValue, tagFrames, h.at, "not a number of frames")
	}
	return int(n), nil
}
