package dicom

import "encoding/binary"

// predict turns the differences of a row into samples, modulo 2^16 (ISO/IEC 10918-1 section
// H.1.2.1). The first row is predicted from the left, the first sample of every other row from
// above, all else by the scan's predictor.
func (d *jpegLossless) predict(c *jpegComponent, first bool) {
	row, old := c.row, c.old[:len(c.row)]
	if first {
		row[0] += 1 << (d.image.Precision - int(d.shift) - 1)
		fromLeft(row)
		return
	}
	row[0] += old[0]
	switch d.predictor {
	case 1:
		fromLeft(row)
	case 2:
		for x := 1; x < len(row); x++ {
			row[x] += old[x]
		}
	case 3:
		for x := 1; x < len(row); x++ {
			row[x] += old[x-1]
		}
	case 4:
		for x := 1; x < len(row); x++ {
			row[x] += row[x-1] + old[x] - old[x-1]
		}
	case 5:
		for x := 1; x < len(row); x++ {
			row[x] += row[x-1] + uint16((int32(old[x])-int32(old[x-1]))>>1)
		}
	case 6:
		for x := 1; x < len(row); x++ {
			row[x] += old[x] + uint16((int32(row[x-1])-int32(old[x-1]))>>1)
		}
	case 7:
		for x := 1; x < len(row); x++ {
			row[x] += uint16((int32(row[x-1]) + int32(old[x])) >> 1)
		}
	}
}

func fromLeft(row []uint16) {
	left := row[0]
	for x, v := range row[1:] {
		left += v
		row[x+1] = left
	}
}

// store puts a row of a component into the image.
func (d *jpegLossless) store(c *jpegComponent, y int) {
	m := &d.image
	at := 0
	for i := range d.components {
		if c == &d.components[i] {
			at = i
		}
	}
	step := m.Components
	if m.bytes() == 1 {
		out := m.Samples[y*m.Width*step+at:]
		for x, v := range c.row {
			out[x*step] = byte(v << d.shift)
		}
		return
	}
	out := m.Samples[2*(y*m.Width*step+at):]
	for x, v := range c.row {
		binary.LittleEndian.PutUint16(out[2*x*step:], v<<d.shift)
	}
}
