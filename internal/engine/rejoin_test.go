package engine

import (
	"math"
	"testing"
)

// TestSampleRate: a video of few frames an hour can be put together again as well.
func TestSampleRate(t *testing.T) {
	t.Parallel()
	for _, s := range []float64{1e-9, 1.0 / 3600, 2.0 / 3600, 1.0 / 60, 0.5, 1, 5, 29.97, 120} {
		r := sampleRate(s)
		if got := float64(r.Num) / float64(r.Den); r.Num < 1 || s > 1e-6 && math.Abs(got-s) > s/1000 {
			t.Errorf("%g frames a second are %d/%d", s, r.Num, r.Den)
		}
	}
}
