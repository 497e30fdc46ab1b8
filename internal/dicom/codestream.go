package dicom

import (
	"bytes"
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// codestreams is what the headers of the fragments say about the image's size.
type codestreams struct {
	tag           uint32 // of the pixel data
	at            int64
	seen          bool
	vary          bool // two frames of different size
	width, height uint32
	segments      uint32 // RLE
}

// look reads the header of a fragment as far as the frame's size and gives the number of bytes
// that it went past. The first fragment must begin a code stream; a later one may go on with the
// one before.
func (c *codestreams) look(src *source, k codec, e element) (used int64, err error) {
	start := src.pos()
	head, err := src.peek(int(min(e.length, 64)))
	if err != nil {
		return 0, err
	}
	var w, h uint32
	ok := true
	switch k {
	case rleCodec:
		return 0, c.rle(head, e)
	case jpegCodec:
		if c.seen && !bytes.HasPrefix(head, []byte{0xff, 0xd8, 0xff}) {
			return 0, nil
		}
		w, h, ok, err = jpegSize(src, start+e.length)
	case j2kCodec:
		if c.seen && !bytes.HasPrefix(head, []byte{0xff, 0x4f, 0xff, 0x51}) {
			return 0, nil
		}
		w, h, ok, err = j2kSize(src, start+e.length)
	default:
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, refuse(gantry.CodeMalformed, c.tag, e.at, "no code stream header in the fragment")
	}
	c.note(w, h)
	return src.pos() - start, nil
}

func (c *codestreams) note(w, h uint32) {
	c.vary = c.vary || c.seen && (w != c.width || h != c.height)
	c.seen, c.width, c.height = true, w, h
}

// rle checks the table at the head of an RLE frame: at most 15 segments, the first behind the
// table, each inside the fragment (PS3.5 annex G.5).
func (c *codestreams) rle(head []byte, e element) error {
	if len(head) < 64 {
		return refuse(gantry.CodeMalformed, c.tag, e.at, "no RLE header in the fragment")
	}
	n := binary.LittleEndian.Uint32(head)
	if n == 0 || n > 15 || binary.LittleEndian.Uint32(head[4:]) != 64 {
		return refuse(gantry.CodeMalformed, c.tag, e.at, "a wrong RLE header")
	}
	last := uint32(63)
	for i := range n {
		at := binary.LittleEndian.Uint32(head[4+4*i:])
		if at <= last || int64(at) >= e.length {
			return refuse(CodeLengthOutOfBounds, c.tag, e.at, "an RLE segment outside its fragment")
		}
		last = at
	}
	c.vary = c.vary || c.seen && n != c.segments
	c.seen, c.segments = true, n
	return nil
}

// jpegSize walks the marker segments of JPEG and JPEG-LS up to the frame header (ITU-T T.81
// annex B, T.87 annex C); end bounds it.
func jpegSize(src *source, end int64) (w, h uint32, ok bool, err error) {
	b, ok, err := within(src, 2, end)
	if err != nil || !ok || b[0] != 0xff || b[1] != 0xd8 {
		return 0, 0, false, err
	}
	for {
		b, ok, err := within(src, 2, end)
		if err != nil || !ok || b[0] != 0xff {
			return 0, 0, false, err
		}
		m := b[1]
		if m == 0xff { // fill byte: the second is the start of a marker again
			src.lo--
			continue
		}
		if m == 0xda || m == 0xd9 || m == 0 {
			return 0, 0, false, nil
		}
		if m == 0x01 || m >= 0xd0 && m <= 0xd7 {
			continue
		}
		if b, ok, err = within(src, 2, end); err != nil || !ok {
			return 0, 0, false, err
		}
		n := int64(binary.BigEndian.Uint16(b)) - 2
		if n < 0 || n > end-src.pos() {
			return 0, 0, false, nil
		}
		if frameHeader(m) {
			if b, ok, err = within(src, 5, min(end, src.pos()+n)); err != nil || !ok {
				return 0, 0, false, err
			}
			return uint32(binary.BigEndian.Uint16(b[3:])), uint32(binary.BigEndian.Uint16(b[1:])), true, nil
		}
		if err := src.skip(n); err != nil {
			return 0, 0, false, err
		}
	}
}

// frameHeader tells whether the marker is SOF0 to SOF15 or SOF55; DHT, JPG and DAC lie between.
func frameHeader(m byte) bool {
	return m == 0xf7 || m >= 0xc0 && m <= 0xcf && m != 0xc4 && m != 0xc8 && m != 0xcc
}

// j2kSize reads the SIZ segment that every JPEG 2000 code stream begins with (ITU-T T.800 section
// A.5.1). A JP2 box before it is against PS3.5 section A.4.4 but known; it must be short. Where
// the capabilities are reserved the segment is not understood, and only the low halves of the size
// count, which is as much as Rows and Columns can hold; the decoder must bound itself.
func j2kSize(src *source, end int64) (w, h uint32, ok bool, err error) {
	head, err := src.peek(int(min(end-src.pos(), 4096)))
	if err != nil {
		return 0, 0, false, err
	}
	at := 0
	if bytes.HasPrefix(head, []byte("\x00\x00\x00\x0cjP  ")) {
		at = max(bytes.Index(head, []byte{0xff, 0x4f, 0xff, 0x51}), 0)
	}
	b := head[at:]
	if len(b) < 24 || !bytes.HasPrefix(b, []byte{0xff, 0x4f, 0xff, 0x51}) {
		return 0, 0, false, nil
	}
	order := binary.BigEndian
	w, h = order.Uint32(b[8:])-order.Uint32(b[16:]), order.Uint32(b[12:])-order.Uint32(b[20:])
	if order.Uint16(b[6:])&0x8000 != 0 {
		w, h = w&0xffff, h&0xffff
	}
	return w, h, true, nil
}

// within takes n bytes if they end by end.
func within(src *source, n int, end int64) (b []byte, ok bool, err error) {
	if int64(n) > end-src.pos() {
		return nil, false, nil
	}
	if b, err = src.peek(n); err != nil {
		return nil, false, err
	}
	src.lo += n
	return b, true, nil
}
