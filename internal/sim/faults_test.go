package sim

import "time"

// fault is what goes wrong with one thing that a process does.
type fault int

const (
	fine      fault = iota
	refuse          // it does not come about
	lose            // it comes about, and the process does not hear of it
	late            // it comes about after the process was told that it broke off
	slow            // the answer takes long
	freeze          // the process stops while it is under way, and goes on later
	dieBefore       // the process is killed just before it
	dieAfter        // the process is killed just after it
)

// String names the fault.
func (f fault) String() string {
	return [...]string{"fine", "is refused", "answer lost", "comes late", "slow", "process stops", "killed before", "killed after"}[f]
}

// odds are how likely faults are for a kind of operation.
type odds int

const (
	idle   odds = iota // what a process does again and again while there is nothing to do
	seldom             // house-keeping
	often              // what moves a task
)

// faults are what goes wrong in a run.
type faults struct {
	kills, freezes, misreads, stops int     // how many at most
	kill, freeze                    float64 // probabilities, of each operation
	refuse, lose, late, slow, deaf  float64
	service, sink, twice            float64
	cancel, retry, pause, skew      bool
	poison, hold, rests             bool // one object kills; a task and a pipeline are paused; targets rest for long
}

func faultsOf(d dice) faults {
	f := faults{kills: 3, freezes: 2, misreads: 5, kill: 0.008, freeze: 0.003, refuse: 0.01, lose: 0.01, late: 0.02, slow: 0.01, deaf: 0.2,
		service: 0.4, sink: 0.2, twice: 0.3, cancel: d.more(1).hits(0.2), skew: d.more(2).hits(0.3),
		retry: d.more(4).hits(0.4), pause: d.more(5).hits(0.3)}
	for i, p := range []*float64{&f.kill, &f.freeze, &f.refuse, &f.lose, &f.late, &f.slow} {
		switch d.more(10 + i).below(4) { // some runs know nothing of a fault, and some a lot
		case 0:
			*p = 0
		case 3:
			*p *= 3
		}
	}
	if d.more(3).hits(0.3) {
		f.stops = 1
	}
	f.hold, f.rests = d.more(6).hits(0.3), d.more(7).hits(0.2)
	if f.poison = d.more(8).hits(0.15); f.poison { // else it is not the only one that too many died of
		f.kills, f.freezes, f.cancel, f.retry = 0, 0, false, false
	}
	return f
}

// fault says what goes wrong with an operation.
func (r *run) fault(p *proc, o op, d dice) fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := fine
	if !r.ended && time.Since(r.began) < troubled {
		f = r.faults.draw(o, d)
	}
	r.happened[f]++
	return f
}

// draw says what goes wrong, and takes it off what may.
func (f *faults) draw(o op, d dice) fault {
	scale := map[odds]float64{idle: 0.1, seldom: 0.5, often: 1}[o.odds]
	switch {
	case f.kills > 0 && d.more(1).hits(f.kill*scale):
		f.kills--
		return dieBefore + fault(d.more(2).below(2))
	case f.freezes > 0 && d.more(3).hits(f.freeze*scale):
		f.freezes--
		return freeze
	case o.late && d.more(4).hits(f.late):
		return late
	case d.more(5).hits(f.slow * scale):
		return slow
	case o.bounded && f.misreads == 0:
	case d.more(6).hits(f.refuse * scale):
		f.misreads -= bit(o.bounded)
		return refuse
	case d.more(7).hits(f.lose * scale):
		f.misreads -= bit(o.bounded)
		return lose
	}
	return fine
}

func bit(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
