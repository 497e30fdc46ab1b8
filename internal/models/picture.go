package models

import (
	"bytes"
	"errors"
	"image"
	"image/png"
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// picture is a decoded image.
type picture struct {
	width, height int
	top           uint16   // the brightest value of its depth: 255 or 65535
	grey          []uint16 // luminance, row by row, 0 to top
	colour        image.Image
	*scratch
}

// scratch is memory that one picture at a time uses and the next may use again. Its slices are
// taken with sized.
type scratch struct {
	grey   []uint16
	counts []uint32
	curves []uint16
	half   []uint16
}

// sized makes *s n long, anew only if it is too small. What it holds is not defined.
func sized[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	return (*s)[:n]
}

// errNoImage means that the first bytes are those of no format served.
var errNoImage = errors.New("neither a PNG nor a JPEG nor a DICOM file")

const (
	pngMagic    = "\x89PNG\r\n\x1a\n"
	jpegMagic   = "\xff\xd8\xff"
	dicomMagic  = "DICM"
	dicomOffset = 128 // PS3.10 section 7.1
)

// kindOf is the media type of an image by its first bytes; empty for what is none.
func kindOf(body []byte) string {
	switch {
	case bytes.HasPrefix(body, []byte(pngMagic)):
		return gantry.MediaPNG
	case bytes.HasPrefix(body, []byte(jpegMagic)):
		return gantry.MediaJPEG
	case len(body) >= dicomOffset+len(dicomMagic) && string(body[dicomOffset:dicomOffset+len(dicomMagic)]) == dicomMagic:
		return gantry.MediaDICOM
	}
	return ""
}

// decode makes a picture of a body, by its first bytes. The caller puts the scratch back.
func (s *service) decode(body []byte) (*picture, error) {
	p := &picture{scratch: s.scratch.Get().(*scratch)}
	err := error(errNoImage)
	switch kindOf(body) {
	case gantry.MediaPNG:
		err = p.fromPNG(body, s.maxPixels)
	case gantry.MediaJPEG:
		err = p.fromJPEG(body, s.maxPixels)
	case gantry.MediaDICOM:
		err = p.fromDICOM(body, s.maxPixels)
	default:
		if len(body) == 0 {
			err = gantry.Errorf(gantry.Illegal, gantry.CodeEmpty, "an empty body")
		}
	}
	if err != nil {
		s.scratch.Put(p.scratch)
		return nil, err
	}
	return p, nil
}

// size sets width and height and takes the memory for the luminance.
func (p *picture) size(width, height int) {
	p.width, p.height = width, height
	p.grey = sized(&p.scratch.grey, width*height)
}

// encode writes the picture as PNG with fixed settings: grey of its depth, or its colours.
func (p *picture) encode(out *bytes.Buffer, pool *pngBuffers) error {
	e := png.Encoder{CompressionLevel: png.BestSpeed, BufferPool: pool}
	if p.colour != nil {
		return e.Encode(out, p.colour)
	}
	bounds := image.Rect(0, 0, p.width, p.height)
	if p.top == 0xff {
		img := image.NewGray(bounds)
		for i, v := range p.grey {
			img.Pix[i] = uint8(v)
		}
		return e.Encode(out, img)
	}
	img := image.NewGray16(bounds)
	for i, v := range p.grey {
		img.Pix[2*i], img.Pix[2*i+1] = uint8(v>>8), uint8(v)
	}
	return e.Encode(out, img)
}

// pngBuffers keeps the encoder's own memory between requests.
type pngBuffers struct{ pool sync.Pool }

// Get is part of png.EncoderBufferPool.
func (b *pngBuffers) Get() *png.EncoderBuffer {
	e, _ := b.pool.Get().(*png.EncoderBuffer)
	return e
}

// Put is part of png.EncoderBufferPool.
func (b *pngBuffers) Put(e *png.EncoderBuffer) { b.pool.Put(e) }
