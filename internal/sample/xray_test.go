package sample

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"image"
	"math"
	"slices"
	"testing"
)

func digest(b []byte) string {
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:8])
}

// TestXRaySame holds the picture to the one that was looked at.
func TestXRaySame(t *testing.T) {
	t.Parallel()
	a, b := XRay(256), XRay(256)
	if !bytes.Equal(a.Pix, b.Pix) {
		t.Fatal("two runs differ")
	}
	if got, want := digest(a.Pix), "9f200db17a947b2a"; got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
}

// mean is the mean grey around a place in millimetres.
func mean(m *image.Gray, x, y, r float64) float64 {
	scale := float64(m.Rect.Dx()) / field
	sum, n := 0.0, 0.0
	for py := int((y - r) * scale); py <= int((y+r)*scale); py++ {
		for px := int((x - r + field/2) * scale); px <= int((x+r+field/2)*scale); px++ {
			sum += float64(m.GrayAt(px, py).Y)
			n++
		}
	}
	return sum / n
}

// TestXRayAnatomy checks the order of greys that makes a chest film, at every size.
func TestXRayAnatomy(t *testing.T) {
	t.Parallel()
	for _, size := range []int{128, 400} {
		m := XRay(size)
		if m.Rect != image.Rect(0, 0, size, size) {
			t.Fatalf("bounds %v", m.Rect)
		}
		outside := mean(m, -120, 6, 3)
		right, left := mean(m, -85, 170, 12), mean(m, 95, 150, 12)
		heart, spine, belly := mean(m, 45, 225, 8), mean(m, 0, 230, 4), mean(m, -80, 330, 8)
		if !(outside+20 < right && right+12 < heart && left+12 < heart && heart < spine && right+20 < belly) {
			t.Errorf("%d: air %.0f, lungs %.0f and %.0f, heart %.0f, spine %.0f, belly %.0f", size, outside, right, left, heart, spine, belly)
		}
		if stomach := mean(m, 84, 306, 4); stomach+5 > mean(m, 84, 345, 6) {
			t.Errorf("%d: no air in the stomach: %.0f", size, stomach)
		}
		if mean(m, -177.5, 15, 1) < outside+15 || math.Abs(mean(m, 177.5, 15, 1)-outside) > 15 {
			t.Errorf("%d: no marker on the right side alone", size)
		}
	}
}

// TestXRayFlat checks that the film is as flat as it is meant to be, so that an enhancer has
// something to do, and clips nothing.
func TestXRayFlat(t *testing.T) {
	t.Parallel()
	m := XRay(400)
	sorted := slices.Sorted(slices.Values(m.Pix))
	low, high := sorted[len(sorted)/100], sorted[len(sorted)*99/100]
	if spread := int(high) - int(low); spread < 80 || spread > 160 {
		t.Errorf("the middle 98 %% of greys run from %d to %d", low, high)
	}
	if sorted[0] == 0 || sorted[len(sorted)-1] == 255 {
		t.Errorf("greys from %d to %d", sorted[0], sorted[len(sorted)-1])
	}
}

// TestRibsShow walks down a lung and counts the bright bands that it crosses.
func TestRibsShow(t *testing.T) {
	t.Parallel()
	f := newFilm(256)
	f.skeleton()
	for _, x := range []float64{-100, 100} {
		bands, inside := 0, false
		for y := 60.0; y < 250; y++ {
			bone := f.bone[int(y*f.scale)*256+int((x+field/2)*f.scale)] > 1.5
			if bone && !inside {
				bands++
			}
			inside = bone
		}
		if bands < 5 || bands > 14 {
			t.Errorf("%d ribs at x = %v", bands, x)
		}
	}
	for i, v := range f.bone {
		if v < -0.01 || math.IsNaN(float64(v)) {
			t.Fatalf("bone of %v mm at pixel %d", v, i)
		}
	}
}

// TestTube compares the sum of a layer with the volume of the tube in it.
func TestTube(t *testing.T) {
	t.Parallel()
	f := newFilm(300)
	f.tube(f.bone, 1, func(t float64) point { return point{lerp(-80, 60, t), lerp(100, 200, t), lerp(0, 90, t)} },
		func(float64) float64 { return 6 })
	sum := 0.0
	for _, v := range f.bone {
		sum += float64(v)
	}
	sum /= f.scale * f.scale
	want := math.Pi * 36 * math.Sqrt(140*140+100*100+90*90)
	if math.Abs(sum-want) > 0.02*want {
		t.Errorf("volume %.0f mm³, want %.0f", sum, want)
	}
}

