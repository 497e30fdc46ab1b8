package dicom

import (
	"encoding/binary"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// turn makes little endian of one element in explicit big endian, in place: all lengths stay as
// they are (PS3.5 sections 7.1.2 and 7.3). It goes straight through the heads, of items as well;
// their order was checked by Scan. Values of unknown VR stay, since their order is not known; a
// sequence in such a VR is Permanent unsupported_format.
func turn(b []byte) error {
	for len(b) > 0 {
		if len(b) < 8 {
			return errTurn()
		}
		flip(b, 2, 2)
		if b[0] == 0xfe && b[1] == 0xff { // an item, or a delimiter
			flip(b[4:], 4, 1)
			b = b[8:]
			continue
		}
		v := vr(b[4])<<8 | vr(b[5])
		head, n := 8, uint32(0)
		switch _, long := v.known(); {
		case !long:
			flip(b[6:], 2, 1)
			n = uint32(binary.LittleEndian.Uint16(b[6:]))
		case len(b) < 12:
			return errTurn()
		default:
			flip(b[8:], 4, 1)
			head, n = 12, binary.LittleEndian.Uint32(b[8:])
		}
		b = b[head:]
		switch {
		case v == vrSQ:
			continue
		case n == undefined:
			return unsupported("a sequence of unknown representation in big endian")
		case int64(n) > int64(len(b)):
			return errTurn()
		}
		unit := v.number()
		flip(b, unit, int(n)/unit)
		b = b[n:]
	}
	return nil
}

func errTurn() error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "rewrite: the data set ends inside an element")
}

// number is the size of the units that the byte order of a value goes by.
func (v vr) number() int {
	switch v {
	case vrUS, vrSS, vrOW, vrAT:
		return 2
	case vrUL, vrSL, vrFL, vrOL, vrOF:
		return 4
	case vrFD, vrOD, vrOV, vrSV, vrUV:
		return 8
	}
	return 1
}

// flip turns the bytes of count units.
func flip(b []byte, unit, count int) {
	if unit == 1 {
		return
	}
	for range count {
		slices.Reverse(b[:unit])
		b = b[unit:]
	}
}
