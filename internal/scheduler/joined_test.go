package scheduler

import (
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestSettleWithoutItsLane: the lane of a claim may be gone by the time that its end is known.
func TestSettleWithoutItsLane(t *testing.T) {
	t.Parallel()
	c := newClaimer(&Session{keeper: &keeper{}})
	if c.settle([]gantry.Want{{Lane: 1, N: 2}}, map[int32]int{1: 1}, false) {
		t.Error("a lane that is gone may have more")
	}
	if c.running() != 1 {
		t.Errorf("%d tasks are here, want the one that was claimed", c.running())
	}
}