func TestFree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		taken []span
		want  float64
	}{
		{nil, 10},
		{[]span{{2, 4}}, 8},
		{[]span{{6, 8}, {2, 4}}, 6},
		{[]span{{1, 5}, {2, 3}, {4, 6}}, 5},
		{[]span{{-9, 0}, {10, 30}, {-2, -1}}, 10},
		{[]span{{-5, 50}}, 0},
		{[]span{{-5, 3}, {8, 12}}, 5},
	} {
		if got := free(span{0, 10}, slices.Clone(c.taken)); got != c.want {
			t.Errorf("%v leave %v of 10, want %v", c.taken, got, c.want)
		}
	}
	if got := free(span{}, []span{{-1, 1}}); got != 0 {
		t.Errorf("%v of nothing", got)
	}
}

func TestNoise(t *testing.T) {
	t.Parallel()
	const n = 100_000
	var sum, squares float64
	for i := range uint64(n) {
		g := gauss(i)
		sum, squares = sum+g, squares+g*g
	}
	if m, v := sum/n, squares/n; math.Abs(m) > 0.02 || math.Abs(v-1) > 0.02 {
		t.Errorf("gauss: mean %v, variance %v", m, v)
	}
	last := cloud(-20, 3.3, 5)
	low, high := last, last
	for x := -20.0; x < 20; x += 0.01 {
		c := cloud(x, 3.3, 5)
		if math.Abs(c-last) > 0.05 {
			t.Fatalf("cloud jumps by %v at %v", c-last, x)
		}
		last, low, high = c, min(low, c), max(high, c)
	}
	if low < -1 || high > 1 || high-low < 0.8 {
		t.Errorf("cloud from %v to %v", low, high)
	}
	d := &dice{state: 1}
	for range 1000 {
		if v := d.between(-2, 5); v < -2 || v >= 5 {
			t.Fatalf("dice: %v", v)
		}
	}
}

// BenchmarkAll is what a demonstration waits for before its first task.
func BenchmarkAll(b *testing.B) {
	for b.Loop() {
		if _, err := all(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestBall checks an ellipsoid's stretch along the beam: whole at the centre, nothing outside,
// turned by its angle, and without end where it goes on.
func TestBall(t *testing.T) {
	t.Parallel()
	b := ball{x: 10, y: 20, z: 5, a: 30, b: 10, c: 8, angle: math.Pi / 2}.set() // the long axis points down
	for _, c := range []struct {
		x, y, length float64
	}{
		{10, 20, 16}, {10, 49, 16 * math.Sqrt(1-29.0*29/900)}, {10, 51, 0}, {19, 20, 16 * math.Sqrt(1-81.0/100)}, {21, 20, 0},
	} {
		s, ok := b.at(c.x, c.y)
		if ok != (c.length > 0) || math.Abs(s.to-s.from-c.length) > 1e-9 || ok && math.Abs(s.from+s.to-10) > 1e-9 {
			t.Errorf("at (%v, %v): %v, want a length of %v around 5", c.x, c.y, s, c.length)
		}
	}
	down, up := b, b
	down.downwards, up.upwards = true, true
	if _, ok := down.at(10, 500); !ok {
		t.Error("a ball that goes on downwards ends")
	}
	if _, ok := up.at(10, -500); !ok {
		t.Error("a ball that goes on upwards ends")
	}
	if _, ok := up.at(10, 500); ok {
		t.Error("a ball that goes on upwards goes on downwards")
	}
}

// TestLungs checks the air that is left in them, in litres, against a living chest's two to seven,
// and that none is in the heart, below the diaphragm or outside of the ribs.
func TestLungs(t *testing.T) {
	t.Parallel()
	f := newFilm(200)
	f.tissue()
	litres := 0.0
	f.each(func(i int, x, y float64) {
		air := float64(f.lung[i])
		litres += air / (f.scale * f.scale) / 1e6
		if air < 0 || air > 230 || air > 0 && (y < apex || y > 345 || math.Abs(x) > lateral(y)) {
			t.Fatalf("%v mm of air at (%v, %v)", air, x, y)
		}
		if f.soft[i] < 0 {
			t.Fatalf("%v mm of tissue at (%v, %v)", f.soft[i], x, y)
		}
	})
	if litres < 2 || litres > 7 {
		t.Errorf("%.1f litres of air", litres)
	}
}

// TestVesselsBounded checks that the trees grow inside the chest and come to an end.
func TestVesselsBounded(t *testing.T) {
	t.Parallel()
	f := newFilm(200)
	f.vessels()
	inside, filled := 0.0, 0
	f.each(func(i int, x, y float64) {
		if v := float64(f.vessel[i]); v > 0 {
			filled++
			if math.Abs(x) < lateral(y)+4 {
				inside++
			}
		}
	})
	if filled < 2000 || inside < 0.95*float64(filled) {
		t.Errorf("%v of %d pixels with vessels lie in the chest", inside, filled)
	}
}
