package app

import (
	"fmt"
	"testing"
)

// TestScans remembers the files that came last, each once, and how the scanner found them.
func TestScans(t *testing.T) {
	t.Parallel()
	var s scans
	name := func(n int) string { return fmt.Sprintf("seg/1/1/%d/8", n) }
	if _, ok := s.of(name(0)); ok {
		t.Error("a file that never came passed")
	}
	s.passed(name(0), "odd_length")
	s.passed(name(0), "")
	if w, ok := s.of(name(0)); w != "odd_length" || !ok {
		t.Errorf("%q, %t", w, ok)
	}
	for n := range mostScans {
		s.passed(name(1+n), "")
	}
	if _, ok := s.of(name(0)); ok || len(s.values) != mostScans || len(s.order) != mostScans {
		t.Errorf("the first is still known: %t; %d and %d are", ok, len(s.values), len(s.order))
	}
	if _, ok := s.of(name(mostScans)); !ok {
		t.Error("the last is not known")
	}
}
