package scheduler

import (
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	restSlack = 5 * time.Millisecond  // by how much two readings of one moment may differ
	liftSlack = 50 * time.Millisecond // by how much a rest must have shrunk to be taken for lifted
	rampMin   = 20 * time.Millisecond // over how long a target is taken up again after a rest
	rampMax   = time.Second
	ample     = 64 // units that a ramp goes up to where there is no limit
)

// temper is what a bucket knows of how its target stands. It stands in the limiter's row for the whole
// fleet; what this process finds out holds here at once, and the keeper writes it to the row.
type temper struct {
	rest   time.Time     // the row's: nothing begins before
	begin  time.Time     // ours: a little later, so that processes do not begin all at once
	ramp   time.Duration // then units come back over so long
	jitter func() float64

	state    gantry.BreakerState
	probing  bool      // this process's probe is allowed, or out
	probes   int       // calls that may be let out as the probe: one, until it is handed over
	since    time.Time // what began before says nothing about the breaker as it stands now
	failures int       // in a row

	tellRest time.Time // to be written to the row
	news     []gantry.BreakerNews
}

// rests until a moment; mu is held. A rest that stands is not made shorter.
func (t *temper) restUntil(at, now time.Time) {
	if !at.After(t.rest.Add(restSlack)) {
		return
	}
	t.rest = at
	t.ramp = min(max(at.Sub(now)/10, rampMin), rampMax)
	t.begin = at.Add(time.Duration(t.jitter() * float64(t.ramp)))
}

// top is how many units of so many may be in use now.
func (t *temper) top(units, inUse int, now time.Time) int {
	switch {
	case now.Before(t.begin):
		return 0
	case t.state != gantry.BreakerClosed:
		return min(units, inUse+t.probes)
	case now.Before(t.begin.Add(t.ramp)):
		return min(units, max(1, int(float64(min(units, inUse+ample))*float64(now.Sub(t.begin))/float64(t.ramp))))
	}
	return units
}

// shut tells whether nothing may begin now.
func (t *temper) shut(now time.Time) bool {
	return now.Before(t.begin) || t.state != gantry.BreakerClosed
}

// soon is when waiting callers are looked at again: at the end of a rest, and while units come back. 0: there is
// no such time.
func (t *temper) soon(now time.Time) time.Duration {
	switch end := t.begin.Add(t.ramp); {
	case now.Before(t.begin):
		return t.begin.Sub(now)
	case now.Before(end):
		return max(t.ramp/16, time.Millisecond)
	case now.Before(end.Add(t.ramp / 16)):
		return end.Add(t.ramp/16 + time.Millisecond).Sub(now)
	}
	return 0
}

// read takes what the row says. What is still to be written to it stands.
func (t *temper) read(x gantry.Standing, now time.Time) {
	at := now.Add(x.Rest)
	if t.tellRest.IsZero() && len(t.news) == 0 && at.Before(t.rest.Add(-liftSlack)) && now.Before(t.rest) {
		t.rest, t.begin, t.ramp = time.Time{}, now, rampMin // somebody lifted it, or the reading before was long on its way
	}
	if x.Rest > 0 {
		t.restUntil(at, now)
	}
	switch {
	case len(t.news) > 0, t.probing && x.State == gantry.BreakerHalfOpen:
		return
	case x.State == gantry.BreakerClosed && t.state != gantry.BreakerClosed:
		t.closeAt(now)
	default:
		t.state, t.probing, t.probes = x.State, false, 0
	}
}

func (t *temper) closeAt(now time.Time) {
	t.state, t.probing, t.probes, t.failures, t.since = gantry.BreakerClosed, false, 0, 0, now
	if !now.Before(t.begin) {
		t.begin, t.ramp = now, rampMax
	}
}

// allow lets the next call out as the probe.
func (t *temper) allow(now time.Time) {
	t.state, t.probing, t.probes, t.since = gantry.BreakerHalfOpen, true, 1, now
}

// saw takes what a call showed, and tells whether there is news for the row.
func (t *temper) saw(x gantry.Showing, b gantry.Breaker, now time.Time) bool {
	told := len(t.news)
	if x.Wait > 0 {
		at := now.Add(min(x.Wait, gantry.MaxRest))
		if at.After(t.rest.Add(liftSlack)) {
			t.restUntil(at, now)
			t.tellRest = at
		}
	}
	switch {
	case b.Failures <= 0 || x.Began.Before(t.since):
	case t.probing && t.probes == 0:
		t.probed(x.Verdict, b, now)
	case t.state != gantry.BreakerClosed:
	case x.Verdict == gantry.Alive:
		t.failures = 0
	case x.Verdict == gantry.Failing:
		if t.failures++; t.failures >= b.Failures {
			t.failures = 0
			t.open(gantry.BreakerTrip, b, now)
		}
	}
	return !t.tellRest.IsZero() || len(t.news) > told
}

func (t *temper) probed(v gantry.Sign, b gantry.Breaker, now time.Time) {
	switch v {
	case gantry.Alive:
		t.closeAt(now)
		t.news = append(t.news, gantry.BreakerAnswered)
	case gantry.Failing:
		t.open(gantry.BreakerFailed, b, now)
	default:
		t.forgo(now)
	}
}

func (t *temper) open(news gantry.BreakerNews, b gantry.Breaker, now time.Time) {
	t.state, t.probing, t.probes = gantry.BreakerOpen, false, 0
	t.restUntil(now.Add(b.Open), now)
	t.news = append(t.news, news)
}

// forgo gives a probe back that did not leave.
func (t *temper) forgo(now time.Time) {
	t.state, t.probing, t.probes, t.since = gantry.BreakerOpen, false, 0, now
	t.news = append(t.news, gantry.BreakerForgone)
}
