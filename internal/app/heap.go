package app

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// heapFloor is what the heap may grow to, in bytes, before it is collected, however little of it is alive. A process that serves
// keeps a few MiB alive and would else collect them a hundred times a second under load: a seventh of its processor time.
const heapFloor = 32 << 20

// RoomyHeap has the collector let the heap grow to 32 MiB at least, from now on. What is alive above half of that counts as ever: the heap
// doubles. Where GOGC is set it does nothing.
func RoomyHeap() {
	if os.Getenv("GOGC") == "" {
		(&pacer{percent: 100}).begin()
	}
}

// pacer sets the collector's percentage anew after each collection.
type pacer struct{ percent int }

// begin has end called after the next collection: it makes garbage and waits until that is found.
func (p *pacer) begin() {
	runtime.AddCleanup(new([16]byte), (*pacer).end, p)
}

func (p *pacer) end() {
	x := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(x)
	want := roomyPercent(x[0].Value.Uint64(), x[1].Value.Uint64()+x[2].Value.Uint64())
	if math.Abs(float64(want-p.percent)) > 0.1*float64(p.percent) { // it stops the world
		debug.SetGCPercent(want)
		p.percent = want
	}
	p.begin()
}

// roomyPercent is how much may be allocated beside what is alive, in percent of that and of the other roots, which the
// collector counts with it.
func roomyPercent(live, roots uint64) int {
	live = max(live, 1<<20)
	if live >= heapFloor/2 {
		return 100
	}
	return int(max(100, (heapFloor-live)*100/(live+roots)))
}
