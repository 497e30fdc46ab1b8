package dicom

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The elements that frames are decoded and shown by, beside those of value.go.
const (
	tagPlanar          = 0x00280006
	tagBitsStored      = 0x00280101
	tagHighBit         = 0x00280102
	tagSigned          = 0x00280103
	tagCenter          = 0x00281050
	tagWidth           = 0x00281051
	tagIntercept       = 0x00281052
	tagSlope           = 0x00281053
	tagFunction        = 0x00281056
	tagPaletteShape    = 0x00281101 // red; green and blue follow
	tagPaletteData     = 0x00281201
	tagPaletteSegments = 0x00281221
	tagLossy           = 0x00282110
	tagLUTShape        = 0x00283002
	tagLUTData         = 0x00283006
	tagVOILUT          = 0x00283010
	tagFrameVOI        = 0x00289132
	tagTransformation  = 0x00289145
	tagSharedGroups    = 0x52009229
	tagFrameGroups     = 0x52009230
	tagOffsets         = 0x7fe00001
)

const (
	maxAttributes = 1 << 19 // what is kept of the functional groups of all frames
	attributeHead = 64      // bytes of a value that are kept; numbers are shorter
)

// place is where an element stands: in the data set itself, in the first item of a sequence of it,
// or in the functional groups of all frames or of one (PS3.3 section C.7.6.16).
type place struct {
	frame  int    // 1 and more: of this frame's groups; shared: of those of all
	within uint32 // the innermost sequence, 0 for none
	tag    uint32
}

const shared = -1

// field is a value that was seen. A long one is read when it is needed.
type field struct {
	piece
	vr   vr
	big  bool
	head []byte
}

// order is the byte order of the field's numbers.
func (f field) order() binary.ByteOrder {
	if f.big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

type attributes map[place]field

// note keeps an element that is needed later.
func (a attributes) note(s *scanner, e element) error {
	at, ok := placeOf(s.stack, e.tag)
	if !ok || e.length == 0 {
		return nil
	}
	if len(a) >= maxAttributes {
		return refuse(gantry.CodeTooLarge, e.tag, e.at, "over %d attributes of frames", maxAttributes)
	}
	b, err := s.src.peek(int(min(e.length, attributeHead)))
	if err != nil {
		return err
	}
	a[at] = field{piece{s.src.pos(), e.length}, e.vr, s.stack[len(s.stack)-1].big && e.vr != vrUN, bytes.Clone(b)}
	return nil
}

// placeOf tells whether an element is one of those needed. In the stack data sets and sequences
// take turns.
func placeOf(stack []frame, tag uint32) (place, bool) {
	switch len(stack) {
	case 1:
		return place{tag: tag}, ofDataset(tag)
	case 3:
		within := stack[1].tag
		ok := (within == tagModalityLUT || within == tagVOILUT) && stack[2].items == 1
		return place{within: within, tag: tag}, ok && (tag == tagLUTShape || tag == tagLUTData)
	case 5:
		p := place{frame: stack[2].items, within: stack[3].tag, tag: tag}
		if stack[1].tag == tagSharedGroups && p.frame == 1 {
			p.frame = shared
		} else if stack[1].tag != tagFrameGroups {
			return p, false
		}
		return p, stack[4].items == 1 && ofGroup(p.within, tag)
	}
	return place{}, false
}

func ofDataset(tag uint32) bool {
	switch tag {
	case tagPlanar, tagBitsStored, tagHighBit, tagSigned, tagLossy, tagOffsets,
		tagCenter, tagWidth, tagFunction, tagIntercept, tagSlope:
		return true
	}
	for _, first := range []uint32{tagPaletteShape, tagPaletteData, tagPaletteSegments} {
		if tag >= first && tag < first+3 {
			return true
		}
	}
	return false
}

func ofGroup(within, tag uint32) bool {
	switch within {
	case tagFrameVOI:
		return tag == tagCenter || tag == tagWidth || tag == tagFunction
	case tagTransformation:
		return tag == tagIntercept || tag == tagSlope
	}
	return false
}

// text is a value of the data set without its padding.
func (a attributes) text(tag uint32) string { return a.textAt(place{tag: tag}) }

func (a attributes) textAt(p place) string { return string(bytes.Trim(a[p].head, " \x00")) }

// short is a 16-bit number of the data set.
func (a attributes) short(tag uint32, without int) int {
	f, ok := a[place{tag: tag}]
	if !ok || len(f.head) < 2 {
		return without
	}
	return int(f.order().Uint16(f.head))
}

// decimal is the first number of a DS.
func (a attributes) decimal(p place) (x float64, there bool, err error) {
	t, _, _ := strings.Cut(a.textAt(p), `\`)
	if t = strings.TrimSpace(t); t == "" {
		return 0, false, nil
	}
	x, err = strconv.ParseFloat(t, 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		return 0, false, refuse(CodeBadValue, p.tag, a[p].at, "no number")
	}
	return x, true, nil
}
