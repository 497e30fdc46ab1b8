package models

import (
	"bytes"
	"image"
	"image/draw"
	"image/jpeg"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxPixelsPerByte is more than a JPEG can hold: a block of 64 pixels takes at least a bit of the
// first scan.
const maxPixelsPerByte = 64 * 8

// fromJPEG decodes a JPEG that image/jpeg reads: baseline or progressive, 8 bits, grey or colours.
func (p *picture) fromJPEG(body []byte, maxPixels int) error {
	c, err := jpeg.DecodeConfig(bytes.NewReader(body))
	switch {
	case err != nil:
		return refusedJPEG(err)
	case c.Width < 1 || c.Height < 1:
		return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "jpeg: no sound header")
	case c.Width > maxPixels/c.Height:
		return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "jpeg: over %d pixels", maxPixels)
	case c.Width*c.Height > maxPixelsPerByte*len(body):
		return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "jpeg: fewer bytes than its blocks need")
	}
	img, err := jpeg.Decode(bytes.NewReader(body))
	if err != nil {
		return refusedJPEG(err)
	}
	p.size(img.Bounds().Dx(), img.Bounds().Dy())
	if m, ok := img.(*image.Gray); ok {
		p.top = 0xff
		for y := range p.height {
			for x, v := range m.Pix[y*m.Stride:][:p.width] {
				p.grey[y*p.width+x] = uint16(v)
			}
		}
		return nil
	}
	out := image.NewNRGBA(image.Rect(0, 0, p.width, p.height))
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Src)
	p.shallow(out)
	return nil
}

// refusedJPEG keeps the decoder's text back, which may quote the body.
func refusedJPEG(err error) error {
	if _, ok := err.(jpeg.UnsupportedError); ok {
		return gantry.Errorf(gantry.Illegal, gantry.CodeUnsupportedFormat, "jpeg: a kind that is not served")
	}
	return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "jpeg: cannot be decoded")
}
