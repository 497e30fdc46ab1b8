package dicom

import (
	"encoding/binary"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	rleHead     = 64 // the number of segments and the offsets of up to 15
	rleSegments = 15
	rleGrowth   = 64 // a run of 128 has two bytes
)

// decodeRLE decodes a frame of RLE (PS3.5 annex G): a segment for each byte of each sample, the
// highest byte first.
func decodeRLE(dst, stream []byte, l *Layout, _ FrameLimits) (*samples, error) {
	unit, pixels := l.bytes(), l.pixels()
	planes := l.Samples * unit
	if l.BitsAllocated == 1 || planes > rleSegments {
		return nil, unreadable("run lengths of single bits, or of too many bytes")
	}
	if len(stream) < rleHead || binary.LittleEndian.Uint32(stream) != uint32(planes) {
		return nil, gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "no RLE header for %d segments", planes)
	}
	if pixels/rleGrowth > len(stream) {
		return nil, rleShort()
	}
	dst = grown(dst, pixels*planes)
	from := int64(rleHead)
	for i := range planes {
		to := int64(len(stream))
		if i+1 < planes {
			to = int64(binary.LittleEndian.Uint32(stream[4*(i+2):]))
		}
		if at := int64(binary.LittleEndian.Uint32(stream[4*(i+1):])); at < from || to < at || to > int64(len(stream)) {
			return nil, gantry.Errorf(gantry.Illegal, CodeLengthOutOfBounds, "an RLE segment outside its frame")
		} else {
			from = at
		}
		first := i/unit*unit + unit - 1 - i%unit // of the bytes of a pixel
		if !unpackBits(dst[first:], stream[from:to], planes, pixels) {
			return nil, rleShort()
		}
		from = to
	}
	return &samples{rows: l.Rows, columns: l.Columns, samples: l.Samples, bits: 8 * unit, photometric: full(l.Photometric), values: dst}, nil
}

func rleShort() error {
	return gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "an RLE segment of fewer bytes than the image has")
}

// unpackBits writes n bytes, one at every step-th place of dst, and tells whether there were as
// many. What comes after them is padding.
func unpackBits(dst, segment []byte, step, n int) bool {
	at, end := 0, n*step
	for at < end && len(segment) > 1 {
		c := int(segment[0])
		switch {
		case c < 128:
			run := min(c+1, len(segment)-1)
			for _, b := range segment[1 : 1+run] {
				if at >= end {
					return true
				}
				dst[at] = b
				at += step
			}
			segment = segment[1+run:]
		case c > 128:
			b := segment[1]
			for range 257 - c {
				if at >= end {
					return true
				}
				dst[at] = b
				at += step
			}
			segment = segment[2:]
		default:
			segment = segment[1:]
		}
	}
	return at >= end
}

// full is the photometric interpretation of samples that are all there, whatever the file says.
func full(photometric string) string {
	if photometric == "YBR_FULL_422" {
		return "YBR_FULL"
	}
	return photometric
}
