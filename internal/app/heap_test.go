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

func TestRoomyPercent(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		live, roots uint64
		want        int
	}{{0, 0, 3100}, {4 << 20, 0, 700}, {4 << 20, 3 << 20, 400}, {8 << 20, 0, 300}, {8 << 20, 32 << 20, 100}, {16 << 20, 0, 100}, {30 << 20, 0, 100}, {1 << 30, 0, 100}} {
		if got := roomyPercent(x.live, x.roots); got != x.want {
			t.Errorf("%d bytes alive, %d of roots: %d percent, want %d", x.live, x.roots, got, x.want)
		}
	}
}

// TestRoomyHeap looks how large the heap of a process of its own may grow beside little that is alive, with and without.
func TestRoomyHeap(t *testing.T) {
	if roomy := os.Getenv("ROOMY_HEAP"); roomy != "" {
		if roomy == "yes" {
			RoomyHeap()
		}
		fmt.Println("goal", goal(roomy == "yes"))
		return
	}
	t.Parallel()
	for roomy, want := range map[string]bool{"yes": true, "no": false} {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestRoomyHeap$")
		cmd.Env = append(os.Environ(), "ROOMY_HEAP="+roomy, "GOGC=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		_, rest, _ := strings.Cut(string(out), "goal ")
		var bytes uint64
		if _, err := fmt.Sscan(rest, &bytes); err != nil || (bytes >= heapFloor*9/10) != want || bytes > heapFloor*5/4 {
			t.Errorf("roomy: %s: the heap may grow to %d bytes (%v)", roomy, bytes, err)
		}
	}
}

// goal is what the heap may grow to after a collection; where it is to be roomy, as soon as that is so.
func goal(roomy bool) uint64 {
	x := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		runtime.GC()
		metrics.Read(x)
		if g := x[0].Value.Uint64(); !roomy || g >= heapFloor*9/10 || time.Now().After(end) {
			return g
		}
	}
}
