package sample

import "math"

// rib is one pair: where it leaves the spine, how far it falls to the side of the chest, and how
// far round it goes.
type rib struct {
	y, fall, end float64 // millimetres, millimetres, radians from the back
	radius       float64
}

func ribs() []rib {
	return []rib{
		{34, 12, 2.5, 6}, {51, 25, 2.55, 5.6}, {72, 36, 2.55, 5.8}, {95, 43, 2.5, 6}, {118, 48, 2.45, 6.2},
		{142, 52, 2.4, 6.3}, {166, 55, 2.3, 6.4}, {190, 57, 2.2, 6.4}, {214, 58, 2.05, 6.2}, {239, 56, 1.9, 6}, {264, 50, 1.5, 5.5},
	}
}

// skeleton fills the layer of bone. The spine comes first: it is the only one painted by pixel.
func (f *film) skeleton() {
	f.spine()
	for _, r := range ribs() {
		for _, side := range []float64{-1, 1} {
			f.rib(r, side)
		}
	}
	for _, side := range []float64{-1, 1} {
		f.clavicle(side)
		f.shoulder(side)
	}
}

// hollow adds a tube of compact bone around marrow.
func (f *film) hollow(weight float64, path func(t float64) point, r func(t float64) float64) {
	f.tube(f.bone, weight, path, r)
	f.tube(f.bone, -0.72*weight, path, func(t float64) float64 { return 0.74 * r(t) })
}

func (f *film) rib(b rib, side float64) {
	wide := lateral(b.y+b.fall) + 2
	thick := depth(b.y+b.fall) + 3
	path := func(t float64) point {
		phi := t * b.end
		sin, cos := math.Sincos(phi)
		x := lerp(17, wide, math.Pow(sin, 0.9))
		if phi > math.Pi/2 {
			x = wide * lerp(1, sin, 0.95)
		}
		wave := 0.8 * cloud(4*t, b.y, 21+uint64(side+1))
		return point{side * x, b.y - 5*math.Sin(2*phi)*step(0, 0.5, phi) + b.fall*(1-cos)*(1-0.12*step(1.6, 2.6, phi)) + wave, thick * cos}
	}
	f.hollow(0.95, path, func(t float64) float64 {
		return b.radius * (0.8 + 0.25*step(0, 0.25, t)) * (1 + 0.12*step(0.8, 1, t))
	})
}

func (f *film) clavicle(side float64) {
	path := func(t float64) point {
		return point{side * lerp(20, 158, t), lerp(94, 46, math.Pow(t, 0.85)) + 7*math.Sin(2*math.Pi*t), 0}
	}
	f.hollow(1.25, path, func(t float64) float64 { return 5.2 + 2.6*step(0.25, 0, t) + 1.6*step(0.75, 1, t) })
}

// shoulder is the scapula, seen from the back beside the ribs, and the head of the humerus.
func (f *film) shoulder(side float64) {
	at := func(x, y float64) point { return point{side * x, y, 0} }
	line := func(a, b point, bend float64) func(t float64) point {
		return func(t float64) point {
			return point{lerp(a.x, b.x, t) + side*bend*math.Sin(math.Pi*t), lerp(a.y, b.y, t), 0}
		}
	}
	thin := func(float64) float64 { return 2.1 }
	f.hollow(1.3, line(at(136, 58), at(146, 196), -5), thin)                                     // medial border
	f.hollow(2.2, line(at(168, 96), at(146, 196), -3), thin)                                     // lateral border
	f.hollow(0.9, line(at(136, 58), at(160, 60), 0), thin)                                       // upper border
	f.hollow(0.9, line(at(138, 74), at(178, 44), 0), func(t float64) float64 { return 3 + 3*t }) // spine and acromion
	f.hollow(0.8, line(at(160, 62), at(150, 70), 2), func(float64) float64 { return 4.5 })       // coracoid
	f.hollow(1, line(at(166, 68), at(168, 96), -3), func(float64) float64 { return 4 })          // socket
	f.each(func(i int, x, y float64) {
		x *= side
		left := lerp(133, 146, (y-58)/138)
		right := lerp(168, 146, (y-70)/126)
		plate := 3 * step(left, left+3, x) * step(right, right-3, x) * step(58, 62, y) * step(196, 190, y)
		dx, dy := (x-194)/25, (y-82)/25
		if dy > 0 {
			dx, dy = (x-194-12*dy)/(25-5*min(dy, 1)), 0 // the shaft below the head
		}
		head := 22 * math.Sqrt(max(0, 1-dx*dx-dy*dy))
		f.bone[i] += float32(plate + 0.7*head)
	})
}

// spine adds a vertebra for every 23 to 27 millimetres.
func (f *film) spine() {
	y := -6.0
	for i := 0; y < field+20; i++ {
		high := 22 + 0.4*float64(i)
		f.vertebra(y, 14.5+0.45*float64(i), high)
		y += high
	}
}

// vertebra is a body with brighter ends, two pedicles, a spinous process and two side processes.
func (f *film) vertebra(y, half, high float64) {
	end := high/2 - 1.6
	ring := func(x, y, cx, cy, a, b float64) float64 {
		d := math.Sqrt((x-cx)*(x-cx)/(a*a) + (y-cy)*(y-cy)/(b*b))
		return step(1.35, 1, d) * (0.35 + 0.65*step(0.5, 0.9, d))
	}
	top, bottom := int((y-high)*f.scale), int((y+1.5*high)*f.scale)
	for py := max(0, top); py < min(f.size, bottom); py++ {
		v := (float64(py)+0.5)/f.scale - y
		for px := int((field/2 - 30) * f.scale); px < int((field/2+30)*f.scale); px++ {
			x := (float64(px)+0.5)/f.scale - field/2
			waist := half * (0.9 + 0.1*(v/end)*(v/end))
			side := math.Abs(x) - waist
			inside := step(0.8, -0.8, side) * step(0.8, -0.8, math.Abs(v)-end)
			rim := max(step(-3, 0, side), step(-2.6, -0.3, math.Abs(v)-end))
			t := 0.5 * inside * (9 + 8*rim + 0.8*cloud(x/1.5, v/1.5, uint64(y)))
			t += 4.5 * max(ring(x, v, -half+4.5, -2.5, 3, 4.5), ring(x, v, half-4.5, -2.5, 3, 4.5))
			t += 8 * ring(x, v, 0, 8.5, 2.2, 5.5)
			f.bone[py*f.size+px] += float32(t)
		}
	}
	for _, side := range []float64{-1, 1} {
		f.hollow(0.5, func(t float64) point { return point{side * lerp(half-2, half+17, t), y - 4 - 3*t, 0} },
			func(t float64) float64 { return 4.2 - 0.8*t })
	}
}

// marker is the lead letter that tells the side: R, at the patient's right.
func (f *film) marker() {
	stroke := func(x0, y0, x1, y1, bend float64) {
		f.tube(f.lead, 0.4, func(t float64) point {
			return point{lerp(x0, x1, t) + bend*math.Sin(math.Pi*t), lerp(y0, y1, t), 0}
		}, func(float64) float64 { return 0.9 })
	}
	const x, y = -178, 8
	stroke(x, y, x, y+14, 0)
	stroke(x, y, x+2, y+7, 9)
	stroke(x+3, y+7, x+8, y+14, 0)
}
