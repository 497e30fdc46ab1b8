package sim

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

var (
	seeds = flag.Int("seeds", 50, "how many seeds TestSeeds runs")
	first = flag.Uint64("first", 1, "the first seed")
)

var expected [worlds]struct {
	once sync.Once
	result
}

// expect gives what a world leads to when nothing goes wrong.
func expect(t *testing.T, n int) result {
	t.Helper()
	x := &expected[n]
	x.once.Do(func() { x.result = simulate(t, &run{world: newWorld(n), dice: dice(n)}) })
	if x.broken != "" {
		t.Fatalf("world %d without a fault: %s", n, x.String())
	}
	return x.result
}

// attempt runs a seed and says what was wrong, if anything was.
func attempt(t *testing.T, seed uint64, b broken) result {
	t.Helper()
	n := int(mix(seed) % worlds)
	want := expect(t, n)
	d := dice(mix(seed + 1))
	r := &run{seed: seed, world: newWorld(n), dice: d, faults: faultsOf(d), broken: b}
	got := simulate(t, r)
	if got.broken == "" {
		got.broken = differ(want, got)
		if got.broken != "" {
			for _, m := range r.trace[max(0, len(r.trace)-60):] {
				got.tail = append(got.tail, m.String())
			}
		}
	}
	return got
}

// differ compares what two runs left. A task that was cancelled may have left less, but no manifest without its files.
func differ(want, got result) string {
	for id, s := range got.ends {
		if w, known := want.ends[id]; !known || s != w && !got.gone(id) {
			return "task " + id + " is " + s.String() + " (" + got.why[id] + "), want " + w.String() + " (" + want.why[id] + ")"
		}
	}
	cancelled := slices.ContainsFunc(slices.Collect(maps.Keys(got.ends)), got.gone)
	for id := range want.ends {
		if _, known := got.ends[id]; !known && !cancelled { // else it may have been a part of that one
			return "task " + id + " never was"
		}
	}
	for path, b := range want.sink {
		x, there := got.sink[path]
		if _, was := got.ends[taskOf(path)]; !there && !got.gone(taskOf(path)) && (was || !cancelled) {
			return "the sink has no " + path
		}
		if there && !bytes.Equal(x, b) && !got.crashed[taskOf(path)] {
			return "the sink has other bytes at " + path
		}
	}
	for path := range got.sink {
		if _, wanted := want.sink[path]; !wanted {
			return "the sink has " + path + " too"
		}
	}
	return ""
}

// gone tells whether a task ended early: an operator cancelled it, or processes died of it or of a part of it.
func (x result) gone(id string) bool { return x.ends[id] == gantry.Cancelled || x.crashed[id] }

// each runs seeds one after another until one fails or all are through. On one processor goroutines that are ready
// at the same virtual moment take nearly always the same turns, so that a seed that failed fails again.
func each(t *testing.T, first uint64, n int, b broken) (failed *result, ran int, happened [dieAfter + 1]int) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for ran < n && failed == nil {
		x := attempt(t, first+uint64(ran), b)
		ran++
		for f, n := range x.happened {
			happened[f] += n
		}
		if x.broken != "" {
			failed = &x
		}
	}
	return failed, ran, happened
}

// TestSeeds runs the simulation under many seeds. Every invariant must hold under each.
func TestSeeds(t *testing.T) {
	failed, ran, happened := each(t, *first, *seeds, broken{})
	var said []string
	for f, n := range happened {
		said = append(said, fmt.Sprintf("%d %s", n, fault(f)))
		if n == 0 && ran >= 50 {
			t.Errorf("under no seed %q came about", fault(f))
		}
	}
	t.Logf("%d seeds; operations: %s", ran, strings.Join(said, ", "))
	if failed != nil {
		t.Fatal(failed.String())
	}
}

// TestWorlds holds the worlds to having in them what the simulation is for.
func TestWorlds(t *testing.T) {
	var roles [gantry.Member + 1]int
	var collections [5]int // by members beside the first
	ends, files := map[gantry.State]int{}, 0
	for n := range worlds {
		x := expect(t, n)
		for r, k := range x.roles {
			roles[r] += k
		}
		for _, s := range x.ends {
			ends[s]++
		}
		files += len(x.sink)
		for _, o := range newWorld(n).objects {
			if o.more != nil {
				collections[len(o.more)]++
			}
		}
	}
	t.Logf("collections %v; %d tasks, %d shards, %d members; %v; %d files", collections, roles[gantry.NoRole], roles[gantry.Shard], roles[gantry.Member], ends, files)
	if roles[gantry.Shard] < 10 || roles[gantry.Member] < 10 || ends[gantry.Failed] == 0 || ends[gantry.Done] < 100 || files < 200 || slices.Min(collections[:]) < 4 {
		t.Error("there is too little of something")
	}
}
