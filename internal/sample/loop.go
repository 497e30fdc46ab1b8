package sample

import (
	"image"
	"math"
)

// The fan of the ultrasound, in heights of the picture: the probe lies above its upper edge.
const (
	probeAbove = 0.05
	fanNear    = 0.07
	fanDepth   = 1.0
	fanAngle   = 0.72 // of each side, radians
)

// How much comes back from what the fan shows, of 255.
const (
	echoBlood  = 9.0
	echoMuscle = 98.0
	echoTissue = 62.0
	echoValve  = 205.0
)

// Loop is a beat of a heart under ultrasound as frames pictures of width x height pixels, 8-bit
// grey: a fan with two chambers, an atrium and a valve that opens, in speckle, and black around it.
// The last frame comes before the first again. It shows no anatomy that anybody should learn from.
func Loop(frames, width, height int) []*image.Gray {
	out := make([]*image.Gray, frames)
	for f := range out {
		h := heartAt(float64(f) / float64(frames))
		m := image.NewGray(image.Rect(0, 0, width, height))
		for i := range m.Pix {
			x := (float64(i%width) + 0.5 - float64(width)/2) / float64(height)
			y := (float64(i/width)+0.5)/float64(height) + probeAbove
			m.Pix[i] = h.echo(x, y, uint64(f))
		}
		out[f] = m
	}
	return out
}

// heart is its shape at one moment.
type heart struct {
	squeeze float64 // of the chambers, 0 to 1
	open    float64 // the valve, 0 to 1
}

// heartAt is the heart at a phase from 0 to 1: it contracts over a third of the beat.
func heartAt(phase float64) heart {
	s := smooth(phase/0.3) - smooth((phase-0.38)/0.25)
	return heart{squeeze: s, open: smooth((phase-0.55)/0.1) * smooth((0.98-phase)/0.15)}
}

// echo is the grey at a place, in heights of the picture from the probe.
func (h heart) echo(x, y float64, frame uint64) uint8 {
	r, a := math.Hypot(x, y), math.Atan2(x, y)
	edge := step(fanAngle, fanAngle-0.02, math.Abs(a)) * step(fanNear, fanNear+0.015, r) * step(fanDepth, fanDepth-0.01, r)
	if edge == 0 {
		return 0
	}
	base := h.tissue(x, y)
	// Speckle is fine along the beam and coarse across, and goes along with the wall.
	u, v := a*52, (r+0.02*h.squeeze)*118
	p, q := cloud(u, v, 71), cloud(u+31, v, 72+frame%2)
	grain := math.Sqrt(p*p + q*q)
	gain := (1.1 - 0.45*r) * (0.9 + 0.1*cloud(a*9, 0, 73))
	value := base*(0.25+1.35*grain)*gain + 5*max(0, cloud(u*1.7, v*1.3, 80+frame))
	return uint8(min(max(math.Round(value*edge), 0), 255))
}

// tissue is what lies at a place.
func (h heart) tissue(x, y float64) float64 {
	ventricle := oval(x-0.05, y-0.47, 0.155*(1-0.24*h.squeeze), 0.255*(1-0.15*h.squeeze), 0.12)
	wall := oval(x-0.05, y-0.47, 0.225*(1-0.06*h.squeeze), 0.325*(1-0.07*h.squeeze), 0.12)
	other := oval(x+0.235, y-0.50, 0.075*(1-0.2*h.squeeze), 0.2*(1-0.12*h.squeeze), -0.16)
	atrium := oval(x-0.09, y-0.86, 0.16*(1+0.12*h.squeeze), 0.105*(1+0.16*h.squeeze), 0)
	value := lerp(echoTissue, echoMuscle, step(1.03, 0.97, wall))
	value += 90 * math.Exp(-math.Pow((wall-1.1)/0.035, 2)) * step(-0.02, 0.1, x) // the sac's bright edge
	for _, chamber := range []float64{ventricle, other, atrium} {
		value = lerp(value, echoBlood, step(1.04, 0.94, chamber))
	}
	return max(value, echoValve*h.valve(x, y))
}

// oval is below 1 inside an ellipse with half axes a and b, turned by angle.
func oval(x, y, a, b, angle float64) float64 {
	sin, cos := math.Sincos(angle)
	return math.Hypot((x*cos+y*sin)/a, (y*cos-x*sin)/b)
}

// valve is 1 on one of two leaflets between ventricle and atrium, 0 away from them.
func (h heart) valve(x, y float64) float64 {
	const hinge, length = 0.1, 0.105
	best := 0.0
	for _, side := range []float64{-1, 1} {
		sin, cos := math.Sincos(0.25 + 1.05*h.open)
		dx, dy := (0.085+side*hinge-x)*side, 0.745-y // from the hinge inwards and up
		along, off := dx*cos+dy*sin, dx*sin-dy*cos
		if along > 0 && along < length {
			best = max(best, math.Exp(-math.Pow(off/0.009, 2)))
		}
	}
	return best
}
