package dicom

import (
	"encoding/binary"
	"math"
)

// stored is value i as a number.
func (p *Picture) stored(i int) float64 {
	o := binary.LittleEndian
	switch {
	case p.Float && p.Bytes == 4:
		return float64(math.Float32frombits(o.Uint32(p.Values[4*i:])))
	case p.Float:
		return math.Float64frombits(o.Uint64(p.Values[8*i:]))
	}
	switch p.Bytes {
	case 1:
		if p.Signed {
			return float64(int8(p.Values[i]))
		}
		return float64(p.Values[i])
	case 2:
		if v := o.Uint16(p.Values[2*i:]); p.Signed {
			return float64(int16(v))
		} else {
			return float64(v)
		}
	}
	if v := o.Uint32(p.Values[4*i:]); p.Signed {
		return float64(int32(v))
	} else {
		return float64(v)
	}
}

// count is the number of values.
func (p *Picture) count() int { return len(p.Values) / p.Bytes }

// extent is the least and the largest value of the picture, what is no number or infinite apart.
func (p *Picture) extent(s *shade) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	switch {
	case s.modality == nil && p.Bytes == 2 && !p.Signed:
		least, most := uint16(math.MaxUint16), uint16(0)
		for b := p.Values; len(b) > 1; b = b[2:] {
			v := binary.LittleEndian.Uint16(b)
			least, most = min(least, v), max(most, v)
		}
		low, high = s.value(float64(least)), s.value(float64(most))
	case s.modality == nil && p.Bytes == 2:
		least, most := int16(math.MaxInt16), int16(math.MinInt16)
		for b := p.Values; len(b) > 1; b = b[2:] {
			v := int16(binary.LittleEndian.Uint16(b))
			least, most = min(least, v), max(most, v)
		}
		low, high = s.value(float64(least)), s.value(float64(most))
	default:
		for i := range p.count() {
			if x := s.value(p.stored(i)); !math.IsInf(x, 0) && !math.IsNaN(x) {
				low, high = min(low, x), max(high, x)
			}
		}
	}
	return min(low, high), max(low, high) // a slope may be negative
}

// shading is a shade with the grey of every stored value.
type shading struct {
	shade
	grey []byte
}

// greys writes the grey of every pixel.
func (f *Frames) greys(dst []byte, p *Picture, s shade) {
	if p.Bytes > 2 {
		for i := range dst {
			dst[i] = s.of(p.stored(i))
		}
		return
	}
	t := f.shadingOf(p, s)
	mask := len(t.grey) - 1
	if p.Bytes == 1 {
		for i, v := range p.Values {
			dst[i] = t.grey[int(v)&mask]
		}
		return
	}
	for i := range dst {
		dst[i] = t.grey[int(binary.LittleEndian.Uint16(p.Values[2*i:]))&mask]
	}
}

// shadingOf makes the table of a shade, or takes the last one if it is the same.
func (f *Frames) shadingOf(p *Picture, s shade) *shading {
	if t := f.shades.Load(); t != nil && t.shade == s {
		return t
	}
	t := &shading{s, make([]byte, 1<<p.BitsStored)}
	for i := range t.grey {
		v := i
		if p.Signed && v>>(p.BitsStored-1) != 0 {
			v -= 1 << p.BitsStored
		}
		t.grey[i] = s.of(float64(v))
	}
	f.shades.Store(t)
	return t
}
