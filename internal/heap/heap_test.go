package heap

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
)

func TestPacePercent(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		Pace
		live, roots uint64
		want        int
	}{
		{Roomy, 0, 0, 800}, {Roomy, 1 << 20, 0, 800}, {Roomy, 4 << 20, 0, 700}, {Roomy, 4 << 20, 3 << 20, 400}, {Roomy, 8 << 20, 0, 300},
		{Roomy, 8 << 20, 32 << 20, 100}, {Roomy, 16 << 20, 0, 100}, {Roomy, 30 << 20, 0, 100}, {Roomy, 1 << 30, 0, 100},
		{Lean, 8 << 20, 0, 162}, {Lean, 12 << 20, 0, 75}, {Lean, 16 << 20, 0, 40}, {Lean, 20 << 20, 0, 40}, {Lean, 100 << 20, 0, 40},
	} {
		if got := x.percent(x.live, x.roots); got != x.want {
			t.Errorf("%d bytes alive, %d of roots: %d percent, want %d", x.live, x.roots, got, x.want)
		}
	}
}

// TestPace looks how large the heap of a process of its own may grow beside little that is alive: at a pace, after that, and without.
func TestPace(t *testing.T) {
	if how := os.Getenv("HEAP_PACE"); how != "" {
		if how != "none" {
			stop := Roomy.Keep()
			goal(Roomy.floor * 9 / 10)
			if how == "over" {
				stop()
			}
		}
		fmt.Println("goal", goal(0))
		return
	}
	t.Parallel()
	for how, want := range map[string]bool{"kept": true, "over": false, "none": false} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestPace$")
		cmd.Env = append(os.Environ(), "HEAP_PACE="+how, "GOGC=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		_, rest, _ := strings.Cut(string(out), "goal ")
		var bytes uint64
		if _, err := fmt.Sscan(rest, &bytes); err != nil || (bytes >= Roomy.floor*9/10) != want || bytes > Roomy.floor*5/4 {
			t.Errorf("%s: the heap may grow to %d bytes (%v)", how, bytes, err)
		}
	}
}

// goal is what the heap may grow to after a collection, as soon as it is least.
func goal(least uint64) uint64 {
	x := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		metrics.Read(x)
		if g := x[0].Value.Uint64(); g >= least || time.Now().After(end) {
			return g
		}
	}
}
