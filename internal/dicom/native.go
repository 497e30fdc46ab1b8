package dicom

import (
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// native is where uncompressed frames are (PS3.5 section 8 and annex A).
type native struct {
	piece
	bits  int64 // of one frame
	big   bool
	words bool // bytes are swapped in words of two: 8 bits and fewer as OW in big endian
}

// native finds uncompressed frames. They follow each other without padding, single bits too.
func (o *opening) native() error {
	l, n := &o.f.layout, &o.f.native
	size, ok := frameBits(l)
	if !ok {
		return unreadable("colour that is not stored in full")
	}
	n.piece, n.bits, n.big = piece{o.pixelsAt, o.pixels.length}, size, o.s.ts.big
	n.words = n.big && l.BitsAllocated <= 8 && o.pixels.vr != vrOB
	return nil
}

// frameBits is the size of a native frame in the file.
func frameBits(l *Layout) (bits int64, ok bool) {
	perPixel := int64(l.Samples) * int64(l.BitsAllocated)
	switch l.Photometric {
	case "YBR_FULL_422":
		perPixel = 2 * int64(l.BitsAllocated)
		ok = l.Samples == 3 && l.Columns%2 == 0
	case "YBR_PARTIAL_422", "YBR_PARTIAL_420":
	default:
		ok = true
	}
	return int64(l.pixels()) * perPixel, ok
}

// nativeFrame reads frame i and puts its values in order.
func (f *Frames) nativeFrame(i int, s *scratch, p *Picture) error {
	n := &f.native
	from, to := int64(i)*n.bits/8, (int64(i+1)*n.bits+7)/8
	lead := int64(0)
	if n.words {
		lead = from & 1
		to += to & 1
	}
	to = min(to, n.length)
	var err error
	if s.stream, err = f.read(s.stream, to-from+lead, n.at+from-lead); err != nil {
		return err
	}
	if n.words {
		swapUnits(s.stream, 2)
	}
	if s.values, err = unpacked(s.values, s.stream[lead:], &f.layout, int(int64(i)*n.bits%8)); err != nil {
		return err
	}
	if n.big {
		swapUnits(s.values, p.Bytes)
	}
	p.Values = s.values
	if l := &f.layout; l.Photometric == "YBR_FULL_422" {
		p.Photometric = "YBR_FULL"
	}
	return nil
}

// unpacked gives the values of a frame one by one: bits as bytes, the lowest first, from the
// bit-th of the stream; planes and 4:2:2 as whole pixels.
func unpacked(dst, stream []byte, l *Layout, bit int) ([]byte, error) {
	bits, _ := frameBits(l)
	if int64(len(stream)) < (int64(bit)+bits+7)/8 {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "a frame of fewer bytes than the image has")
	}
	dst = grown(dst, l.size())
	switch {
	case l.BitsAllocated == 1:
		for i := range dst {
			dst[i] = stream[(bit+i)/8] >> ((bit + i) % 8) & 1
		}
	case l.Photometric == "YBR_FULL_422":
		fillUp(dst, stream, l.bytes())
	case l.Samples == 3 && l.Planar:
		interleave(dst, stream, l.pixels(), l.bytes())
	default:
		copy(dst, stream)
	}
	return dst, nil
}

// fillUp gives both pixels of a pair their common colour: Y1 Y2 CB CR (PS3.3 section C.7.6.3.1.2).
func fillUp(dst, stream []byte, unit int) {
	for len(dst) > 0 {
		y1, y2, colour := stream[:unit], stream[unit:2*unit], stream[2*unit:4*unit]
		copy(dst, y1)
		copy(dst[unit:], colour)
		copy(dst[3*unit:], y2)
		copy(dst[4*unit:], colour)
		dst, stream = dst[6*unit:], stream[4*unit:]
	}
}

// interleave puts the samples of a pixel side by side that stood in three planes.
func interleave(dst, stream []byte, pixels, unit int) {
	for plane := range 3 {
		from := stream[plane*pixels*unit:]
		for i := range pixels {
			copy(dst[(3*i+plane)*unit:], from[i*unit:(i+1)*unit])
		}
	}
}

// swapUnits turns the byte order of units of 2, 4 or 8 bytes. A rest stays.
func swapUnits(b []byte, unit int) {
	for ; unit > 1 && len(b) >= unit; b = b[unit:] {
		for i := range unit / 2 {
			b[i], b[unit-1-i] = b[unit-1-i], b[i]
		}
	}
}

// decodeFragment takes a native frame that is encapsulated (PS3.5 section A.4.11).
func decodeFragment(dst, stream []byte, l *Layout, _ FrameLimits) (*samples, error) {
	if _, ok := frameBits(l); !ok {
		return nil, unreadable("colour that is not stored in full")
	}
	values, err := unpacked(dst, stream, l, 0)
	if err != nil {
		return nil, err
	}
	got := &samples{rows: l.Rows, columns: l.Columns, samples: l.Samples, bits: l.BitsAllocated, values: values}
	if l.Photometric == "YBR_FULL_422" {
		got.photometric = "YBR_FULL"
	}
	return got, nil
}

// trim drops the bits beside the stored ones, which may hold an old overlay (PS3.5 section 8.1.1),
// and widens the sign.
func (p *Picture) trim(high int) {
	low := high + 1 - p.BitsStored
	left := 8*p.Bytes - 1 - high // what is above
	if p.Float || low == 0 && left == 0 || p.Bytes == 1 && p.BitsStored == 1 && high == 0 && !p.Signed {
		return
	}
	o := binary.LittleEndian
	switch p.Bytes {
	case 1:
		for i, b := range p.Values {
			p.Values[i] = byte(extended(uint32(b)<<24, left, low+left, p.Signed, 24))
		}
	case 2:
		for b := p.Values; len(b) > 1; b = b[2:] {
			o.PutUint16(b, uint16(extended(uint32(o.Uint16(b))<<16, left, low+left, p.Signed, 16)))
		}
	case 4:
		for b := p.Values; len(b) > 3; b = b[4:] {
			o.PutUint32(b, extended(o.Uint32(b), left, low+left, p.Signed, 0))
		}
	}
}

// extended is the value that stands at the top of v after a shift by left; it comes back down by
// right, with its sign or without, and by the spare bits that a narrower value has below.
func extended(v uint32, left, right int, signed bool, spare int) uint32 {
	v <<= left
	if signed {
		return uint32(int32(v) >> (right + spare))
	}
	return v >> (right + spare)
}
