package sample

import (
	"image"
	"math"
)

// The field of the radiograph and what is in it, in millimetres. x runs to the right of the film
// from the midline (the patient's left), y down from the upper edge, z to the back.
const field = 380.0

// How strongly tissue weakens the beam, per millimetre, at about 100 kV.
const (
	muSoft = 0.0185
	muBone = 0.030 // above soft tissue
	muLead = 3.0
)

const (
	lungAir   = 0.76 // share of a lung that is air
	scatter   = 0.03 // of the open beam, reaching every point of the film
	noiseOpen = 0.005
)

// The film's grey: a flat rendering as a detector gives it before anybody adjusts it.
const (
	greyBase  = 34.0
	greySlope = 43.0
)

// XRay is a frontal chest radiograph of size x size pixels, 8-bit grey, bone white: a projection
// of ribs, spine, heart, diaphragm and vessels through overlapping tissue (Beer-Lambert), with
// scatter and quantum noise, and as flat as films come. Sizes from 64 to 4096 make sense. It
// serves to try pipelines and filters, and shows no anatomy that anybody should learn from.
func XRay(size int) *image.Gray {
	f := newFilm(size)
	f.tissue()
	f.vessels()
	f.skeleton()
	f.marker()
	img := image.NewGray(image.Rect(0, 0, size, size))
	beam := f.blurred(f.attenuation())
	unit := float64(size) / 1024 // a larger pixel gathers more quanta
	for i, a := range beam {
		signal := math.Exp(-float64(a)) + scatter
		v := -math.Log(signal/(1+scatter)) + noiseOpen*unit*gauss(uint64(i))/math.Sqrt(signal)
		img.Pix[i] = uint8(min(max(math.Round(greyBase+greySlope*v), 0), 255))
	}
	return img
}

// film holds what the beam has passed at each pixel, in millimetres.
type film struct {
	size   int
	scale  float64 // pixels per millimetre
	soft   []float32
	lung   []float32
	vessel []float32
	bone   []float32
	lead   []float32
}

func newFilm(size int) *film {
	layer := func() []float32 { return make([]float32, size*size) }
	return &film{size, float64(size) / field, layer(), layer(), layer(), layer(), layer()}
}

// each calls paint with every pixel's index and place.
func (f *film) each(paint func(i int, x, y float64)) {
	for py := range f.size {
		y := (float64(py) + 0.5) / f.scale
		for px := range f.size {
			paint(py*f.size+px, (float64(px)+0.5)/f.scale-field/2, y)
		}
	}
}

// attenuation is the exponent of Beer-Lambert. Vessels show in the lungs alone, where they take
// the place of air.
func (f *film) attenuation() []float32 {
	out := make([]float32, len(f.soft))
	for i := range out {
		lung := float64(f.lung[i])
		air := lungAir * max(0, lung-min(float64(f.vessel[i]), lung))
		out[i] = float32(muSoft*max(0, float64(f.soft[i])-air) + muBone*float64(f.bone[i]) + muLead*float64(f.lead[i]))
	}
	return out
}

// blurred softens edges by about half a millimetre, as a focal spot does.
func (f *film) blurred(in []float32) []float32 {
	n := f.size
	for range int(math.Round(0.22 * f.scale * f.scale)) {
		out := make([]float32, len(in))
		for y := range n {
			up, down := max(y-1, 0)*n, min(y+1, n-1)*n
			for x := range n {
				l, r, c := max(x-1, 0), min(x+1, n-1), y*n
				out[c+x] = (4*in[c+x] + 2*(in[c+l]+in[c+r]+in[up+x]+in[down+x]) +
					in[up+l] + in[up+r] + in[down+l] + in[down+r]) / 16
			}
		}
		in = out
	}
	return in
}

// point is a place in space.
type point struct{ x, y, z float64 }

// tube adds a tube along a path from t = 0 to 1, of radius r(t), to a layer. Its thickness is
// weight times that of a round one. Where it runs with the beam it gets thicker, as it should.
func (f *film) tube(layer []float32, weight float64, path func(t float64) point, r func(t float64) float64) {
	const coarse = 64
	length := 0.0
	for i, last := 1, path(0); i <= coarse; i++ {
		p := path(float64(i) / coarse)
		length += math.Sqrt((p.x-last.x)*(p.x-last.x) + (p.y-last.y)*(p.y-last.y) + (p.z-last.z)*(p.z-last.z))
		last = p
	}
	steps := max(1, int(length*f.scale*1.5))
	for i := range steps {
		t := (float64(i) + 0.5) / float64(steps)
		p := path(t)
		f.disc(layer, p.x, p.y, r(t), weight*length/float64(steps))
	}
}

// disc adds weight to a round patch with an edge of one pixel.
func (f *film) disc(layer []float32, x, y, r, weight float64) {
	cx, cy, cr := (x+field/2)*f.scale-0.5, y*f.scale-0.5, r*f.scale
	y0, y1 := max(0, int(cy-cr-1)), min(f.size-1, int(cy+cr+1))
	x0, x1 := max(0, int(cx-cr-1)), min(f.size-1, int(cx+cr+1))
	in, out := max(0, cr-0.5), cr+0.5
	for py := y0; py <= y1; py++ {
		for px := x0; px <= x1; px++ {
			dx, dy := float64(px)-cx, float64(py)-cy
			d := dx*dx + dy*dy
			switch {
			case d <= in*in:
				layer[py*f.size+px] += float32(weight)
			case d < out*out:
				layer[py*f.size+px] += float32(weight * (out - math.Sqrt(d)))
			}
		}
	}
}
