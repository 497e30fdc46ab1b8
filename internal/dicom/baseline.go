package dicom

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/jpeg"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// blocksPerByte is how many blocks of 8 x 8 pixels a byte of JPEG can hold: one bit is the least
// that says anything about a block.
const blocksPerByte = 8

// decodeBaseline decodes a frame of JPEG with 8 bits (ITU-T T.81). Colour comes as it stands in
// the stream, red or luminance first: an Adobe marker says which, else the file.
func decodeBaseline(dst, stream []byte, l *Layout, _ FrameLimits) (*samples, error) {
	config, err := jpeg.DecodeConfig(bytes.NewReader(stream))
	if err != nil {
		return nil, jpegVerdict(err)
	}
	if config.Height != l.Rows || config.Width != l.Columns {
		return nil, gantry.Errorf(gantry.Illegal, CodePixelSize, "a JPEG stream of another size than the image")
	}
	if l.pixels()/64/blocksPerByte > len(stream) {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "a JPEG stream too short for its size")
	}
	picture, err := jpeg.Decode(bytes.NewReader(stream))
	if err != nil {
		return nil, jpegVerdict(err)
	}
	got := &samples{rows: l.Rows, columns: l.Columns, bits: 8}
	switch m := picture.(type) {
	case *image.Gray:
		got.samples, got.values = 1, grown(dst, l.pixels())
		for y := range l.Rows {
			copy(got.values[y*l.Columns:], m.Pix[y*m.Stride:y*m.Stride+l.Columns])
		}
	case *image.YCbCr:
		got.samples, got.values = 3, grown(dst, 3*l.pixels())
		components(got.values, m, l)
	case *image.RGBA:
		got.samples, got.values = 3, grown(dst, 3*l.pixels())
		for i := range l.pixels() {
			copy(got.values[3*i:3*i+3], m.Pix[i/l.Columns*m.Stride+i%l.Columns*4:])
		}
	default:
		return nil, unreadable("JPEG of other than one or three components")
	}
	if got.samples == 3 {
		got.photometric = jpegColour(stream, l.Photometric)
	}
	return got, nil
}

// components puts the three components side by side, each chrominance sample at all its pixels.
func components(dst []byte, m *image.YCbCr, l *Layout) {
	for y := range l.Rows {
		for x := range l.Columns {
			c := m.COffset(x, y)
			dst[0], dst[1], dst[2] = m.Y[m.YOffset(x, y)], m.Cb[c], m.Cr[c]
			dst = dst[3:]
		}
	}
}

// jpegColour is the photometric interpretation of three components. The file's own may be that
// of what was compressed (PS3.5 section 8.2.1), so a stream with an Adobe marker knows better.
func jpegColour(stream []byte, photometric string) string {
	transform, ok := adobeTransform(stream)
	switch {
	case ok && transform == 0:
		return "RGB"
	case ok && transform == 1:
		return "YBR_FULL"
	}
	return full(photometric)
}

// adobeTransform is the colour transform of the APP14 segment before the first scan. stream was
// decoded, so its segments are sound.
func adobeTransform(stream []byte) (transform byte, ok bool) {
	for at := 2; at+4 <= len(stream); {
		m := stream[at+1]
		switch {
		case stream[at] != 0xff || m == 0xff: // fill
			at++
			continue
		case m == 0x01 || m >= 0xd0 && m <= 0xd8:
			at += 2
			continue
		case m == 0xda || m == 0xd9:
			return 0, false
		}
		n := int(binary.BigEndian.Uint16(stream[at+2:]))
		if body := stream[at+4:]; m == 0xee && n >= 14 && len(body) >= 12 && string(body[:5]) == "Adobe" {
			return body[11], true
		}
		at += 2 + n
	}
	return 0, false
}

// jpegVerdict is the reason for which a stream was refused; the decoder's text stays here.
func jpegVerdict(err error) error {
	var format jpeg.FormatError
	var kind jpeg.UnsupportedError
	switch {
	case errors.As(err, &kind):
		return unreadable("JPEG of a process that is not decoded, such as 12 bits")
	case errors.As(err, &format) && format != "short Huffman data":
		return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "a JPEG stream that makes no sense")
	}
	return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "a JPEG stream that ends early")
}
