package gantry

import (
	"context"
	"time"
)

// MaxRest is the longest time for which a target is left alone because it asked to be.
const MaxRest = 10 * time.Minute

// Breaker says when calls to a target that fails are stopped, for the whole fleet.
type Breaker struct {
	Failures int           // in a row, of one process, that open it; 0: it never opens
	Open     time.Duration // from its opening to the call that tries the target again
}

// DefaultBreaker is that of a target that declares none: ten failures in a row of one process, then ten
// seconds without a call.
var DefaultBreaker = Breaker{Failures: 10, Open: 10 * time.Second}

// BreakerState says whether calls may go to a target.
type BreakerState int16

// The states of a breaker. The numbers stand in the database. Half-open is a breaker whose one probe is out.
const (
	BreakerClosed BreakerState = iota
	BreakerOpen
	BreakerHalfOpen
)

// String gives the state's name.
func (s BreakerState) String() string {
	return [...]string{"closed", "open", "half_open"}[min(max(s, 0), BreakerHalfOpen)]
}

// Standing is how a target stands now, for the whole fleet.
type Standing struct {
	Paused bool          // by an operator
	Rest   time.Duration // nothing may begin for so long; 0: at once
	State  BreakerState
}

// BreakerNews is what one process tells the fleet about a target's breaker, or asks of it.
type BreakerNews int16

// BreakerTrip: so many calls failed in a row that it opens. BreakerProbe: may this process's next call
// try the target? Only one may. The others say what that call showed: an answer; a failure; nothing,
// since it never left.
const (
	BreakerTrip BreakerNews = iota
	BreakerProbe
	BreakerAnswered
	BreakerFailed
	BreakerForgone
)

// Sign is what a call showed of its target.
type Sign uint8

// Unknown: it ended for a reason of ours. Alive: the target answered, be it with a refusal of what was
// sent or with a request to come back later. Failing: it did not, or with an error of its own.
const (
	Unknown Sign = iota
	Alive
	Failing
)

// Showing is what one call showed of its target.
type Showing struct {
	Began   time.Time // when it had its unit and its start
	Took    time.Duration
	Verdict Sign
	Wait    time.Duration // how long the target asked to be left alone; 0: it did not
	Busy    bool          // it had no room for the call: it said so, or did not answer in time
}

// ErrHeld ends a wait because the pipeline was paused: nothing failed, the task goes back and is taken up
// again when the pipeline goes on.
var ErrHeld error = Errorf(Transient, CodeHeld, "the pipeline is paused")

type holdKey struct{}

// WithHold gives a ctx of work that begins nothing new once held is closed. What runs goes on to its end.
func WithHold(ctx context.Context, held <-chan struct{}) context.Context {
	return context.WithValue(ctx, holdKey{}, held)
}

// Held gives the channel whose end means that nothing new may begin; nil, which never ends, without one.
func Held(ctx context.Context) <-chan struct{} {
	held, _ := ctx.Value(holdKey{}).(<-chan struct{})
	return held
}

// IsHeld tells whether nothing new may begin.
func IsHeld(ctx context.Context) bool {
	select {
	case <-Held(ctx):
		return true
	default:
		return false
	}
}
