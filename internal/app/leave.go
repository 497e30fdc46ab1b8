package app

import (
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// leaveWithin bounds how long the end of a process waits for servers that are told of it.
const leaveWithin = 10 * time.Second

// stay notes a driver that was opened, if it keeps connections.
func (p *plans) stay(driver any) {
	if x, ok := driver.(gantry.Leaving); ok {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stays = append(p.stays, x)
	}
}

// leave has all drivers end the connections that they keep, side by side.
func (p *plans) leave() {
	p.mu.Lock()
	stays := p.stays
	p.stays = nil
	p.mu.Unlock()
	var g sync.WaitGroup
	for _, x := range stays {
		g.Go(x.Leave)
	}
	done := make(chan struct{})
	go func() { defer close(done); g.Wait() }()
	select {
	case <-done:
	case <-time.After(leaveWithin):
		p.app.Log.Warn("not all connections were ended in order", "within", leaveWithin)
	}
}
