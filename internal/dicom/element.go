package dicom

import (
	"encoding/binary"
	"errors"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	tagItem     = 0xfffee000
	tagItemEnd  = 0xfffee00d
	tagSeqEnd   = 0xfffee0dd
	undefined   = 0xffffffff
	perDataset  = 1 << 16 // elements in one data set
	maxDisorder = 4096    // elements out of order in one file; bounds the search for duplicates
	hugeLength  = 2 << 30 // a length past the end of the object is a lie above this, else a cut
)

// frame is one open sequence, item or the outermost data set.
type frame struct {
	end      int64 // where it must have ended: its own end or that of one around it
	bounded  bool  // end is that of an item or sequence, not of the object
	open     bool  // it ends with a delimiter, or with the object, not at end
	dataset  bool  // holds elements; else items
	implicit bool
	big      bool
	tag      uint32 // of the sequence
	first    int    // where its tags begin in scanner.tags
	top      uint32 // the highest tag so far
	seen     bool   // top is valid
	items    int    // of a sequence: its items so far; of an item: which it is, from 1
}

// element is the head of a data element (PS3.5 section 7.1).
type element struct {
	tag       uint32
	vr        vr // 0 where implicit and not in the dictionary
	at        int64
	length    int64
	undefined bool
	explicit  bool
}

