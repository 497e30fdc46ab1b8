package models

// coarse is how many pixels of an image's shorter side make one of the radius of its opening and
// closing.
const coarse = 256

// segment makes a mask of a picture: 255 where it is brighter than Otsu's threshold, 0 elsewhere,
// opened and then closed with a square, which takes off specks and fills holes that are smaller
// than it. The square reaches radius pixels to each side. An image of a single value gives an empty
// mask.
func segment(p *picture) {
	threshold := otsu(p)
	for i, v := range p.grey {
		p.grey[i] = 0
		if v > threshold {
			p.grey[i] = 1
		}
	}
	r := max(1, min(p.width, p.height)/coarse)
	for _, erode := range []bool{true, false, false, true} { // opening, closing
		p.morph(r, erode)
	}
	for i := range p.grey {
		p.grey[i] *= 0xff
	}
	p.top, p.colour = 0xff, nil
}

// otsu is the value that divides the pixels into two classes with the largest variance between
// them, the lowest of several (Otsu, "A threshold selection method from gray-level histograms",
// 1979): those up to it and those above. Products are rounded before they are summed, so that every
// processor gives the same.
func otsu(p *picture) uint16 {
	counts := sized(&p.counts, int(p.top)+1)
	clear(counts)
	var total float64
	for _, v := range p.grey {
		counts[v]++
		total += float64(v)
	}
	n := float64(len(p.grey))
	best, at := 0.0, p.top
	var below, sum float64 // pixels up to a value, and the sum of their values
	for v, c := range counts {
		if c == 0 {
			continue
		}
		below += float64(c)
		sum += float64(float64(v) * float64(c))
		if below == n {
			break
		}
		apart := float64(total*below) - float64(sum*n)
		if between := float64(apart*apart) / float64(below*(n-below)); between > best {
			best, at = between, uint16(v)
		}
	}
	return at
}

// morph erodes or dilates a picture of zeros and ones with a square of 2r+1 pixels: first its rows,
// then its columns. What lies outside of the picture decides nothing.
func (p *picture) morph(r int, erode bool) {
	other := sized(&p.half, len(p.grey))
	for y := range p.height {
		line(other[y*p.width:], p.grey[y*p.width:], 1, p.width, r, erode)
	}
	for x := range p.width {
		line(p.grey[x:], other[x:], p.width, p.height, r, erode)
	}
}

// line slides a window of 2r+1 over n values that lie stride apart.
func line(to, from []uint16, stride, n, r int, erode bool) {
	sum := 0
	for x := range min(r, n) {
		sum += int(from[x*stride])
	}
	for x := range n {
		if x+r < n {
			sum += int(from[(x+r)*stride])
		}
		if x > r {
			sum -= int(from[(x-r-1)*stride])
		}
		most := 0 // ones that do not suffice
		if erode {
			most = min(x+r, n-1) - max(x-r, 0)
		}
		to[x*stride] = 0
		if sum > most {
			to[x*stride] = 1
		}
	}
}
