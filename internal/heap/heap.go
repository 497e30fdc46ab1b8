// Package heap paces the garbage collector of a process that keeps little alive.
package heap

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Paces. A process that serves keeps a few MiB alive and would else collect them a hundred times a second under load: a seventh of
// its processor time. Of one that receives most of what lives are buffers of instances on their way, which cost nothing to
// look through, and as much garbage would only be memory.
var (
	Roomy = Pace{floor: 32 << 20, least: 100}
	Lean  = Pace{floor: 21 << 20, least: 40}
)

// Pace is how far the heap grows before it is collected.
type Pace struct {
	floor uint64 // bytes that it may grow to, however little is alive
	least int    // what may be allocated beside what is alive, in percent of that
}

// leastHeap is what the runtime lets every heap grow to, times the percentage (runtime/debug.SetGCPercent).
const leastHeap = 4 << 20

// percent is how much may be allocated beside what is alive, in percent of that and of the other roots, which the collector
// counts with it.
func (p Pace) percent(live, roots uint64) int {
	if live >= p.floor {
		return p.least
	}
	most := p.floor * 100 / leastHeap
	return int(max(uint64(p.least), min(most, (p.floor-live)*100/max(live+roots, 1))))
}

// pacer sets the collector's percentage anew after each collection.
type pacer struct {
	Pace

	mu      sync.Mutex
	percent int
	over    bool
}

// Keep has the collector keep the pace until stop is called, which puts back what was before. Only one pace is kept at a time.
func (p Pace) Keep() (stop func()) { return (&pacer{Pace: p}).begin() }

// begin keeps the pace until stop is called, which puts back what was before.
func (p *pacer) begin() (stop func()) {
	p.percent = debug.SetGCPercent(100)
	before := p.percent
	debug.SetGCPercent(before)
	p.next()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.over = true
		debug.SetGCPercent(before)
	}
}

// next has collected called after the next collection: it makes garbage and waits until that is found.
func (p *pacer) next() { runtime.AddCleanup(new([16]byte), (*pacer).collected, p) }

func (p *pacer) collected() {
	x := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(x)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	want := p.Pace.percent(x[0].Value.Uint64(), x[1].Value.Uint64()+x[2].Value.Uint64())
	if math.Abs(float64(want-p.percent)) > 0.1*float64(p.percent) { // it stops the world
		debug.SetGCPercent(want)
		p.percent = want
	}
	p.next()
}
