package sim

import "time"

// dice gives what is random about a run. What it gives follows from the seed and from what it is asked
// about alone, not from the order of the questions: goroutines that run at the same moment may ask in any order.
type dice uint64

// of rolls for a thing by its kind, its name and how often it came up before.
func (d dice) of(kind, name string, n int) dice {
	const prime = 1099511628211 // FNV-1a
	h := uint64(d) ^ 14695981039346656037
	for _, s := range [2]string{kind, name} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
		h = (h ^ 0xff) * prime
	}
	return dice(mix(h + uint64(n)*0x9e3779b97f4a7c15))
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// more gives an independent roll about the same thing.
func (d dice) more(n int) dice { return dice(mix(uint64(d) + uint64(n+1)*0xd1342543de82ef95)) }

// below is uniform in [0, n).
func (d dice) below(n int) int { return int(uint64(d) >> 11 % uint64(n)) }

// unit is uniform in [0, 1).
func (d dice) unit() float64 { return float64(uint64(d)>>11) / (1 << 53) }

// hits is true with a probability.
func (d dice) hits(p float64) bool { return d.unit() < p }

// between is a time in [lo, hi), to the nanosecond, so that no two are alike.
func (d dice) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(d.unit()*float64(hi-lo))
}
