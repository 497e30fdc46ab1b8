package sample

import "math"

// Heights of the chest.
const (
	apex      = 24.0 // top of the lungs
	domeRight = 262.0
	domeLeft  = 272.0
)

// lateral and medial are how far from the midline a lung reaches at height y below its apex;
// depth is half of how far it reaches from front to back.
func lateral(y float64) float64 { return 44 + 106*(1-math.Exp(-below(y)/7.2)) }
func medial(y float64) float64  { return 44 - 38*(1-math.Exp(-below(y)/2.6)) }
func depth(y float64) float64   { return 90 * (1 - math.Exp(-below(y)/5)) }
func below(y float64) float64   { return math.Sqrt(max(0, y-apex)) }

// span is a stretch along the beam.
type span struct{ from, to float64 }

// ball is the stretch within an ellipsoid at (x, y), turned by angle in the plane of the film.
type ball struct {
	x, y, z   float64 // centre
	a, b, c   float64 // half axes: along the angle, across it, along the beam
	angle     float64 // from x towards y
	downwards bool    // without end below its centre: a tube from there on
	upwards   bool
	sin, cos  float64 // of the angle, once it is set
}

// set makes a ball ready for use.
func (e ball) set() ball {
	e.sin, e.cos = math.Sincos(e.angle)
	return e
}

func (e *ball) at(x, y float64) (span, bool) {
	dx, dy := x-e.x, y-e.y
	if dy > 0 && e.downwards || dy < 0 && e.upwards {
		dy = 0
	}
	u, v := (dx*e.cos+dy*e.sin)/e.a, (dy*e.cos-dx*e.sin)/e.b
	d := u*u + v*v
	if d >= 1 {
		return span{}, false
	}
	h := e.c * math.Sqrt(1-d)
	return span{e.z - h, e.z + h}, true
}

// mediastinum is what lies between and before the lungs and keeps air away.
func mediastinum() []ball {
	return []ball{
		{x: -2, y: 190, z: -5, a: 23, b: 330, c: 66},                 // trachea, gullet and great veins
		{x: 0, y: 190, z: 80, a: 21, b: 500, c: 28},                  // spine
		{x: -15, y: 96, z: -12, a: 15, b: 110, c: 17},                // superior vena cava
		{x: 17, y: 107, z: 15, a: 20, b: 19, c: 22},                  // arch of the aorta
		{x: 19, y: 112, z: 48, a: 14, b: 30, c: 14, downwards: true}, // descending aorta
		{x: 21, y: 148, z: -10, a: 22, b: 24, c: 20},                 // pulmonary trunk
		{x: 29, y: 224, z: -22, a: 80, b: 50, c: 50, angle: 0.66},    // ventricles
		{x: 0, y: 214, z: -8, a: 37, b: 56, c: 40},                   // right atrium
		{x: 20, y: 178, z: 6, a: 36, b: 34, c: 34},                   // left atrium and its ear
	}
}

// dome is what a half of the diaphragm takes from the lung above it: the inside of a paraboloid.
func dome(x, y float64) (span, bool) {
	centre, top := -72.0, domeRight
	if x > 0 {
		centre, top = 74.0, domeLeft
	}
	across := (x - centre) / 104
	if centre*(x-centre) < 0 {
		across = (x - centre) / 150 // flatter towards the heart
	}
	d := (y-top)/62 - across*across
	if d <= 0 {
		return span{}, false
	}
	h := 104 * math.Sqrt(d)
	return span{-8 - h, -8 + h}, true
}

// tissue fills the layers of soft tissue and lung.
func (f *film) tissue() {
	keepOut := mediastinum()
	for i := range keepOut {
		keepOut[i] = keepOut[i].set()
	}
	windpipe := ball{x: -2, y: 112, z: 12, a: 8.5, b: 18, c: 8.5, upwards: true}.set()
	stomach := ball{x: 84, y: 314, z: -20, a: 35, b: 22, c: 26, angle: 0.1}.set()
	var taken [12]span
	f.each(func(i int, x, y float64) {
		n := 0
		for k := range keepOut {
			if s, ok := keepOut[k].at(x, y); ok {
				taken[n], n = s, n+1
			}
		}
		if s, ok := dome(x, y); ok {
			taken[n], n = s, n+1
		}
		grain := 1 + 0.02*cloud(x/7, y/7, 11) + 0.015*cloud(x/3, y/3, 12)
		f.lung[i] = float32(free(cage(x, y), taken[:n]) * grain)
		body := trunk(x, y)
		if s, ok := windpipe.at(x, y); ok {
			body -= 0.9 * (s.to - s.from)
		}
		if s, ok := stomach.at(x, y); ok { // upright, so what is drunk has a level
			body -= 0.8 * (s.to - s.from) * step(321, 319, y)
		}
		f.soft[i] = float32(max(0, body*(1+0.012*cloud(x/40, y/40, 13))))
	})
}

// cage is the stretch inside the ribs.
func cage(x, y float64) span {
	if y <= apex {
		return span{}
	}
	x = math.Abs(x)
	in, out := medial(y), lateral(y)
	centre := lerp(in, out, 0.45)
	u := (x - centre) / (out - centre)
	if x < centre {
		u = (centre - x) / (centre - in)
	}
	if u >= 1 {
		return span{}
	}
	h := depth(y) * math.Sqrt(1-u*u)
	return span{-h, h}
}

// free is the length of s outside all of the taken stretches, which it puts in order.
func free(s span, taken []span) float64 {
	for i := 1; i < len(taken); i++ {
		for k := i; k > 0 && taken[k].from < taken[k-1].from; k-- {
			taken[k], taken[k-1] = taken[k-1], taken[k]
		}
	}
	left, at := 0.0, s.from
	for _, t := range taken {
		left += max(0, min(t.from, s.to)-at)
		at = max(at, min(t.to, s.to))
	}
	return left + max(0, s.to-at)
}

// trunk is how much of the body the beam passes: neck and shoulders above, the chest below.
func trunk(x, y float64) float64 {
	x = math.Abs(x)
	slope := 58 + 0.9*y + 120*step(0, 62, y)
	wide := lerp(slope, 204-14*step(250, 380, y), step(120, 250, y))
	u := x / wide
	if u >= 1 {
		return 0
	}
	half := 58 + 52*step(0, 110, y)
	arm := lerp(1, 0.62, step(120, 185, x)*(1-step(150, 260, y)))
	return 2 * half * arm * math.Sqrt(1-math.Pow(u, 2.6))
}
