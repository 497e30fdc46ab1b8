package models

import "math"

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
	noise := noiseOf(p) * scale
	half, w, h, finer := halve(p)
	v := laplacianVariance(half, w, h) * scale * scale / (finer * finer)
	// Means of four pixels have a quarter of their variance, and the Laplacian's weights
	// 1, 1, 1, 1, -4 raise it by their sum of squares, 20.
	sharp := math.Sqrt(max(0, v-20*noise*noise/4))
	contrast := spread(p)
	q.Score = round(score(sharp, contrast, noise))
	q.Sharpness, q.Contrast, q.Noise = round(sharp), round(contrast), round(noise)
	return q
}

// What makes half of a mark, and what a mark of sharpness is worth at least: under strong noise
// nothing can be said about it.
const (
	halfSharp    = 15.0 // grey levels
	halfContrast = 0.3
	halfNoise    = 6.0 // grey levels, at full contrast
	leastSharp   = 0.01
)

// score is the geometric mean of three marks from 0 to 1: sharpness s/(s+halfSharp), contrast
// c/(c+halfContrast), and freedom from noise 1/(1+(n/(c*halfNoise))²), noise being as bad as the
// contrast is low. An image without contrast scores 0.
func score(sharp, contrast, noise float64) float64 {
	if contrast == 0 {
		return 0
	}
	n := noise / (contrast * halfNoise)
	return math.Cbrt(max(leastSharp, sharp/(sharp+halfSharp)) * contrast / (contrast + halfContrast) / (1 + n*n))
}

func round(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// gradientBins is more than the largest gradient of an 8-bit image; deeper ones are brought to it.
const gradientBins = 2048

// noiseOf is the standard deviation of the noise after Immerkaer, "Fast noise variance
// estimation", 1996: the mean of the absolute answers to a mask that is blind to planes. The tenth
// of the pixels where the image is steepest is left out (Tai and Yang 2008), since an edge that
// bends is no noise.
func noiseOf(p *picture) float64 {
	w, h := p.width, p.height
	if w < 3 || h < 3 {
		return 0
	}
	shift := 0
	if p.top != 0xff {
		shift = 8
	}
	counts := sized(&p.counts, gradientBins)
	clear(counts)
	p.inner(func(a, b, c []uint16) { counts[gradient(a, b, c)>>shift]++ })
	steepest, below := 0, 0
	for total := (w - 2) * (h - 2); below*10 < total*9; steepest++ {
		below += int(counts[steepest])
	}
	var sum int64
	p.inner(func(a, b, c []uint16) {
		if gradient(a, b, c)>>shift < steepest {
			n := int64(a[0]) - 2*int64(a[1]) + int64(a[2]) - 2*int64(b[0]) + 4*int64(b[1]) - 2*int64(b[2]) +
				int64(c[0]) - 2*int64(c[1]) + int64(c[2])
			sum += max(n, -n)
		}
	})
	return math.Sqrt(math.Pi/2) * float64(sum) / (6 * float64(below))
}

// inner calls see with the three rows of three pixels around each pixel that has them.
func (p *picture) inner(see func(a, b, c []uint16)) {
	for y := 1; y < p.height-1; y++ {
		a, b, c := p.grey[(y-1)*p.width:], p.grey[y*p.width:], p.grey[(y+1)*p.width:]
		for x := range p.width - 2 {
			see(a[x:x+3], b[x:x+3], c[x:x+3])
		}
	}
}

// gradient is Sobel's, the sum of both directions: at most 8 times the brightest value.
func gradient(a, b, c []uint16) int {
	across := int(a[2]) + 2*int(b[2]) + int(c[2]) - int(a[0]) - 2*int(b[0]) - int(c[0])
	down := int(c[0]) + 2*int(c[1]) + int(c[2]) - int(a[0]) - 2*int(a[1]) - int(a[2])
	return max(across, -across) + max(down, -down)
}

// halve makes each pixel of four, which takes off noise and leaves edges. Values are finer times
// those of the picture: 8 bits would lose the mean's fraction.
func halve(p *picture) (pix []uint16, w, h int, finer float64) {
	w, h = p.width/2, p.height/2
	pix = sized(&p.half, w*h)
	shift := 2
	if p.top == 0xff {
		shift = 0
	}
	for y := range h {
		a, b := p.grey[2*y*p.width:], p.grey[(2*y+1)*p.width:]
		for x := range w {
			sum := uint32(a[2*x]) + uint32(a[2*x+1]) + uint32(b[2*x]) + uint32(b[2*x+1])
			pix[y*w+x] = uint16(sum >> shift)
		}
	}
	return pix, w, h, float64(uint(4) >> shift)
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
