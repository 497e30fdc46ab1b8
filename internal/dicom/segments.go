package dicom

import (
	"math"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The kinds of segments of a palette (PS3.3 section C.7.9.2).
const (
	segmentDiscrete = 0
	segmentLinear   = 1
	segmentIndirect = 2
)

// segments is the state of spreading out a palette.
type segments struct {
	words   []uint16
	entries []uint16 // those that there are
	want    int
}

// segmented spreads out a palette of n entries whose segments have the given numbers.
func segmented(words []uint16, n int) ([]uint16, error) {
	s := &segments{words: words, want: n}
	for at := 0; at+1 < len(words) && len(s.entries) < n; {
		next, ok := s.one(at, false)
		if !ok {
			return nil, badSegments()
		}
		at = next
	}
	if len(s.entries) != n {
		return nil, badSegments()
	}
	return s.entries, nil
}

func badSegments() error {
	return gantry.Errorf(gantry.Illegal, CodeBadValue, "frames: a palette whose segments make no sense")
}

// one spreads the segment at a place and gives the next place. A copied segment must not copy.
func (s *segments) one(at int, copied bool) (next int, ok bool) {
	if at < 0 || at+2 > len(s.words) {
		return 0, false
	}
	kind, n := s.words[at], int(s.words[at+1])
	body := s.words[at+2:]
	switch {
	case kind == segmentDiscrete && n <= len(body) && n <= s.want-len(s.entries):
		s.entries = append(s.entries, body[:n]...)
		return at + 2 + n, true
	case kind == segmentLinear && len(body) > 0 && len(s.entries) > 0 && n <= s.want-len(s.entries):
		from, to := int(s.entries[len(s.entries)-1]), int(body[0])
		for i := 1; i <= n; i++ {
			s.entries = append(s.entries, uint16(math.RoundToEven(float64(from)+float64((to-from)*i)/float64(n))))
		}
		return at + 3, true
	case kind == segmentIndirect && !copied && len(body) > 1:
		return at + 4, s.copies(n, (int(body[0])|int(body[1])<<16)/2)
	}
	return 0, false
}

// copies spreads n segments once more, from a place on.
func (s *segments) copies(n, at int) bool {
	for range n {
		before := len(s.entries)
		next, ok := s.one(at, true)
		if !ok || len(s.entries) == before {
			return false
		}
		at = next
	}
	return true
}
