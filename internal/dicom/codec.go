package dicom

import (
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The transfer syntaxes whose frames are decoded, beside the native ones.
const (
	syntaxFragments = "1.2.840.10008.1.2.1.98"
	syntaxBaseline  = "1.2.840.10008.1.2.4.50"
	syntaxExtended  = "1.2.840.10008.1.2.4.51"
	syntaxRLE       = "1.2.840.10008.1.2.5"
)

// samples is what a code stream holds.
type samples struct {
	rows, columns, samples int
	bits                   int    // of each value: up to 8 in one byte, up to 16 in two, up to 32 in four
	photometric            string // of the values, where the stream knows better than the file; else empty
	values                 []byte // row by row, the samples of a pixel side by side, little endian
}

// decoder decodes the code stream of one frame. The values may be appended to dst, which is
// empty, so that its memory is used again; or be new. A decoder allocates nothing by a size that
// the stream or l says before it has seen that the stream is long enough for it; l is within lim.
// Errors are Illegal *gantry.Error.
type decoder func(dst, stream []byte, l *Layout, lim FrameLimits) (*samples, error)

// decoderOf finds the decoder of an encapsulated transfer syntax.
func decoderOf(uid string) (decoder, error) {
	switch uid {
	case syntaxFragments:
		return decodeFragment, nil
	case syntaxRLE:
		return decodeRLE, nil
	case syntaxBaseline, syntaxExtended: // extended streams of 8 bits too
		return decodeBaseline, nil
	}
	return nil, gantry.Errorf(gantry.Illegal, CodeUnsupportedSyntax, "open frames: pixels in this transfer syntax are not decoded")
}

// lossySyntax tells whether frames of a transfer syntax have lost something, or may have.
func lossySyntax(uid string) bool {
	switch c, _, _ := codecOf(uid); c {
	case videoCodec:
		return true
	case jpegCodec:
		switch uid {
		case "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80",
			"1.2.840.10008.1.2.4.58", "1.2.840.10008.1.2.4.65", "1.2.840.10008.1.2.4.66":
			return false
		}
		return true
	case j2kCodec:
		return uid == "1.2.840.10008.1.2.4.91" || uid == "1.2.840.10008.1.2.4.93" || uid == "1.2.840.10008.1.2.4.203"
	}
	return false
}

// fit takes the values over into p, in its size. Values of 8 bits may stand where 16 are allocated.
func (s *samples) fit(p *Picture) error {
	width := (s.bits + 7) / 8
	if width == 3 {
		width = 4
	}
	if s.rows != p.Rows || s.columns != p.Columns || s.samples != p.Samples || width > p.Bytes ||
		len(s.values) != p.Rows*p.Columns*p.Samples*width {
		return gantry.Errorf(gantry.Illegal, CodePixelSize, "the code stream is another image than the file says")
	}
	if s.photometric != "" {
		p.Photometric = s.photometric
	}
	p.Values = s.values
	if width < p.Bytes {
		p.Values = make([]byte, p.Rows*p.Columns*p.Samples*p.Bytes)
		for i := range len(s.values) / width {
			copy(p.Values[i*p.Bytes:], s.values[i*width:(i+1)*width])
		}
	}
	return nil
}