// walk goes through all elements of the data set. The stack is its own, so depth costs memory
// and no more.
func (s *scanner) walk() error {
	for {
		f := &s.stack[len(s.stack)-1]
		if !f.open && s.src.pos() == f.end {
			s.pop()
			continue
		}
		if len(s.stack) == 1 {
			more, err := s.src.more()
			if err != nil || !more {
				return err
			}
		}
		if s.elements++; s.elements > s.lim.MaxElements {
			return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "over %d elements at byte %d", s.lim.MaxElements, s.src.pos())
		}
		var err error
		if f.dataset {
			err = s.element(f)
		} else {
			err = s.item(f)
		}
		if errors.Is(err, errStop) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// errStop ends a walk that has seen enough.
var errStop = errors.New("stop")

func (s *scanner) pop() {
	top := len(s.stack) - 1
	if f := s.stack[top]; f.dataset {
		s.tags = s.tags[:f.first]
	}
	s.stack = s.stack[:top]
}

// element reads one element of a data set.
func (s *scanner) element(f *frame) error {
	e, err := s.header(f)
	if err != nil {
		return err
	}
	root := len(s.stack) == 1
	if e.tag == tagItemEnd && f.open && !root {
		if e.length != 0 || e.undefined {
			return refuse(gantry.CodeMalformed, e.tag, e.at, "a delimiter with a length")
		}
		s.pop()
		return nil
	}
	if g := e.tag >> 16; g == 0 || g == groupMeta || g >= 0xfffe {
		return refuse(gantry.CodeMalformed, e.tag, e.at, "no element may be here")
	}
	if root && s.stop != 0 && e.tag >= s.stop {
		return errStop
	}
	if err := s.order(f, e); err != nil {
		return err
	}
	switch {
	case e.tag == tagPixelData:
		return s.pixelData(f, e)
	case e.vr == vrSQ, e.undefined && (e.vr == vrUN || e.vr == 0):
		return s.push(f, e)
	case e.undefined:
		return refuse(gantry.CodeMalformed, e.tag, e.at, "undefined length on a value that is no sequence")
	}
	return s.leaf(f, e)
}

// header reads tag, VR and length. Items and delimiters have no VR in any encoding.
func (s *scanner) header(f *frame) (element, error) {
	e := element{at: s.src.pos()}
	b, err := s.ahead(f, 8, e)
	if err != nil {
		return e, err
	}
	var order binary.ByteOrder = binary.LittleEndian
	if f.big {
		order = binary.BigEndian
	}
	e.tag = uint32(order.Uint16(b))<<16 | uint32(order.Uint16(b[2:]))
	if f.implicit || e.tag>>16 == 0xfffe {
		e.vr = dictionaryVR(e.tag)
		return s.sized(e, int64(order.Uint32(b[4:])), 8)
	}
	e.explicit, e.vr = true, vr(b[4])<<8|vr(b[5])
	ok, long := e.vr.known()
	if !ok {
		return e, refuse(CodeBadVR, e.tag, e.at, "no VR where one must be")
	}
	if !long {
		return s.sized(e, int64(order.Uint16(b[6:])), 8)
	}
	if b, err = s.ahead(f, 12, e); err != nil {
		return e, err
	}
	return s.sized(e, int64(order.Uint32(b[8:])), 12)
}

// ahead shows n bytes if the frame has them.
func (s *scanner) ahead(f *frame, n int, e element) ([]byte, error) {
	if err := s.fits(f, int64(n), e); err != nil {
		return nil, err
	}
	return s.src.peek(n)
}

// sized sets the length and goes past the head.
func (s *scanner) sized(e element, length, head int64) (element, error) {
	e.length = length
	if length == undefined {
		e.undefined, e.length = true, 0
	}
	return e, s.src.skip(head)
}

// fits tells whether n bytes from here stay inside the frame.
func (s *scanner) fits(f *frame, n int64, e element) error {
	over := n - (f.end - s.src.pos())
	switch {
	case over <= 0:
		return nil
	case f.bounded:
		return refuse(CodeLengthOutOfBounds, e.tag, e.at, "%d bytes past the end of its item or sequence", over)
	case n > hugeLength:
		return refuse(CodeLengthOutOfBounds, e.tag, e.at, "%d bytes past the end of the object", over)
	}
	return refuse(gantry.CodeTruncated, e.tag, e.at, "the object ends %d bytes too early", over)
}

// past goes past a value. With an unknown size its end shows only here.
func (s *scanner) past(e element, n int64) error {
	err := s.src.skip(n)
	if errors.Is(err, errShort) && n > hugeLength {
		return refuse(CodeLengthOutOfBounds, e.tag, e.at, "a length past the end of the object")
	}
	if err == nil && n > s.lim.MaxValue {
		return refuse(gantry.CodeTooLarge, e.tag, e.at, "a value of over %d bytes", s.lim.MaxValue)
	}
	return err
}

// order finds elements that stand twice or not in ascending order (PS3.5 section 7.1).
func (s *scanner) order(f *frame, e element) error {
	switch {
	case f.seen && e.tag == f.top:
		return refuse(CodeDuplicateElement, e.tag, e.at, "twice in one data set")
	case f.seen && e.tag < f.top:
		for _, t := range s.tags[f.first:] {
			if t == e.tag {
				return refuse(CodeDuplicateElement, e.tag, e.at, "twice in one data set")
			}
		}
		if s.disorder++; s.disorder > maxDisorder {
			return refuse(gantry.CodeMalformed, e.tag, e.at, "over %d elements out of order", maxDisorder)
		}
		s.warn(CodeOutOfOrder)
	default:
		f.top, f.seen = e.tag, true
	}
	if len(s.tags)-f.first >= perDataset {
		return refuse(gantry.CodeTooLarge, e.tag, e.at, "over %d elements in one data set", perDataset)
	}
	s.tags = append(s.tags, e.tag)
	return nil
}

// push opens a sequence. The items of an UN value of undefined length are implicit little endian
// whatever is around them (PS3.5 section 6.2.2).
func (s *scanner) push(f *frame, e element) error {
	depth := (len(s.stack) + 1) / 2 // data sets and sequences take turns
	if depth == 1 && e.tag == tagModalityLUT {
		s.info.ModalityLUT = true
	}
	if depth > s.lim.Depth {
		return refuse(CodeTooDeep, e.tag, e.at, "more than %d nested sequences", s.lim.Depth)
	}
	n := frame{tag: e.tag, end: f.end, bounded: f.bounded, open: e.undefined, implicit: f.implicit, big: f.big}
	if e.vr == vrUN {
		n.implicit, n.big = true, false
	}
	if err := s.enter(f, &n, e); err != nil {
		return err
	}
	s.stack = append(s.stack, n)
	return nil
}

// enter sets the end of a frame of defined length.
func (s *scanner) enter(f, n *frame, e element) error {
	if e.undefined {
		return nil
	}
	if err := s.fits(f, e.length, e); err != nil {
		return err
	}
	n.end, n.bounded = s.src.pos()+e.length, true
	return nil
}

// item reads what stands between the items of a sequence (PS3.5 section 7.5).
func (s *scanner) item(f *frame) error {
	e, err := s.header(f)
	if err != nil {
		return err
	}
	switch {
	case e.tag == tagSeqEnd && f.open:
		if e.length != 0 || e.undefined {
			return refuse(gantry.CodeMalformed, e.tag, e.at, "a delimiter with a length")
		}
		s.pop()
		return nil
	case e.tag != tagItem:
		return refuse(gantry.CodeMalformed, e.tag, e.at, "no item where one must be")
	}
	f.items++
	n := frame{tag: f.tag, end: f.end, bounded: f.bounded, open: e.undefined, dataset: true,
		implicit: f.implicit, big: f.big, first: len(s.tags), items: f.items}
	if err := s.enter(f, &n, e); err != nil {
		return err
	}
	s.stack = append(s.stack, n)
	return nil
}

// dictionaryVR is the VR of a standard element where the encoding has none: of several the first.
func dictionaryVR(t uint32) vr {
	if t>>16&1 == 1 || t&0xffff == 0 || t>>16 == 0xfffe {
		return 0
	}
	info, err := tag.Find(tag.Tag{Group: uint16(t >> 16), Element: uint16(t)})
	if err != nil || len(info.VRs) == 0 || len(info.VRs[0]) != 2 {
		return 0
	}
	v := vr(info.VRs[0][0])<<8 | vr(info.VRs[0][1])
	if ok, _ := v.known(); !ok {
		return 0
	}
	return v
}
