package dicom

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"math/bits"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxScans bounds the scans of a JPEG: in a progressive one a few bytes make one that goes through
// the whole picture. Usual are 1, or 10.
const maxScans = 32

// PictureOf reads the picture that a model answered with: a PNG in 8 or 16 bits, grey or colour,
// fewer bits and palettes as 8, alpha left out; a JPEG, grey or colour; or a NumPy array of
// float32, uint8, uint16 or int16 in C order with the shape (rows, columns), (rows, columns, 1 or
// 3) or (1, rows, columns). The values of the picture are unsigned but for arrays of float32 and
// int16, its photometric interpretation is MONOCHROME2 or RGB.
//
// lim.FrameBytes bounds the bytes read and those of the values. Errors: Illegal too_large,
// truncated, malformed, or unsupported_format for another media type and for pictures of another
// kind than those above; r's own.
func PictureOf(r io.Reader, media string, lim FrameLimits) (*Picture, error) {
	lim = lim.orDefault()
	b, err := io.ReadAll(io.LimitReader(r, lim.FrameBytes+maxNPYHead))
	if err != nil {
		return nil, fmt.Errorf("read picture: %w", err)
	}
	if int64(len(b)) == lim.FrameBytes+maxNPYHead {
		return nil, largePicture(lim)
	}
	switch media {
	case gantry.MediaPNG:
		return pictureKind{png.DecodeConfig, png.Decode, 8 * 1032}.read(b, lim) // 1032 bytes of pixels pack into one at best (RFC 1951)
	case gantry.MediaJPEG:
		if bytes.Count(b, []byte{0xff, markSOS}) > maxScans {
			return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "read picture: a JPEG of over %d scans", maxScans)
		}
		return pictureKind{jpeg.DecodeConfig, jpeg.Decode, 8 * 64}.read(b, lim) // a block of 64 pixels has at least a bit
	case gantry.MediaNPY:
		return pictureOfNPY(b, lim)
	}
	return nil, unreadable("an answer that is no picture")
}

func largePicture(lim FrameLimits) error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "read picture: over %d bytes", lim.FrameBytes)
}

// bounded holds the size that a picture says against the limit.
func (p *Picture) bounded(lim FrameLimits) error {
	hi, n := bits.Mul64(uint64(p.Rows)*uint64(p.Columns), uint64(p.Samples*p.Bytes))
	if hi != 0 || n > uint64(lim.FrameBytes) || p.Rows > 65535 || p.Columns > 65535 {
		return largePicture(lim)
	}
	return nil
}

// pictureKind is a format that the standard library decodes.
type pictureKind struct {
	config  func(io.Reader) (image.Config, error)
	decode  func(io.Reader) (image.Image, error)
	densest int // the most pixels that a byte can stand for
}

// read decodes a picture once its header says a size within the limit that its bytes can hold.
func (k pictureKind) read(b []byte, lim FrameLimits) (*Picture, error) {
	c, err := k.config(bytes.NewReader(b))
	if err != nil {
		return nil, pictureVerdict(err)
	}
	if err := (&Picture{Rows: c.Height, Columns: c.Width, Samples: 1, Bytes: pixelBytes(c.ColorModel)}).bounded(lim); err != nil {
		return nil, err
	}
	if c.Height*c.Width/k.densest > len(b) {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "read picture: too short for its size")
	}
	m, err := k.decode(bytes.NewReader(b))
	if err != nil {
		return nil, pictureVerdict(err)
	}
	grey := len(b) > 25 && b[0] == 0x89 && b[25]&2 == 0 // the colour type of a PNG: 0 and 4
	return pictureOf(m, grey)
}

// pixelBytes is the size of a decoded pixel.
func pixelBytes(m color.Model) int {
	switch m {
	case color.GrayModel:
		return 1
	case color.Gray16Model:
		return 2
	case color.NRGBA64Model, color.RGBA64Model:
		return 8
	}
	return 4
}

func pictureVerdict(err error) error {
	var pngKind png.UnsupportedError
	var jpegKind jpeg.UnsupportedError
	switch {
	case errors.As(err, &pngKind), errors.As(err, &jpegKind):
		return unreadable("a picture of a kind that is not known")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "read picture: it ends early")
	}
	return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "read picture: it breaks its format")
}

// pictureOf takes the values of a decoded image. Grey that carries alpha comes as colour from the
// library.
func pictureOf(m image.Image, grey bool) (*Picture, error) {
	size := m.Bounds().Size()
	p := &Picture{Rows: size.Y, Columns: size.X, Samples: 3, Bytes: 1, Photometric: "RGB"}
	var row func(dst []byte, y int)
	switch m := m.(type) {
	case *image.Gray:
		grey = true
		row = func(dst []byte, y int) { copy(dst, m.Pix[y*m.Stride:]) }
	case *image.Gray16:
		grey, p.Bytes = true, 2
		row = func(dst []byte, y int) { taken(dst, m.Pix[y*m.Stride:], 2, 2, 2) }
	case *image.NRGBA:
		row = func(dst []byte, y int) { taken(dst, m.Pix[y*m.Stride:], 4, p.Samples, 1) }
	case *image.RGBA:
		row = func(dst []byte, y int) { taken(dst, m.Pix[y*m.Stride:], 4, p.Samples, 1) }
	case *image.NRGBA64:
		p.Bytes = 2
		row = func(dst []byte, y int) { taken(dst, m.Pix[y*m.Stride:], 8, 2*p.Samples, 2) }
	case *image.RGBA64:
		p.Bytes = 2
		row = func(dst []byte, y int) { taken(dst, m.Pix[y*m.Stride:], 8, 2*p.Samples, 2) }
	case *image.Paletted:
		row = func(dst []byte, y int) { painted(dst, m, y) }
	case *image.YCbCr:
		row = func(dst []byte, y int) { mixed(dst, m, y) }
	default:
		return nil, unreadable("a picture of other than one or three components")
	}
	if grey {
		p.Samples, p.Photometric = 1, monochrome2
	}
	p.BitsStored = 8 * p.Bytes
	stride := p.Columns * p.Samples * p.Bytes
	p.Values = make([]byte, stride*p.Rows)
	for y := range p.Rows {
		row(p.Values[y*stride:(y+1)*stride], y)
	}
	return p, nil
}

// taken copies the first n of every size bytes, turning values of two bytes from big endian.
func taken(dst, src []byte, size, n, unit int) {
	for ; len(dst) > 0; dst, src = dst[n:], src[size:] {
		copy(dst[:n], src)
		if unit == 2 {
			for i := 0; i < n; i += 2 {
				binary.LittleEndian.PutUint16(dst[i:], binary.BigEndian.Uint16(src[i:]))
			}
		}
	}
}

// painted takes the colours of a palette.
func painted(dst []byte, m *image.Paletted, y int) {
	for x, i := range m.Pix[y*m.Stride : y*m.Stride+len(dst)/3] {
		c := color.NRGBAModel.Convert(m.Palette[i]).(color.NRGBA)
		dst[3*x], dst[3*x+1], dst[3*x+2] = c.R, c.G, c.B
	}
}

// mixed takes the colours of a row of JPEG.
func mixed(dst []byte, m *image.YCbCr, y int) {
	at := m.Rect.Min
	for x := range len(dst) / 3 {
		c := m.COffset(at.X+x, at.Y+y)
		dst[3*x], dst[3*x+1], dst[3*x+2] = color.YCbCrToRGB(m.Y[m.YOffset(at.X+x, at.Y+y)], m.Cb[c], m.Cr[c])
	}
}
