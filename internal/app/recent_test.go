package app

import (
	"fmt"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestRecent remembers arrivals once, for a while, and no more than so many; none whose row may say something else.
func TestRecent(t *testing.T) {
	t.Parallel()
	var r recent
	now := time.Unix(1_700_000_000, 0)
	a := gantry.Arrival{ID: 7, Name: "a.zip", Location: "seg/1/2"}
	r.came("a", 7, a, now)
	if got, ok := r.of("a", now); !ok || got != a {
		t.Errorf("%+v, %t", got, ok)
	}
	if _, ok := r.of("a", now); ok {
		t.Error("it is known twice")
	}
	r.came("a", 8, a, now)
	if _, ok := r.of("a", now); ok {
		t.Error("one that was on record before is known")
	}
	r.came("a", 7, gantry.Arrival{ID: 7, Place: "there"}, now)
	if _, ok := r.of("a", now); ok {
		t.Error("one that is read in place is known")
	}
	r.came("a", 7, a, now)
	if _, ok := r.of("a", now.Add(recentFor)); ok {
		t.Error("it is known for ever")
	}
	r = recent{}
	for n := range mostRecent + 1 {
		r.came(fmt.Sprint(n), 7, a, now)
	}
	if _, ok := r.of("0", now); ok || len(r.values) != mostRecent || len(r.order) != mostRecent {
		t.Errorf("the first is still known: %t; %d and %d are", ok, len(r.values), len(r.order))
	}
	if _, ok := r.of(fmt.Sprint(mostRecent), now); !ok {
		t.Error("the last is not known")
	}
}
