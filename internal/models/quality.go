package models

import (
	"math"
)

// Quality is what /v1/quality answers.
type Quality struct {
	Score     float64 `json:"score"`     // 0 to 1, see score
	Sharpness float64 `json:"sharpness"` // standard deviation of the Laplacian at half size less its share of noise, grey levels of 255
	Contrast  float64 `json:"contrast"`  // 1st to 99th percentile, as a share of the depth
	Noise     float64 `json:"noise"`     // standard deviation, grey levels of 255
	Width     int     `json:"width"`     // pixels
	Height    int     `json:"height"`
	Model     Model   `json:"model"`
}

// assess measures a picture. Numbers have four decimals.
func assess(p *picture) Quality {
	scale := 255 / float64(p.top)
	q := Quality{Width: p.width, Height: p.height, Model: assessor()}
	noise := noiseOf(p.grey, p.width, p.height) * scale
	half, w, h := halve(p)
	v := laplacianVariance(half, w, h) * scale * scale
	// Means of four pixels have a quarter of their variance, and the Laplacian's weights
	// 1, 1, 1, 1, -4 raise it by their sum of squares, 20.
	sharp := math.Sqrt(max(0, v-20*noise*noise/4))
	contrast := spread(p)
	q.Score = round(score(sharp, contrast, noise))
	q.Sharpness, q.Contrast, q.Noise = round(sharp), round(contrast), round(noise)
	return q
}

// What makes half of a mark.
const (
	halfSharp    = 2.0 // grey levels
	halfContrast = 0.3
	halfNoise    = 6.0 // grey levels
)

// score is the geometric mean of three marks from 0 to 1: sharpness s/(s+halfSharp), contrast
// c/(c+halfContrast) and freedom from noise 1/(1+(n/halfNoise)²). One that is nothing makes the
// whole nothing: a flat image scores 0.
func score(sharp, contrast, noise float64) float64 {
	n := noise / halfNoise
	return math.Cbrt(sharp / (sharp + halfSharp) * contrast / (contrast + halfContrast) / (1 + n*n))
}

func round(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// noiseOf is the standard deviation of the noise after Immerkaer, "Fast noise variance
// estimation", 1996: the mean of the absolute answers to a mask that is blind to planes and edges.
func noiseOf(pix []uint16, w, h int) float64 {
	if w < 3 || h < 3 {
		return 0
	}
	var sum int64
	for y := 1; y < h-1; y++ {
		a, b, c := pix[(y-1)*w:][:w], pix[y*w:][:w], pix[(y+1)*w:][:w]
		for x := 1; x < w-1; x++ {
			n := int64(a[x-1]) - 2*int64(a[x]) + int64(a[x+1]) -
				2*int64(b[x-1]) + 4*int64(b[x]) - 2*int64(b[x+1]) +
				int64(c[x-1]) - 2*int64(c[x]) + int64(c[x+1])
			sum += max(n, -n)
		}
	}
	return math.Sqrt(math.Pi/2) * float64(sum) / (6 * float64(w-2) * float64(h-2))
}

// halve makes each pixel of four, which takes off noise and leaves edges.
func halve(p *picture) (pix []uint16, w, h int) {
	w, h = p.width/2, p.height/2
	pix = sized(&p.half, w*h)
	for y := range h {
		a, b := p.grey[2*y*p.width:], p.grey[(2*y+1)*p.width:]
		for x := range w {
			sum := uint32(a[2*x]) + uint32(a[2*x+1]) + uint32(b[2*x]) + uint32(b[2*x+1])
			pix[y*w+x] = uint16((sum + 2) / 4)
		}
	}
	return pix, w, h
}

// laplacianVariance is the variance of the four-neighbour Laplacian. Its sums are exact: of at
// most 2^24 squares (a quarter of MaxPixels) below 2^37.
func laplacianVariance(pix []uint16, w, h int) float64 {
	if w < 3 || h < 3 {
		return 0
	}
	var sum, squares int64
	for y := 1; y < h-1; y++ {
		a, b, c := pix[(y-1)*w:][:w], pix[y*w:][:w], pix[(y+1)*w:][:w]
		for x := 1; x < w-1; x++ {
			l := int64(a[x]) + int64(b[x-1]) - 4*int64(b[x]) + int64(b[x+1]) + int64(c[x])
			sum += l
			squares += l * l
		}
	}
	n := float64(w-2) * float64(h-2)
	mean := float64(sum) / n
	return max(0, float64(squares)/n-mean*mean)
}

// spread is the distance between the 1st and the 99th percentile, as a share of the depth.
func spread(p *picture) float64 {
	counts := sized(&p.counts, int(p.top)+1)
	clear(counts)
	for _, v := range p.grey {
		counts[v]++
	}
	percentile := func(share int) int {
		below := 0
		for v, c := range counts {
			if below += int(c); below*100 >= share*len(p.grey) {
				return v
			}
		}
		return int(p.top)
	}
	return float64(percentile(99)-percentile(1)) / float64(p.top)
}
