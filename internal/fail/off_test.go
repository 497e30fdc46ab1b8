//go:build !chaos

package fail

import (
	"os"
	"testing"
)

// TestPointIsNothing asks for a death that a build without the tag does not know of.
func TestPointIsNothing(t *testing.T) {
	t.Setenv("GANTRY_FAIL", "here:kill:1")
	if n := testing.AllocsPerRun(100, func() { Point("here") }); n != 0 || os.Getpid() == 0 {
		t.Errorf("%g allocations", n)
	}
}
