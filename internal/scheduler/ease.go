package scheduler

import (
	"math"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	easeSlow  = 2.0         // a round this many times slower than the target at its best is too slow
	easeLess  = 0.8         // what is left of the units after one that was, or less the slower it was
	easeHalf  = 0.5         // but no less than this, which is also left after a call that the target had no room for
	easeRound = 8           // calls in a round, at least
	lookRound = 3           // and in a look
	lookPart  = 0.25        // of the units that a look uses
	lookEvery = time.Minute // at most; and looks take a fiftieth of the time
	lookShare = 50
)

// ease is how many units a process uses of an adaptive limit: one more a round while the target answers
// about as fast as at its best, a part of them when it is slower or has no room (additive increase,
// multiplicative decrease; Chiu and Jain 1989). How fast it is at its best is found out by a look: a few
// calls under few units, now and then, since it changes. The zero value uses all units.
type ease struct {
	units float64   // 0: as many as there are
	best  float64   // seconds of a call when the target has room
	since time.Time // no more units than these are in use; calls that began before say nothing about them

	saved  float64 // the units beside the look that is under way; 0: none is
	looked time.Time
	next   time.Time // look

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
	if inUse > e.top() { // a unit goes back before its call is seen, so that another may have begun since
		e.since = now
	}
	if x.Verdict == gantry.Unknown || x.Began.Before(e.since) {
		return false
	}
	if e.units == 0 || int(e.units) > most {
		e.units = float64(max(1, most))
	}
	e.used = max(e.used, inUse)
	switch {
	case x.Busy && e.saved > 0:
		e.saved = max(1, e.saved*easeHalf)
		e.set(1, now)
		return false
	case x.Busy:
		e.set(float64(min(e.used, e.top()))*easeHalf, now)
		return false
	case e.saved == 0 && !now.Before(e.next):
		e.saved, e.looked = e.units, now
		e.set(e.units*lookPart, now)
		return false
	}
	e.calls++
	e.sum += x.Took.Seconds()
	return e.round(most, now)
}

// round draws the conclusion of a round or a look if it is over.
func (e *ease) round(most int, now time.Time) (more bool) {
	was, mean := e.top(), e.sum/float64(e.calls)
	switch {
	case e.saved > 0 && e.calls < max(was, lookRound), e.saved == 0 && e.calls < max(was, easeRound):
		return false
	case e.saved > 0:
		e.best = mean
		e.next = now.Add(max(lookEvery, lookShare*now.Sub(e.looked)))
		e.set(min(e.saved, float64(most)), now)
		e.saved = 0
	case mean > easeSlow*e.best:
		e.set(min(e.units, float64(e.used))*max(easeHalf, min(easeLess, easeSlow*e.best/mean)), now)
	case e.used >= was:
		e.units = min(float64(most), e.units+1)
	}
	e.calls, e.sum, e.used = 0, 0, 0
	return e.top() > was
}

// set changes the units and begins a round.
func (e *ease) set(units float64, now time.Time) {
	e.units, e.since = max(1, units), now
	e.calls, e.sum, e.used = 0, 0, 0
}
