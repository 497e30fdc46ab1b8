package dicom

import (
	"math"
	"math/bits"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// pixelData reads Pixel Data at any level: the image's own in the outermost data set, an icon's
// below (PS3.5 section 8 and annex A.4).
func (s *scanner) pixelData(f *frame, e element) error {
	root := len(s.stack) == 1
	switch {
	case e.explicit && e.vr != vrOB && e.vr != vrOW && e.vr != vrUN:
		return refuse(CodeBadVR, e.tag, e.at, "pixel data of another VR")
	case e.undefined && (!s.ts.encapsulated || !e.explicit || e.vr == vrUN):
		return refuse(gantry.CodeMalformed, e.tag, e.at, "undefined length in a native transfer syntax")
	case e.undefined:
		return s.fragments(f, root)
	case root && s.ts.encapsulated:
		return refuse(gantry.CodeMalformed, e.tag, e.at, "defined length in an encapsulated transfer syntax")
	}
	if err := s.fits(f, e.length, e); err != nil {
		return err
	}
	if root {
		return s.nativePixels(e)
	}
	return s.past(e, e.length)
}

// nativePixels notes where the samples lie and goes past them.
func (s *scanner) nativePixels(e element) error {
	if s.code.at != 0 {
		return refuse(CodeDuplicateElement, e.tag, e.at, "a second kind of pixel data")
	}
	s.code.at, s.code.tag = e.at, e.tag
	if !s.ts.deflated {
		s.info.PixelOffset = s.src.pos()
	}
	s.info.PixelLength = e.length
	if s.spans != nil {
		s.spans(e, false)
	}
	return s.past(e, e.length)
}

// fragments follows the items of encapsulated pixel data by their lengths: the offset table, the
// fragments, the delimiter, which must be there.
func (s *scanner) fragments(f *frame, root bool) error {
	if root {
		s.code.at, s.code.tag = s.src.pos(), tagPixelData
		s.info.Encapsulated, s.info.PixelOffset = true, s.src.pos()
	}
	for table := true; ; table = false {
		e, err := s.header(f)
		if err != nil {
			return err
		}
		if e.undefined || e.tag != tagItem && (e.tag != tagSeqEnd || e.length != 0 || table) {
			return refuse(gantry.CodeMalformed, e.tag, e.at, "no fragment where one must be")
		}
		if e.tag == tagSeqEnd {
			return nil
		}
		if s.elements++; s.elements > s.lim.MaxElements {
			return refuse(gantry.CodeTooLarge, e.tag, e.at, "over %d elements", s.lim.MaxElements)
		}
		if err := s.fits(f, e.length, e); err != nil {
			return err
		}
		if err := s.fragment(e, root, table); err != nil {
			return err
		}
	}
}

func (s *scanner) fragment(e element, root, table bool) error {
	if root && s.spans != nil {
		s.spans(e, table)
	}
	switch {
	case table && e.length%4 != 0:
		return refuse(gantry.CodeMalformed, e.tag, e.at, "an offset table of %d bytes", e.length)
	case table && root:
		s.info.Offsets = int(e.length / 4)
	case root:
		s.info.Fragments++
		s.info.PixelLength += e.length
		used, err := s.code.look(s.src, s.ts.codec, e)
		if err != nil {
			return err
		}
		return s.past(e, e.length-used)
	}
	return s.past(e, e.length)
}

// nativeSize is the number of bytes that an image needs without compression; ok is false if it
// is beyond 63 bits. Frames of single bits follow each other without padding (PS3.5 section 8.1.1),
// and 4:2:2 leaves out half of the colour (PS3.3 section C.7.6.3.1.2).
func nativeSize(rows, columns, samples, bitsAllocated, frames int, photometric string) (n int64, ok bool) {
	perPixel := uint64(samples) * uint64(bitsAllocated)
	if samples == 3 {
		switch photometric {
		case "YBR_FULL_422", "YBR_PARTIAL_422":
			perPixel = 2 * uint64(bitsAllocated)
		case "YBR_PARTIAL_420":
			perPixel = 3 * uint64(bitsAllocated) / 2
		}
	}
	hi, lo := bits.Mul64(uint64(rows)*uint64(columns), uint64(frames))
	if hi != 0 {
		return 0, false
	}
	hi, lo = bits.Mul64(lo, perPixel)
	if hi != 0 || lo > math.MaxInt64-7 {
		return 0, false
	}
	return int64((lo + 7) / 8), true
}
