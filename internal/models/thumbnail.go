package models

import (
	"bytes"
	"image"
	"image/png"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Thumbnail draws an image that the services take (a PNG, a JPEG, or a DICOM file of one grey
// frame) as a PNG of 8 bits of which no side is longer than side pixels; a smaller image keeps its
// size. Each pixel is the mean of those it stands for. Refusals are those of Handler, as Illegal or
// Permanent errors.
func Thumbnail(body []byte, side int) ([]byte, error) {
	s := newService(Options{})
	p, err := s.decode(body)
	if err == error(errNoImage) {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeUnsupportedFormat, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	width, height := p.width, p.height
	if longest := max(width, height); longest > side {
		width, height = max(1, width*side/longest), max(1, height*side/longest)
	}
	var out bytes.Buffer
	err = png.Encode(&out, p.shrunk(width, height))
	return out.Bytes(), err
}

// shrunk is the picture at a size that is not larger, 8 bits deep.
func (p *picture) shrunk(width, height int) image.Image {
	rect := image.Rect(0, 0, width, height)
	if p.colour == nil {
		out := image.NewGray(rect)
		p.shrink(width, height, 1, func(i, _ int) int { return int(p.grey[i]) }, out.Pix)
		return out
	}
	out := image.NewNRGBA(rect)
	at := func(i, c int) int { return int(p.colour.(*image.NRGBA).Pix[4*i+c]) }
	if m, deep := p.colour.(*image.NRGBA64); deep {
		at = func(i, c int) int { return int(word(m.Pix[8*i+2*c:])) }
	}
	p.shrink(width, height, 4, at, out.Pix)
	return out
}

// shrink fills pix with means, of 8 bits, of what at gives for a pixel and a channel.
func (p *picture) shrink(width, height, channels int, at func(i, c int) int, pix []uint8) {
	for y := range height {
		y0, y1 := y*p.height/height, (y+1)*p.height/height
		for x := range width {
			x0, x1 := x*p.width/width, (x+1)*p.width/width
			n := (y1 - y0) * (x1 - x0) * int(p.top)
			for c := range channels {
				sum := 0
				for row := y0; row < y1; row++ {
					for i := row*p.width + x0; i < row*p.width+x1; i++ {
						sum += at(i, c)
					}
				}
				pix[(y*width+x)*channels+c] = uint8((sum*255 + n/2) / n)
			}
		}
	}
}
