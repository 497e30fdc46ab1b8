package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestShareLeavesOneForEach has two processes with much to do hold all units while a third wants a few.
// Their shares rounded up are 5 and 3 of 8: the third would wait for as long as they are busy.
func TestShareLeavesOneForEach(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	limiter := must(b.EnsureLimiter(t.Context(), "http://h:1", gantry.LimiterSpec{MaxUnits: 8}, true))(t)
	one, two, three := b.register(time.Minute), b.register(time.Minute), b.register(time.Minute)
	must(b.Grant(t.Context(), one, limiter, 5, 0))(t)
	must(b.Grant(t.Context(), two, limiter, 3, 0))(t)
	must(b.Grant(t.Context(), one, limiter, 20, 5))(t)
	must(b.Grant(t.Context(), two, limiter, 10, 3))(t)
	if n := must(b.Grant(t.Context(), three, limiter, 2, 0))(t); n != 0 {
		t.Fatalf("%d units were left over", n)
	}
	share := must(b.Share(t.Context(), two, limiter, 10))(t)
	if first := must(b.Share(t.Context(), one, limiter, 20))(t); first != 5 || share != 2 {
		t.Errorf("shares are %d and %d while a third process waits, want 5 and 2", first, share)
	}
	if n := must(b.Grant(t.Context(), two, limiter, 10, share))(t); n != share {
		t.Errorf("a process with %d units in use was granted %d again while a third has none", share, n)
	}
	if n := must(b.Grant(t.Context(), three, limiter, 2, 0))(t); n != 1 {
		t.Errorf("the third process got %d units", n)
	}
	// Nobody is without now: shares are rounded up, so that units do not go to and fro.
	if n := must(b.Share(t.Context(), two, limiter, 10))(t); n != 3 {
		t.Errorf("the share is %d once each has something, want 3", n)
	}
}

// TestShareOfAPauseIsNone: a process that has units of a target that was paused gives them up although another waits
// and has none; else it would hand them on from call to call.
func TestShareOfAPauseIsNone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	limiter := must(b.EnsureLimiter(t.Context(), "http://h:1", gantry.LimiterSpec{MaxUnits: 1}, true))(t)
	one, two := b.register(time.Minute), b.register(time.Minute)
	must(b.Grant(t.Context(), one, limiter, 2, 0))(t)
	must(b.Grant(t.Context(), two, limiter, 2, 0))(t)
	must(b.EnsureLimiter(t.Context(), "http://h:1", gantry.LimiterSpec{MaxUnits: 0}, true))(t)
	if n := must(b.Share(t.Context(), one, limiter, 2))(t); n != 0 {
		t.Errorf("the share of a pause is %d", n)
	}
}
