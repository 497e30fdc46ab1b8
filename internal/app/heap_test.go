package app

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
		pace
		live, roots uint64
		want        int
	}{
		{roomyPace, 0, 0, 3100}, {roomyPace, 4 << 20, 0, 700}, {roomyPace, 4 << 20, 3 << 20, 400}, {roomyPace, 8 << 20, 0, 300},
		{roomyPace, 8 << 20, 32 << 20, 100}, {roomyPace, 16 << 20, 0, 100}, {roomyPace, 30 << 20, 0, 100}, {roomyPace, 1 << 30, 0, 100},
		{leanPace, 8 << 20, 0, 200}, {leanPace, 16 << 20, 0, 50}, {leanPace, 20 << 20, 0, 40}, {leanPace, 100 << 20, 0, 40},
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
			stop := (&pacer{pace: roomyPace}).begin()
			goal(roomyPace.floor * 9 / 10)
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
		if _, err := fmt.Sscan(rest, &bytes); err != nil || (bytes >= roomyPace.floor*9/10) != want || bytes > roomyPace.floor*5/4 {
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
