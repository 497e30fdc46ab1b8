package dicom

import (
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Markers of a JPEG that the lossless decoder knows (ISO/IEC 10918-1 table B.1).
const (
	markSOF3 = 0xc3
	markDHT  = 0xc4
	markRST0 = 0xd0
	markSOI  = 0xd8
	markEOI  = 0xd9
	markSOS  = 0xda
	markDRI  = 0xdd
)

// Lossless is a decoded lossless JPEG.
type Lossless struct {
	Width, Height int
	Components    int    // 1 or 3
	Precision     int    // bits of a sample, 2 to 16
	Samples       []byte // row by row, pixel by pixel; bytes up to 8 bits, else 16 bits little endian
}

// DecodeLossless decodes one JPEG stream of process 14 (ISO/IEC 10918-1 annex H): Huffman coding,
// any predictor and point transform, restart intervals, 1 or 3 components of one size. Samples
// are as the stream has them: no colour transform. An image of over limit samples is Illegal with
// code too_large, a stream that ends early truncated (a missing EOI behind the last sample is
// let pass), one that breaks the rules malformed; another JPEG process is Permanent with code
// unsupported_format. Memory and work are bounded by the stream's length: a sample has at least
// one bit.
func DecodeLossless(stream []byte, limit int) (*Lossless, error) {
	d := &jpegLossless{bits: ljpegBits{b: stream}, limit: limit}
	if len(stream) < 2 || stream[0] != 0xff || stream[1] != markSOI {
		return nil, brokenJPEG("no start of image")
	}
	d.bits.at = 2
	for !d.done() {
		if err := d.segment(); err != nil {
			return nil, err
		}
	}
	return &d.image, nil
}

// decodeLossless decodes a frame of lossless JPEG. There is no colour transform: what the file says
// of its colours holds for the values.
func decodeLossless(_, stream []byte, l *Layout, _ FrameLimits) (*samples, error) {
	m, err := DecodeLossless(stream, l.pixels()*l.Samples)
	if err != nil {
		return nil, err
	}
	return &samples{rows: m.Height, columns: m.Width, samples: m.Components, bits: m.Precision, values: m.Samples}, nil
}

// jpegComponent is a component of the frame.
type jpegComponent struct {
	id       byte
	scanned  bool
	table    *ljpegTable
	row, old []uint16 // the samples of this row and of the one above, before the point transform
}

type jpegLossless struct {
	bits       ljpegBits
	limit      int
	image      Lossless
	components []jpegComponent
	tables     [4]*ljpegTable
	interval   int // samples of a component between restarts; 0: none
	predictor  byte
	shift      byte // the point transform
}

// done tells whether every component is decoded.
func (d *jpegLossless) done() bool {
	for _, c := range d.components {
		if !c.scanned {
			return false
		}
	}
	return len(d.components) > 0
}

// segment reads one marker and what belongs to it.
func (d *jpegLossless) segment() error {
	m, err := d.marker()
	if err != nil {
		return err
	}
	switch {
	case m == markEOI:
		return shortJPEG("front of its samples")
	case m == 0x01 || m >= markRST0 && m <= markSOI:
		return brokenJPEG("a marker where none may be")
	}
	body, err := d.body()
	if err != nil {
		return err
	}
	switch {
	case m == markSOF3:
		return d.frame(body)
	case m == markDHT:
		return d.huffman(body)
	case m == markDRI:
		if len(body) != 2 {
			return brokenJPEG("a restart interval of %d bytes", len(body))
		}
		d.interval = int(binary.BigEndian.Uint16(body))
	case m == markSOS:
		return d.scan(body)
	case frameHeader(m), m == 0xcc, m == 0xdc, m == 0xde, m == 0xdf:
		return unsupported("a JPEG of another process")
	}
	return nil
}

// marker reads a marker with its fill bytes.
func (d *jpegLossless) marker() (byte, error) {
	b, at := d.bits.b, d.bits.at
	if at < len(b) && b[at] != 0xff {
		return 0, brokenJPEG("no marker where one must be")
	}
	for at < len(b) && b[at] == 0xff {
		at++
	}
	if at >= len(b) {
		return 0, shortJPEG("front of a marker")
	}
	d.bits.at = at + 1
	return b[at], nil
}

// body is the content of a marker segment.
func (d *jpegLossless) body() ([]byte, error) {
	b := d.bits.b[d.bits.at:]
	if len(b) < 2 {
		return nil, shortJPEG("a segment")
	}
	n := int(binary.BigEndian.Uint16(b))
	switch {
	case n < 2:
		return nil, brokenJPEG("a segment of %d bytes", n)
	case n > len(b):
		return nil, shortJPEG("a segment")
	}
	d.bits.at += n
	return b[2:n], nil
}

// frame reads the frame header (section B.2.2).
func (d *jpegLossless) frame(b []byte) error {
	if d.components != nil || len(b) < 6 || len(b) != 6+3*int(b[5]) {
		return brokenJPEG("a wrong frame header")
	}
	m := &d.image
	m.Precision, m.Components = int(b[0]), int(b[5])
	m.Height, m.Width = int(binary.BigEndian.Uint16(b[1:])), int(binary.BigEndian.Uint16(b[3:]))
	switch {
	case m.Precision < 2 || m.Precision > 16 || m.Width == 0 || m.Height == 0:
		return brokenJPEG("a frame of no size or of no precision")
	case m.Components != 1 && m.Components != 3:
		return unsupported("a JPEG of neither 1 nor 3 components")
	}
	samples := m.Width * m.Height * m.Components
	switch {
	case samples > d.limit:
		return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "decode lossless JPEG: over %d samples", d.limit)
	case samples/8 > len(d.bits.b):
		return shortJPEG("its samples")
	}
	for i := range m.Components {
		c := b[6+3*i:]
		if m.Components > 1 && c[1] != 0x11 {
			return unsupported("a JPEG of subsampled components")
		}
		d.components = append(d.components, jpegComponent{id: c[0], row: make([]uint16, m.Width), old: make([]uint16, m.Width)})
	}
	m.Samples = make([]byte, samples*m.bytes())
	return nil
}

