package sample

import "math"

// twig is the growing end of a vessel.
type twig struct {
	point
	angle  float64 // in the plane of the film
	radius float64
	left   float64 // millimetres to the next fork
}

// vessels grows arteries and veins from both hila until they are too thin to be seen.
func (f *film) vessels() {
	d := &dice{state: 7}
	for _, side := range []float64{-1, 1} {
		for i, angle := range []float64{-1.45, -1.05, -0.6, -0.15, 0.3, 0.65, 0.95, 1.25, 1.5} {
			root := twig{point: point{side * (34 + 3*float64(i%3)), 152 + 5*float64(i%4) - 4*side, d.between(-30, 30)},
				angle: angle + d.between(-0.1, 0.1), radius: 3.8 + 0.6*angle + d.between(0, 0.8), left: d.between(12, 22)}
			f.grow(d, side, root)
		}
	}
}

// grow follows a vessel and all of its branches. The heap of ends is bounded: a branch is always
// thinner than its stem.
func (f *film) grow(d *dice, side float64, root twig) {
	const pace = 1.2
	ends := []twig{root}
	for len(ends) > 0 {
		e := ends[len(ends)-1]
		ends = ends[:len(ends)-1]
		bend := d.between(-0.02, 0.02)
		for e.radius > 0.4 && math.Abs(e.x) < lateral(e.y)-4 {
			next := e.point
			next.x += side * pace * math.Cos(e.angle)
			next.y += pace * math.Sin(e.angle)
			f.tube(f.vessel, 1.7, func(t float64) point {
				return point{lerp(e.x, next.x, t), lerp(e.y, next.y, t), 0}
			}, func(float64) float64 { return e.radius })
			e.point = next
			e.angle += bend + d.between(-0.06, 0.06)
			e.radius *= 0.992
			if e.left -= pace; e.left > 0 {
				continue
			}
			turn := d.between(0.3, 0.8)
			if d.between(0, 1) < 0.5 {
				turn = -turn
			}
			branch := e
			branch.angle += turn
			branch.radius *= d.between(0.55, 0.8)
			branch.left = d.between(6, 14)
			ends = append(ends, branch)
			e.angle -= 0.3 * turn
			e.radius *= 0.9
			e.left = d.between(8, 16)
		}
	}
}
