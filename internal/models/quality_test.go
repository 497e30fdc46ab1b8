package models

import (
	"image"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// worse gives ways to spoil a picture, mild and strong.
func worse() map[string]func(p *picture) *picture {
	blur := func(n int) func(p *picture) *picture {
		return func(p *picture) *picture {
			return painted(p.width, p.height, p.top, func(x, y int) int {
				sum := 0
				for dy := -n; dy <= n; dy++ {
					for dx := -n; dx <= n; dx++ {
						cx, cy := min(max(x+dx, 0), p.width-1), min(max(y+dy, 0), p.height-1)
						sum += int(p.grey[cy*p.width+cx])
					}
				}
				return sum / ((2*n + 1) * (2*n + 1))
			})
		}
	}
	noise := func(sigma float64) func(p *picture) *picture {
		return func(p *picture) *picture {
			r := random(3)
			return painted(p.width, p.height, p.top, func(x, y int) int {
				return int(p.grey[y*p.width+x]) + int(math.Round(sigma*float64(p.top)/255*r.NormFloat64()))
			})
		}
	}
	flatter := func(share float64) func(p *picture) *picture {
		return func(p *picture) *picture {
			return painted(p.width, p.height, p.top, func(x, y int) int {
				mid := float64(p.top) / 2
				return int(math.Round(mid + share*(float64(p.grey[y*p.width+x])-mid)))
			})
		}
	}
	return map[string]func(p *picture) *picture{
		"blur 1": blur(1), "blur 3": blur(3), "noise 6": noise(6), "noise 20": noise(20),
		"contrast 0.6": flatter(0.6), "contrast 0.2": flatter(0.2),
	}
}

// TestRanks checks what the score is for: spoilt versions come after the original, and those
// spoilt more after those spoilt less.
func TestRanks(t *testing.T) {
	t.Parallel()
	ct, err := newService(Options{}).decode(slice())
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]*picture{"x-ray": of(xray()), "ct": ct} {
		scores := map[string]float64{}
		original := assess(p).Score
		for way, spoil := range worse() {
			scores[way] = assess(spoil(p)).Score
			if scores[way] >= original-0.01 {
				t.Errorf("%s, %s: %.4f, the original has %.4f", name, way, scores[way], original)
			}
		}
		for _, pair := range [][2]string{{"blur 1", "blur 3"}, {"noise 6", "noise 20"}, {"contrast 0.6", "contrast 0.2"}} {
			if scores[pair[0]] <= scores[pair[1]] {
				t.Errorf("%s: %s has %.4f, %s %.4f", name, pair[0], scores[pair[0]], pair[1], scores[pair[1]])
			}
		}
		t.Logf("%s: %.4f, spoilt %v", name, original, scores)
	}
}

// TestEnhancedScoresHigher checks that the two services agree on what is better.
func TestEnhancedScoresHigher(t *testing.T) {
	t.Parallel()
	p := of(xray())
	before := assess(p)
	equalise(p, defaultTiles, defaultClip)
	after := assess(p)
	if after.Score < before.Score+0.05 || after.Contrast < before.Contrast {
		t.Errorf("%+v became %+v", before, after)
	}
}

// TestNoise adds noise of a known strength to pictures without any, and estimates it.
func TestNoise(t *testing.T) {
	t.Parallel()
	for _, sigma := range []float64{1.5, 5, 15} {
		r := rand.New(rand.NewPCG(1, 2))
		for name, base := range map[string]func(x, y int) float64{
			"flat": func(int, int) float64 { return 120 },
			"ramp": func(x, y int) float64 { return 70 + 0.2*float64(x) + 0.2*float64(y) },
			"edge": func(x, _ int) float64 { return 80 + 90*math.Floor(float64(x)/128) }, // straight edges are no noise
		} {
			p := painted(256, 256, 0xffff, func(x, y int) int { return int(257 * (base(x, y) + sigma*r.NormFloat64())) })
			if got := assess(p).Noise; math.Abs(got-sigma) > 0.03*sigma {
				t.Errorf("%s: noise of %v was estimated as %v", name, sigma, got)
			}
		}
	}
}

// TestNoiseIsNoSharpness checks that what the score calls sharp is not noise.
func TestNoiseIsNoSharpness(t *testing.T) {
	t.Parallel()
	r := random(5)
	p := painted(256, 256, 0xff, func(int, int) int { return 128 + int(math.Round(10*r.NormFloat64())) })
	if q := assess(p); q.Sharpness > 5 || q.Noise < 9 {
		t.Errorf("plain noise: %+v", q)
	}
}

// TestLaplacian compares with numbers worked out by hand.
func TestLaplacian(t *testing.T) {
	t.Parallel()
	pix := []uint16{
		0, 0, 0, 0,
		0, 9, 0, 0,
		0, 0, 0, 0,
	}
	// The two inner pixels answer -36 and 9: mean -13.5, variance (22.5² + 22.5²) / 2.
	if got := laplacianVariance(pix, 4, 3); got != 22.5*22.5 {
		t.Errorf("variance %v, want 506.25", got)
	}
	p := &picture{width: 5, height: 3, grey: []uint16{1, 2, 10, 10, 99, 3, 4, 10, 11, 99, 99, 99, 99, 99, 99}, scratch: new(scratch)}
	for top, want := range map[uint16][]uint16{0xff: {10, 41}, 0xffff: {2, 10}} {
		p.top = top
		half, w, h, finer := halve(p)
		if d := cmp.Diff(want, half); d != "" || w != 2 || h != 1 || finer != map[uint16]float64{0xff: 4, 0xffff: 1}[top] {
			t.Errorf("half of it, %d x %d, finer by %v: %s", w, h, finer, d)
		}
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	p := painted(100, 100, 0xff, func(x, _ int) int { return x })
	p.grey[0], p.grey[1] = 255, 255 // a few dead pixels count for nothing
	if got := spread(p); got != 98.0/255 {
		t.Errorf("spread %v, want 98/255", got)
	}
}

// TestDepthDoesNotMatter measures the same picture in 8 and in 16 bits.
func TestDepthDoesNotMatter(t *testing.T) {
	t.Parallel()
	shallow := of(xray())
	deep := painted(512, 512, 0xffff, func(x, y int) int { return 257 * int(shallow.grey[y*512+x]) })
	if d := cmp.Diff(assess(shallow), assess(deep), cmpopts.EquateApprox(0.02, 0.01)); d != "" {
		t.Error(d)
	}
}

// TestTiny measures what is too small to measure.
func TestTiny(t *testing.T) {
	t.Parallel()
	for w := 1; w < 8; w++ {
		for h := 1; h < 8; h++ {
			p := of(image.NewGray(image.Rect(0, 0, w, h)))
			p.grey[0] = 200
			q := assess(p)
			if q.Width != w || q.Height != h || math.IsNaN(q.Score) || q.Score < 0 || q.Score > 1 {
				t.Errorf("%d x %d: %+v", w, h, q)
			}
			equalise(p, defaultTiles, defaultClip)
		}
	}
}
