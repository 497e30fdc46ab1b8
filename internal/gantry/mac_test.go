package gantry_test

import (
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestMACs gives what MAC gives, one after the other, and makes no list of parts what another is.
func TestMACs(t *testing.T) {
	t.Parallel()
	key := []byte("key")
	mac := gantry.MACs(key, "ref", "p/in")
	for _, last := range []string{"a", "", strings.Repeat("long/", 100), "a"} {
		if mac(last) != gantry.MAC(key, "ref", "p/in", last) {
			t.Errorf("%.5q: another", last)
		}
	}
	if gantry.MACs(key)("ab") == gantry.MACs(key, "a")("b") || gantry.MACs(key, "a")("bc") == gantry.MACs(key, "ab")("c") {
		t.Error("two lists are one")
	}
}

func BenchmarkMAC(b *testing.B) {
	key := make([]byte, 32)
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			gantry.MAC(key, "ref", "p/in", "studies/00000000/image-000.dcm")
		}
	})
	b.Run("of many", func(b *testing.B) {
		mac := gantry.MACs(key, "ref", "p/in")
		for b.Loop() {
			mac("studies/00000000/image-000.dcm")
		}
	})
}
