package scheduler

import (
	"math"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	easeSlow   = 2.0  // a round this many times slower than the target at its best is too slow
	easeLess   = 0.8  // what is left of the units after one that was
	easeHalf   = 0.5  // and after a call that the target had no room for
	easeForget = 1.02 // by how much a round lets the best grow: a target may have become slower for good
	easeRound  = 8    // calls in a round, at least
)

// ease is how many units a process uses of an adaptive limit: one more a round while the target answers
// about as fast as at its best, a part of them when it is slower or has no room (additive increase,
// multiplicative decrease; Chiu and Jain 1989). The zero value uses them all.
type ease struct {
	units float64   // 0: as many as there are
	best  float64   // seconds of a call when the target has room
	since time.Time // calls that began before ran under more units and say nothing about these

	calls int // in this round
	sum   float64
	used  int // the most units in use in this round
}

// top is how many units may be in use.
func (e *ease) top() int {
	if e.units == 0 {
		return math.MaxInt32
	}
	return max(1, int(e.units))
}

// saw takes a call that ended when inUse units of most were in use, and tells whether there are more now.
func (e *ease) saw(x gantry.Showing, inUse, most int, now time.Time) (more bool) {
	if x.Verdict == gantry.Unknown || x.Began.Before(e.since) {
		return false
	}
	if e.units == 0 || int(e.units) > most {
		e.units = float64(most)
	}
	e.used = max(e.used, inUse)
	if x.Busy {
		e.shrink(float64(min(e.used, e.top()))*easeHalf, now)
		return false
	}
	e.calls++
	e.sum += x.Took.Seconds()
	if e.calls < max(e.top(), easeRound) {
		return false
	}
	mean := e.sum / float64(e.calls)
	e.best *= easeForget
	if e.best == 0 || mean < e.best {
		e.best = mean
	}
	was := e.top()
	switch {
	case mean > easeSlow*e.best:
		e.shrink(e.units*easeLess, now)
	case e.used >= e.top():
		e.units = min(float64(most), e.units+1)
	}
	e.calls, e.sum, e.used = 0, 0, 0
	return e.top() > was
}

func (e *ease) shrink(to float64, now time.Time) {
	e.units, e.since = max(1, to), now
	e.calls, e.sum, e.used = 0, 0, 0
}
