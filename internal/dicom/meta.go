package dicom

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	preambleSize = 128
	groupMeta    = 0x0002

	tagMetaLength   = 0x00020000
	tagMetaClass    = 0x00020002
	tagMetaInstance = 0x00020003
	tagMetaSyntax   = 0x00020010
)

// readMeta reads the preamble and the file meta information (PS3.10 section 7.1), always in
// explicit little endian, and settles the transfer syntax.
func (s *scanner) readMeta() error {
	head, err := s.src.peek(preambleSize + 4)
	if err != nil && !errors.Is(err, errShort) {
		return err
	}
	if len(head) == 0 {
		return gantry.Errorf(gantry.Illegal, gantry.CodeEmpty, "no bytes")
	}
	if err != nil || string(head[preambleSize:]) != "DICM" {
		return gantry.Errorf(gantry.Illegal, CodeNotDICOM, "no DICM at byte %d", preambleSize)
	}
	if executable(head) {
		s.warn(CodeExecutablePreamble)
	}
	if err := s.src.skip(preambleSize + 4); err != nil {
		return err
	}
	if err := s.metaElements(); err != nil {
		return err
	}
	return s.settleSyntax()
}

// executable tells whether the preamble begins a program: PE, ELF, Mach-O or a script. A TIFF
// there is usual in whole-slide files.
func executable(head []byte) bool {
	for _, magic := range []string{"MZ", "\x7fELF", "#!", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf",
		"\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return false
}

// metaElements reads group 2. Where its length is given it ends there, since the first bytes of
// a deflated data set may look like one more element.
func (s *scanner) metaElements() error {
	s.stack = append(s.stack[:0], s.root(false, false))
	end := int64(-1)
	for first := true; ; first = false {
		if end >= 0 && s.src.pos() >= end {
			break
		}
		if b, err := s.src.peek(2); err != nil || binary.LittleEndian.Uint16(b) != groupMeta {
			if err != nil && !errors.Is(err, errShort) {
				return err
			}
			if err != nil && (first || end >= 0 || len(b) == 1) {
				return errShort
			}
			break
		}
		e, err := s.metaElement()
		if err != nil {
			return err
		}
		if first {
			end, err = s.metaEnd(e)
			if err != nil {
				return err
			}
		}
	}
	if end >= 0 && s.src.pos() != end {
		s.warn(CodeWrongGroupLength)
	}
	return nil
}

func (s *scanner) metaElement() (element, error) {
	f := &s.stack[0]
	e, err := s.header(f)
	if err != nil {
		return e, err
	}
	if err := s.order(f, e); err != nil {
		return e, err
	}
	if e.undefined || e.vr == vrSQ {
		return e, refuse(gantry.CodeMalformed, e.tag, e.at, "a sequence in the file meta information")
	}
	return e, s.leaf(f, e)
}

// metaEnd is where the group ends by its length element, -1 without one.
func (s *scanner) metaEnd(e element) (int64, error) {
	if e.tag != tagMetaLength {
		s.warn(CodeMissingGroupLength)
		return -1, nil
	}
	h := s.held[slotMetaLength]
	if len(h.value) != 4 || h.vr != vrUL {
		return 0, refuse(CodeBadValue, e.tag, e.at, "no group length")
	}
	n := int64(binary.LittleEndian.Uint32(h.value))
	if err := s.fits(&s.stack[0], n, e); err != nil {
		return 0, err
	}
	s.metaEnds = s.src.pos() + n
	return s.metaEnds, nil
}

// judgeMeta holds the group length against the object's size, which is known for sure at its end.
func (s *scanner) judgeMeta() error {
	over := s.metaEnds - s.raw.pos()
	switch {
	case over <= 0:
		return nil
	case over > hugeLength:
		return refuse(CodeLengthOutOfBounds, tagMetaLength, preambleSize+4, "%d bytes past the end of the object", over)
	}
	return refuse(gantry.CodeTruncated, tagMetaLength, preambleSize+4, "the object ends %d bytes too early", over)
}

func (s *scanner) settleSyntax() error {
	h := s.held[slotMetaSyntax]
	uid := h.text()
	if uid == "" {
		return gantry.Errorf(gantry.Illegal, CodeMissingSyntax, "(0002,0010) is missing")
	}
	ts, ok := syntaxOf(uid)
	if !ok {
		return refuse(CodeUnsupportedSyntax, tagMetaSyntax, h.at, "a transfer syntax that is in no table")
	}
	if ts.opaque {
		s.warn(CodeUnsupportedSyntax)
	}
	s.ts = ts
	s.info.TransferSyntax = uid
	return nil
}
