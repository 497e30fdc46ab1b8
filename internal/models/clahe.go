package models

import "math"

// What /v1/enhance uses.
const (
	defaultTiles = 8   // in each direction
	defaultClip  = 2.5 // times the mean count of a histogram
)

const (
	minTile = 16   // pixels; a small image has fewer tiles
	minBins = 256  // of a histogram, if the image has as many values
	maxBins = 4096 // deeper images are interpolated within a bin
	perBin  = 4    // pixels of a tile to a bin, or the limit would be lost in rounding
	unit    = 4096 // the sum of two blending weights
)

// equalise is contrast-limited adaptive histogram equalisation (Pizer et al. 1987, Zuiderveld in
// Graphics Gems IV, 1994) on the luminance: a histogram for each of tiles x tiles tiles, no count
// above clip times the mean count, what is cut off spread over the others; each histogram's
// cumulative sum is that tile's curve, and a pixel goes through the curves of the four nearest
// tiles, weighed bilinearly. A clip of 0 or infinity cuts nothing off. Values use the whole depth
// afterwards. An image of a single value stays as it is. All arithmetic on pixels is in integers,
// so every processor gives the same bytes.
func equalise(p *picture, tiles int, clip float64) {
	low, high := p.grey[0], p.grey[0]
	for _, v := range p.grey {
		low, high = min(low, v), max(high, v)
	}
	if low == high {
		return
	}
	m := newCurves(p, low, high, tiles, clip)
	m.blend(p)
}

// curves maps values to values, differently in each tile.
type curves struct {
	low     uint16
	shift   uint // a bin is 1 << shift values wide
	bins    int
	columns []int // where tiles begin, and the end
	rows    []int
	table   []uint16 // for each tile, row by row: 0, then the value at the upper end of each bin
}

func newCurves(p *picture, low, high uint16, tiles int, clip float64) *curves {
	m := &curves{low: low, columns: borders(p.width, tiles), rows: borders(p.height, tiles)}
	across := len(m.columns) - 1
	share := p.width * p.height / (across * (len(m.rows) - 1)) // of a tile
	most := min(max(share/perBin, minBins), maxBins)
	for int(high-low)>>m.shift >= most {
		m.shift++
	}
	m.bins = int(high-low)>>m.shift + 1
	m.table = sized(&p.curves, across*(len(m.rows)-1)*(m.bins+1))
	counts := sized(&p.counts, m.bins)
	for r := range len(m.rows) - 1 {
		for c := range across {
			clear(counts)
			for y := m.rows[r]; y < m.rows[r+1]; y++ {
				for _, v := range p.grey[y*p.width+m.columns[c] : y*p.width+m.columns[c+1]] {
					counts[(v-low)>>m.shift]++
				}
			}
			limit(counts, (m.rows[r+1]-m.rows[r])*(m.columns[c+1]-m.columns[c]), clip)
			at := (r*across + c) * (m.bins + 1)
			accumulate(m.table[at:at+m.bins+1], counts, p.top)
		}
	}
	return m
}

// borders divides n pixels into up to tiles runs of at least minTile.
func borders(n, tiles int) []int {
	tiles = min(tiles, max(1, n/minTile))
	b := make([]int, tiles+1)
	for i := range b {
		b[i] = i * n / tiles
	}
	return b
}

// limit cuts counts at clip times their mean, and gives what was cut off to those below, evenly
// and never above the limit. n is the sum of the counts.
func limit(counts []uint32, n int, clip float64) {
	top := math.Floor(clip * float64(n) / float64(len(counts)))
	if clip <= 0 || top >= float64(n) {
		return
	}
	most := max(1, uint32(top))
	excess := 0
	for i, c := range counts {
		if c > most {
			excess += int(c - most)
			counts[i] = most
		}
	}
	share := uint32(excess / len(counts))
	for i, c := range counts {
		more := min(share, most-c)
		counts[i] += more
		excess -= int(more)
	}
	for left := excess + 1; excess > 0 && excess < left; { // until all is given or all are full
		left = excess
		excess = sprinkle(counts, most, excess)
	}
}

// sprinkle gives one each to counts below most, with even gaps, and returns what it has left.
func sprinkle(counts []uint32, most uint32, excess int) int {
	stride := max(1, len(counts)/excess)
	for start := range stride {
		for i := start; i < len(counts); i += stride {
			if excess == 0 {
				return 0
			}
			if counts[i] < most {
				counts[i]++
				excess--
			}
		}
	}
	return excess
}

// accumulate makes a curve of counts: it rises from 0 to top and never falls.
func accumulate(curve []uint16, counts []uint32, top uint16) {
	var total, sum uint64
	for _, c := range counts {
		total += uint64(c)
	}
	curve[0] = 0
	for i, c := range counts {
		sum += uint64(c)
		curve[i+1] = uint16((sum*uint64(top) + total/2) / total)
	}
}

// place is where a row or column of pixels lies between the centres of two tiles.
type place struct {
	a, b   int    // tiles
	weight uint64 // of b, out of unit
}

// places finds the tiles around each of n pixels. Those before the first centre and behind the
// last have one tile only. Distances are doubled, so that centres are whole numbers.
func places(n int, borders []int) []place {
	out := make([]place, n)
	last := len(borders) - 2
	centre := func(i int) int { return borders[i] + borders[i+1] - 1 }
	t := 0
	for x := range out {
		for t < last && centre(t+1) <= 2*x {
			t++
		}
		switch {
		case 2*x <= centre(0), t == last:
			out[x] = place{a: t, b: t}
		default:
			out[x] = place{t, t + 1, uint64((2*x - centre(t)) * unit / (centre(t+1) - centre(t)))}
		}
	}
	return out
}

// blend sends every pixel through the curves around it.
func (m *curves) blend(p *picture) {
	xs, ys := places(p.width, m.columns), places(p.height, m.rows)
	across, length := len(m.columns)-1, m.bins+1
	for y, v := range ys {
		upper, lower := m.table[v.a*across*length:], m.table[v.b*across*length:]
		for x, h := range xs {
			i := y*p.width + x
			value := p.grey[i] - m.low
			bin, part := int(value>>m.shift), uint64(value)&(1<<m.shift-1)+1
			a, b := h.a*length+bin, h.b*length+bin
			top := m.at(upper[a:], part)*(unit-h.weight) + m.at(upper[b:], part)*h.weight
			low := m.at(lower[a:], part)*(unit-h.weight) + m.at(lower[b:], part)*h.weight
			sum := top*(unit-v.weight) + low*v.weight
			luma := uint16((sum>>m.shift + unit*unit/2) / (unit * unit))
			if p.colour != nil {
				p.recolour(i, luma)
			}
			p.grey[i] = luma
		}
	}
}

// at is the curve's value times 1 << shift, part of the way through the bin that c begins with.
func (m *curves) at(c []uint16, part uint64) uint64 {
	return uint64(c[0])*(1<<m.shift-part) + uint64(c[1])*part
}
