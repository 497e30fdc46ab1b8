package sim

import (
	"runtime"
	"testing"

	"github.com/gantry-imaging/gantry/internal/sim/model"
)

// found is within how many seeds a missing guard must be noticed.
const found = 200

// controls take one guard away each.
var controls = []struct {
	name string
	broken
}{
	{"the seq in what fences a write", broken{Without: model.Without{Seq: true}}},
	{"the fence as a whole", broken{Without: model.Without{Fence: true}}},
	{"the intent before a call", broken{NoIntent: true}},
	{"the second statement of a grant", broken{Without: model.Without{Snapshot: true}}},
	{"If-None-Match at the sink", broken{Overwrite: true}},
	{"the manifest as the last file", broken{ManifestFirst: true}},
	{"the notice of what a call shows of its target", broken{Blind: true}},
	{"the row that tells all processes of a rest", broken{Without: model.Without{Rest: true}}},
	{"the fifth death", broken{Without: model.Without{Crashes: true}}},
}

// TestControls shows what each guard is for: without it some invariant breaks, and the simulation finds that.
func TestControls(t *testing.T) {
	for _, c := range controls {
		t.Run(c.name, func(t *testing.T) {
			failed, ran, _ := each(t, *first, found, c.broken)
			if failed == nil {
				t.Fatalf("%d seeds found nothing", ran)
			}
			t.Logf("seed %d of %d: %s", failed.seed, ran, failed.broken)
		})
	}
}

// TestReplay runs seeds twice and counts those whose histories are the same to the nanosecond. Goroutines that
// are ready at the same virtual moment run in any order, and a select between two ready channels takes either, so that
// some differ, though there is one thread; but neither run may come to another end.
func TestReplay(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	same, n := 0, min(*seeds, 100)
	for seed := range uint64(n) {
		one, two := attempt(t, *first+seed, broken{}), attempt(t, *first+seed, broken{})
		if one.broken != "" || two.broken != "" {
			t.Fatal(one.String(), two.String())
		}
		if one.hash == two.hash {
			same++
		}
	}
	t.Logf("%d of %d histories are the same", same, n)
	if same < n/5 {
		t.Errorf("%d of %d histories are the same", same, n)
	}
}
