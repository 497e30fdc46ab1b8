package dicom

import (
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// quickBits is the length of the Huffman codes that one look into a table decodes.
const quickBits = 9

// categories is how many kinds of difference there are: of 0 to 16 bits (ISO/IEC 10918-1 table H.2).
const categories = 17

// ljpegTable decodes the categories of differences (ISO/IEC 10918-1 annexes C and F.2.2.3).
type ljpegTable struct {
	quick  [1 << quickBits]uint16 // length<<5 | category, 0 for longer codes
	limit  [17]int32              // by length: the first code that is longer, left-aligned in 16 bits
	offset [17]int32              // by length: index of its first value less its first code
	values []uint8
}

// newLjpegTable builds the table of count[n-1] codes of n bits for values, which are in order of code.
func newLjpegTable(count *[16]uint8, values []uint8) (*ljpegTable, error) {
	h := &ljpegTable{values: append([]uint8(nil), values...)}
	code, k := int32(0), int32(0)
	for n := 1; n <= 16; n++ {
		h.offset[n] = k - code
		for range count[n-1] {
			if code >= 1<<n {
				return nil, brokenJPEG("more Huffman codes than there are of %d bits", n)
			}
			if n <= quickBits {
				from := code << (quickBits - n)
				for i := from; i < from+1<<(quickBits-n); i++ {
					h.quick[i] = uint16(n)<<5 | uint16(values[k])
				}
			}
			code, k = code+1, k+1
		}
		h.limit[n] = code << (16 - n)
		code <<= 1
	}
	return h, nil
}

// ljpegBits gives the bits of an entropy-coded segment. At its end, which is a marker or that of
// the stream, zeros follow; overrun tells whether any of them was taken.
type ljpegBits struct {
	b   []byte
	at  int
	acc uint64 // the next bits, the first on top
	n   int    // how many
	pad int    // how many of them came behind the end
}

// fill makes at least 32 bits ready.
func (r *ljpegBits) fill() {
	if r.at+4 <= len(r.b) {
		v := binary.BigEndian.Uint32(r.b[r.at:])
		if inverse := ^v; (inverse-0x01010101)&v&0x80808080 == 0 { // no byte is ff
			r.acc |= uint64(v) << (32 - r.n)
			r.n, r.at = r.n+32, r.at+4
			return
		}
	}
	for r.n <= 56 {
		var c byte
		switch {
		case r.at < len(r.b) && r.b[r.at] != 0xff:
			c = r.b[r.at]
			r.at++
		case r.at+1 < len(r.b) && r.b[r.at+1] == 0: // stuffed
			c = 0xff
			r.at += 2
		default:
			r.pad += 8
		}
		r.acc |= uint64(c) << (56 - r.n)
		r.n += 8
	}
}

func (r *ljpegBits) overrun() bool { return r.n < r.pad }

// difference decodes one difference; ok is false where the bits are no code of the table.
func (r *ljpegBits) difference(h *ljpegTable) (d int32, ok bool) {
	if r.n < 32 {
		r.fill()
	}
	q := h.quick[r.acc>>(64-quickBits)]
	n, category := int(q>>5), int(q&31)
	if q == 0 {
		if n, category = h.long(int32(r.acc >> 48)); n == 0 {
			return 0, false
		}
	}
	r.acc <<= n
	r.n -= n
	switch category {
	case 0:
		return 0, true
	case 16: // the one difference without bits of its own
		return 32768, true
	}
	d = int32(r.acc >> (64 - category))
	r.acc <<= category
	r.n -= category
	if d>>(category-1) == 0 {
		d += -1<<category + 1
	}
	return d, true
}

// long finds the code at the head of 16 bits.
func (h *ljpegTable) long(bits int32) (n, category int) {
	for n := 1; n <= 16; n++ {
		if bits < h.limit[n] {
			return n, int(h.values[bits>>(16-n)+h.offset[n]])
		}
	}
	return 0, 0
}

// restart goes to the next marker behind an entropy-coded segment and drops the bits before it.
func (r *ljpegBits) restart() {
	r.acc, r.n, r.pad = 0, 0, 0
	for r.at < len(r.b) && (r.b[r.at] != 0xff || r.at+1 < len(r.b) && r.b[r.at+1] == 0) {
		r.at++
	}
}

func brokenJPEG(format string, args ...any) error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "decode lossless JPEG: "+format, args...)
}

func shortJPEG(where string) error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "decode lossless JPEG: the stream ends in %s", where)
}
