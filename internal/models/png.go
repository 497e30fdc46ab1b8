package models

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/color"
	"image/png"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxInflation is a little more than deflate can make of one byte (1032, RFC 1951): a file that is
// shorter than its rows divided by this cannot be whole.
const maxInflation = 1040

// ihdr is where the header chunk's data begins, and its length (PNG, third edition, 11.2.1).
const (
	ihdr    = 16
	ihdrLen = 13
)

// checkPNG bounds what decoding may allocate, by the header alone.
func checkPNG(body []byte, maxPixels int) error {
	if len(body) < ihdr+ihdrLen {
		return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "png: ends in its header")
	}
	h := body[ihdr:]
	width, height := int64(binary.BigEndian.Uint32(h)), int64(binary.BigEndian.Uint32(h[4:]))
	if string(body[12:ihdr]) != "IHDR" || width < 1 || height < 1 || width > 1<<31-1 || height > 1<<31-1 {
		return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "png: no sound header")
	}
	if width > int64(maxPixels)/height {
		return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "png: over %d pixels", maxPixels)
	}
	bits := int64(h[8])
	switch h[9] {
	case 2:
		bits *= 3
	case 4:
		bits *= 2
	case 6:
		bits *= 4
	}
	if width*height*bits/8 > maxInflation*int64(len(body)) {
		return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "png: fewer bytes than its rows need")
	}
	return nil
}

// fromPNG decodes any PNG that image/png reads; the first image of an animated one.
func (p *picture) fromPNG(body []byte, maxPixels int) error {
	if err := checkPNG(body, maxPixels); err != nil {
		return err
	}
	img, err := png.Decode(bytes.NewReader(body))
	if err != nil {
		return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "png: cannot be decoded")
	}
	p.size(img.Bounds().Dx(), img.Bounds().Dy())
	switch m := img.(type) {
	case *image.Gray:
		p.top = 0xff
		for i := range p.grey {
			p.grey[i] = uint16(m.Pix[i])
		}
	case *image.Gray16:
		p.top = 0xffff
		for i := range p.grey {
			p.grey[i] = binary.BigEndian.Uint16(m.Pix[2*i:])
		}
	case *image.RGBA64: // opaque, so it is the same as not premultiplied
		p.deep(&image.NRGBA64{Pix: m.Pix, Stride: m.Stride, Rect: m.Rect})
	case *image.NRGBA64:
		p.deep(m)
	case *image.RGBA: // opaque as well
		p.shallow(&image.NRGBA{Pix: m.Pix, Stride: m.Stride, Rect: m.Rect})
	case *image.NRGBA:
		p.shallow(m)
	case *image.Paletted:
		p.paletted(m)
	default:
		return gantry.Errorf(gantry.Illegal, gantry.CodeUnsupportedFormat, "png: a colour type that is not served")
	}
	return nil
}

// shallow takes colours of 8 bits.
func (p *picture) shallow(m *image.NRGBA) {
	p.top, p.colour = 0xff, m
	for i := range p.grey {
		c := m.Pix[4*i : 4*i+3 : 4*i+3]
		p.grey[i] = luminance(uint32(c[0]), uint32(c[1]), uint32(c[2]))
	}
}

// deep takes colours of 16 bits.
func (p *picture) deep(m *image.NRGBA64) {
	p.top, p.colour = 0xffff, m
	for i := range p.grey {
		c := m.Pix[8*i : 8*i+6 : 8*i+6]
		p.grey[i] = luminance(word(c), word(c[2:]), word(c[4:]))
	}
}

// paletted spells out the colours.
func (p *picture) paletted(m *image.Paletted) {
	out := image.NewNRGBA(m.Rect)
	var table [256][4]uint8
	for i, c := range m.Palette {
		n := color.NRGBAModel.Convert(c).(color.NRGBA)
		table[i] = [4]uint8{n.R, n.G, n.B, n.A}
	}
	for i, x := range m.Pix {
		copy(out.Pix[4*i:], table[x][:])
	}
	p.shallow(out)
}

// luminance weighs colours by Rec. ITU-R BT.601; the weights sum to 1 << 16.
func luminance(r, g, b uint32) uint16 {
	return uint16((19595*r + 38470*g + 7471*b + 1<<15) >> 16)
}

// recolour gives pixel i another luminance and keeps its colour difference from it, as if Y of
// YCbCr were replaced.
func (p *picture) recolour(i int, luma uint16) {
	d := int32(luma) - int32(p.grey[i])
	switch m := p.colour.(type) {
	case *image.NRGBA:
		for k := 4 * i; k < 4*i+3; k++ {
			m.Pix[k] = uint8(min(max(int32(m.Pix[k])+d, 0), 0xff))
		}
	case *image.NRGBA64:
		for k := 8 * i; k < 8*i+6; k += 2 {
			v := min(max(int32(word(m.Pix[k:]))+d, 0), 0xffff)
			m.Pix[k], m.Pix[k+1] = uint8(v>>8), uint8(v)
		}
	}
}

func word(b []uint8) uint32 { return uint32(b[0])<<8 | uint32(b[1]) }
