package models

import (
	"context"
	"sync/atomic"
	"time"
)

// faults decides which calls fail. Call n of a seed always decides the same, whoever makes it.
type faults struct {
	share float64
	seed  uint64
	calls atomic.Uint64
}

// next counts a call and tells whether it fails.
func (f *faults) next() bool {
	return fails(f.seed, f.calls.Add(1)-1, f.share)
}

// fails draws from [0, 1) for call n: the top 53 bits of SplitMix64 (Steele, Lea and Flood 2014).
func fails(seed, n uint64, share float64) bool {
	z := seed + (n+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11)/(1<<53) < share
}

// wait lasts d; false means that the caller left first.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
