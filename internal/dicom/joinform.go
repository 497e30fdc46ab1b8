package dicom

import (
	"context"
	"encoding/binary"
	"math"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// form is how a result stores its frames, and what pictures must be for it.
type form struct {
	rows, columns, samples int
	bytes, bits            int  // of each value, and how many of the bits count
	shift                  int  // bits below those
	single                 bool // values are single bits, one behind another through all frames
	signed                 bool // two's complement
	photometric            string
	kept                   bool // the values are those of the source
	like                   Picture
	colours                string // what a picture's colours are, which become RGB; else empty
	rescaled               bool   // pictures have values after rescaling
	offset                 int    // what a picture's values are above the stored ones
}

// size is the bytes of a frame.
func (f *form) size() int { return f.rows * f.columns * f.samples * f.bytes }

// formOf finds the form for a picture: the source's, or that of a derived image.
func (s *joiner) formOf(ctx context.Context, p *Picture) (*form, error) {
	l := s.src.Layout()
	f := &form{rows: p.Rows, columns: p.Columns, samples: p.Samples, bytes: p.Bytes, bits: 8 * p.Bytes,
		photometric: p.Photometric, like: *p}
	f.like.Values = nil
	same := p.Rows == l.Rows && p.Columns == l.Columns && p.Samples == l.Samples && !l.Float &&
		l.BitsAllocated <= 16
	switch number := p.Float || p.Signed; {
	case same && number && s.j.Sent == gantry.RenderNPY && s.src.shows.modality == nil:
		f.keep(&l)
		f.rescaled = p.Samples == 1 && s.src.palette == nil
		return f, nil
	case same && s.j.Window.kind == windowStored && s.j.Sent == gantry.RenderPNG &&
		!p.Float && p.Bytes == l.bytes() && (l.Signed || !p.Signed):
		f.keep(&l)
		if l.Signed && !p.Signed {
			f.offset = 1 << (l.BitsStored - 1)
		}
		if p.Samples == 3 { // the values are the decoder's, which may know better than the file
			was, err := s.src.Picture(ctx, s.first)
			if err != nil {
				return nil, err
			}
			f.photometric = was.Photometric
			if f.photometric == "YBR_FULL" && l.Photometric != f.photometric && p.Bytes == 1 {
				f.photometric, f.colours = "RGB", f.photometric // 4:2:2, filled up, is of no class
			}
		}
		return f, nil
	case same && p.Samples == 3 && p.Bytes == 1 && !number && l.BitsAllocated == 8 && l.BitsStored == 8 && !l.Signed:
		f.keep(&l)
		return f, nil
	case number || p.Bytes > 2 || p.Samples == 3 && p.Bytes > 1:
		return nil, gantry.Errorf(gantry.Permanent, gantry.CodeUnsupportedFormat,
			"join frames: answers of signed or floating values, or of colour over 8 bits, that are not values of the source")
	}
	return f, nil
}

// keep takes the layout of the source. Colour is taken for RGB.
func (f *form) keep(l *Layout) {
	f.kept, f.bytes, f.bits, f.signed = true, l.bytes(), l.BitsStored, l.Signed
	f.shift, f.single = l.HighBit+1-l.BitsStored, l.BitsAllocated == 1
	if l.Samples == 1 {
		f.photometric = l.Photometric
	}
}

// low and high are the values that the form can hold.
func (f *form) low() int {
	if f.signed {
		return -1 << (f.bits - 1)
	}
	return 0
}

func (f *form) high() int { return f.low() + 1<<f.bits - 1 }

// put stores a picture.
func (f *form) put(dst []byte, p *Picture, s show) error {
	if p.Rows != f.like.Rows || p.Columns != f.like.Columns || p.Samples != f.like.Samples || p.Bytes != f.like.Bytes ||
		p.Signed != f.like.Signed || p.Float != f.like.Float || p.Photometric != f.like.Photometric ||
		len(p.Values) != f.rows*f.columns*f.samples*p.Bytes {
		return gantry.Errorf(gantry.Illegal, CodeMismatchedFrames, "a picture of another layout than those before it")
	}
	if f.colours != "" {
		mixed := Picture{Bytes: p.Bytes, Photometric: f.colours, Values: p.Values}
		return mixed.rgb(dst)
	}
	if !f.rescaled && !p.Float && f.offset == 0 && f.shift == 0 && f.bits == 8*f.bytes && p.Bytes == f.bytes && p.Signed == f.signed {
		copy(dst, p.Values)
		return nil
	}
	if !f.rescaled {
		s.slope, s.intercept = 1, float64(f.offset)
	}
	if s.slope == 0 {
		return gantry.Errorf(gantry.Permanent, gantry.CodeUnsupportedFormat, "values cannot be taken back through a slope of 0")
	}
	low, high := float64(f.low()), float64(f.high())
	for i := range p.count() {
		x := math.Round((p.stored(i) - s.intercept) / s.slope)
		if !(x >= low && x <= high) {
			return gantry.Errorf(gantry.Illegal, CodeMismatchedFrames, "a value outside of those of the source")
		}
		f.store(dst, i, int(x))
	}
	return nil
}

// store puts value i in its place.
func (f *form) store(dst []byte, i, v int) {
	v <<= f.shift
	if f.bytes == 1 {
		dst[i] = byte(v)
		return
	}
	binary.LittleEndian.PutUint16(dst[2*i:], uint16(v))
}

// bitPacker puts values of single bits together, the first lowest (PS3.5 section 8.1.1).
type bitPacker struct {
	out []byte
	acc byte
	n   int
}

// add gives the bytes that are full. They are good until the next call.
func (k *bitPacker) add(values []byte) []byte {
	k.out = k.out[:0]
	for _, v := range values {
		k.acc |= v << k.n
		if k.n++; k.n == 8 {
			k.out = append(k.out, k.acc)
			k.acc, k.n = 0, 0
		}
	}
	return k.out
}

// rest gives the last byte, if it is not full.
func (k *bitPacker) rest() []byte {
	if k.n == 0 {
		return nil
	}
	return []byte{k.acc}
}

// black fills a frame with what is shown as black: the least value, the greatest of MONOCHROME1,
// and no colour difference.
func (f *form) black(dst []byte) {
	dark := [3]int{f.low(), f.low(), f.low()}
	switch {
	case f.photometric == monochrome1:
		dark[0] = f.high()
	case strings.HasPrefix(f.photometric, "YBR"):
		dark[1], dark[2] = 1<<(f.bits-1), 1<<(f.bits-1)
	}
	for i := range len(dst) / f.bytes {
		f.store(dst, i, dark[i%f.samples])
	}
}
