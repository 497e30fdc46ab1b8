package app

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
	roomyPace = pace{floor: 32 << 20, least: 100}
	leanPace  = pace{floor: 24 << 20, least: 40}
)

// pace is how far the heap grows before it is collected.
type pace struct {
	floor uint64 // bytes that it may grow to, however little is alive
	least int    // what may be allocated beside what is alive, in percent of that
}

// percent is how much may be allocated beside what is alive, in percent of that and of the other roots, which the collector
// counts with it.
func (p pace) percent(live, roots uint64) int {
	live = max(live, 1<<20)
	if live >= p.floor {
		return p.least
	}
	return int(max(uint64(p.least), (p.floor-live)*100/(live+roots)))
}

// pacer sets the collector's percentage anew after each collection.
type pacer struct {
	pace

	mu      sync.Mutex
	percent int
	over    bool
}

// pace has the collector keep the pace that is right for this process until stop is called. Where GOGC is set it does nothing.
func (a *App) pace() (stop func()) {
	if v, _ := a.Lookup("GOGC"); v != "" {
		return func() {}
	}
	p := &pacer{pace: roomyPace}
	if a.port != nil && !a.port.Empty() {
		p.pace = leanPace
	}
	return p.begin()
}

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
	want := p.pace.percent(x[0].Value.Uint64(), x[1].Value.Uint64()+x[2].Value.Uint64())
	if math.Abs(float64(want-p.percent)) > 0.1*float64(p.percent) { // it stops the world
		debug.SetGCPercent(want)
		p.percent = want
	}
	p.next()
}