// bytes is the size of a sample.
func (m *Lossless) bytes() int {
	if m.Precision > 8 {
		return 2
	}
	return 1
}

// huffman reads a segment of tables (section B.2.4.2). Those for AC coefficients mean nothing here.
func (d *jpegLossless) huffman(b []byte) error {
	for len(b) > 0 {
		if len(b) < 17 || b[0]&15 > 3 || b[0]>>4 > 1 {
			return brokenJPEG("a wrong Huffman table")
		}
		n := 0
		for _, c := range b[1:17] {
			n += int(c)
		}
		if n > 256 || len(b) < 17+n {
			return brokenJPEG("a wrong Huffman table")
		}
		if b[0]>>4 == 0 {
			for _, v := range b[17 : 17+n] {
				if v >= categories {
					return brokenJPEG("a Huffman table for differences of over 16 bits")
				}
			}
			h, err := newLjpegTable((*[16]uint8)(b[1:17]), b[17:17+n])
			if err != nil {
				return err
			}
			d.tables[b[0]] = h
		}
		b = b[17+n:]
	}
	return nil
}

// scan reads a scan header (section B.2.3) and decodes the scan.
func (d *jpegLossless) scan(b []byte) error {
	if d.components == nil || len(b) < 1 || len(b) != 4+2*int(b[0]) || b[0] < 1 || int(b[0]) > len(d.components) {
		return brokenJPEG("a wrong scan header")
	}
	var in []*jpegComponent
	for i := range int(b[0]) {
		id, table := b[1+2*i], b[2+2*i]>>4
		if table > 3 || d.tables[table] == nil {
			return brokenJPEG("a scan without its Huffman table")
		}
		c := d.component(id)
		if c == nil {
			return brokenJPEG("a scan of a component that is not there or was decoded")
		}
		c.scanned, c.table = true, d.tables[table]
		in = append(in, c)
	}
	tail := b[len(b)-3:]
	d.predictor, d.shift = tail[0], tail[2]&15
	if d.predictor < 1 || d.predictor > 7 || int(d.shift) >= d.image.Precision {
		return brokenJPEG("a wrong predictor or point transform")
	}
	return d.rows(in)
}

func (d *jpegLossless) component(id byte) *jpegComponent {
	for i := range d.components {
		if c := &d.components[i]; c.id == id && !c.scanned {
			return c
		}
	}
	return nil
}

// rows decodes the entropy-coded segments of a scan. A restart interval has whole rows (section
// H.1.1), so that prediction starts anew only at the start of one.
func (d *jpegLossless) rows(in []*jpegComponent) error {
	every := d.image.Height
	if d.interval > 0 {
		if every = d.interval / d.image.Width; d.interval%d.image.Width != 0 {
			return brokenJPEG("a restart interval that is not of whole rows")
		}
	}
	d.bits.acc, d.bits.n, d.bits.pad = 0, 0, 0
	for y := range d.image.Height {
		if y > 0 && y%every == 0 {
			d.bits.restart()
			m, err := d.marker()
			if err != nil {
				return err
			}
			if m != markRST0+byte((y/every-1)%8) {
				return brokenJPEG("no restart marker where one must be")
			}
		}
		if !d.differences(in) {
			return brokenJPEG("bits that are no Huffman code")
		}
		if d.bits.overrun() {
			return shortJPEG("its samples")
		}
		for _, c := range in {
			d.predict(c, y%every == 0)
			d.store(c, y)
			c.row, c.old = c.old, c.row
		}
	}
	d.bits.restart()
	return nil
}

// differences decodes one row of differences.
func (d *jpegLossless) differences(in []*jpegComponent) bool {
	bits := &d.bits
	if len(in) == 1 {
		row, table := in[0].row, in[0].table
		for x := range row {
			v, ok := bits.difference(table)
			if !ok {
				return false
			}
			row[x] = uint16(v)
		}
		return true
	}
	for x := range d.image.Width {
		for _, c := range in {
			v, ok := bits.difference(c.table)
			if !ok {
				return false
			}
			c.row[x] = uint16(v)
		}
	}
	return true
}
