package sample

import "math"

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood 2014): a hash of one number.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// gauss is a number of mean 0 and standard deviation 1 that depends on key alone: the sum of four
// uniform numbers.
func gauss(key uint64) float64 {
	h := mix(key)
	sum := h&0xffff + h>>16&0xffff + h>>32&0xffff + h>>48
	return (float64(sum)/65535 - 2) * math.Sqrt(3)
}

// dice is a sequence of random numbers.
type dice struct{ state uint64 }

// between is uniform from low to high.
func (d *dice) between(low, high float64) float64 {
	d.state++
	return low + (high-low)*float64(mix(d.state)>>11)/(1<<53)
}

// cloud is smooth noise in the plane from -1 to 1, about one bump for each unit of length.
func cloud(x, y float64, seed uint64) float64 {
	fx, fy := math.Floor(x), math.Floor(y)
	corner := func(i, j float64) float64 {
		h := mix(seed ^ mix(uint64(int64(fx+i))*0x1f123bb5+uint64(int64(fy+j))))
		return float64(h>>11)/(1<<52) - 1
	}
	u, v := smooth(x-fx), smooth(y-fy)
	return lerp(lerp(corner(0, 0), corner(1, 0), u), lerp(corner(0, 1), corner(1, 1), u), v)
}

// smooth rises from 0 at 0 to 1 at 1 with level ends.
func smooth(t float64) float64 {
	t = min(max(t, 0), 1)
	return t * t * (3 - 2*t)
}

// step rises smoothly from 0 at a to 1 at b.
func step(a, b, x float64) float64 { return smooth((x - a) / (b - a)) }

func lerp(a, b, t float64) float64 { return a + (b-a)*t }
