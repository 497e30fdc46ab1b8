package dicom

import (
	"encoding/binary"
	"image/color"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// photometrics that are shown.
const (
	monochrome1  = "MONOCHROME1"
	monochrome2  = "MONOCHROME2"
	paletteColor = "PALETTE COLOR"
)

// palette has the colour of every entry (PS3.3 section C.7.6.3.1.5): red, green and blue.
type palette struct {
	first  int
	colour [][3]byte
}

// colours reads the palette of an image that has one.
func (o *opening) colours() error {
	f := o.f
	if f.layout.Photometric != paletteColor {
		return nil
	}
	var tables [3]*lut
	for i := range tables {
		var err error
		if tables[i], err = o.channel(uint32(i)); err != nil {
			return err
		}
	}
	n := len(tables[0].entries)
	if len(tables[1].entries) != n || len(tables[2].entries) != n {
		return gantry.Errorf(gantry.Illegal, CodeBadValue, "frames: palettes of several sizes")
	}
	f.palette = &palette{first: tables[0].first, colour: make([][3]byte, n)}
	for c, t := range tables {
		down := t.bits - 8
		for i, e := range t.entries {
			f.palette.colour[i][c] = byte(e >> down)
		}
	}
	return nil
}

// channel reads the table of red (0), green or blue, plain or in segments.
func (o *opening) channel(i uint32) (*lut, error) {
	shape, ok := o.attributes[place{tag: tagPaletteShape + i}]
	data, plain := o.attributes[place{tag: tagPaletteData + i}]
	parts, inParts := o.attributes[place{tag: tagPaletteSegments + i}]
	switch {
	case ok && plain:
		return o.f.lut(shape, data)
	case ok && inParts:
		return o.f.segmentedLUT(shape, parts)
	}
	return nil, gantry.Errorf(gantry.Illegal, CodeBadValue, "frames: a palette is missing")
}

// paint gives the colours of indices.
func (t *palette) paint(dst []byte, p *Picture) {
	for i := range p.Rows * p.Columns {
		x := int(p.stored(i)) - t.first
		copy(dst[3*i:3*i+3], t.colour[min(max(x, 0), len(t.colour)-1)][:])
	}
}

// rgb gives the colours of three samples in 8 bits.
func (p *Picture) rgb(dst []byte) error {
	switch {
	case p.Photometric == "RGB" && p.Bytes == 1:
		copy(dst, p.Values)
	case p.Photometric == "RGB":
		top := uint32(1)<<p.BitsStored - 1
		for i := range dst {
			dst[i] = byte((uint32(binary.LittleEndian.Uint16(p.Values[2*i:]))*255 + top/2) / top)
		}
	case p.Photometric == "YBR_FULL" && p.Bytes == 1:
		for i := 0; i+2 < len(dst); i += 3 {
			dst[i], dst[i+1], dst[i+2] = color.YCbCrToRGB(p.Values[i], p.Values[i+1], p.Values[i+2])
		}
	default:
		return unreadable("colour in neither RGB nor YBR_FULL of 8 bits")
	}
	return nil
}
