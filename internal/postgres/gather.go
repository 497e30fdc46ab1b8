package postgres

import (
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// groupKey names a group of one pipeline.
type groupKey struct {
	pipeline string
	mac      gantry.Digest
}

// head is the last revision of a group. The zero head is of a group that nothing came of before.
type head struct {
	id       int64
	revision int32
	closed   bool
	arrivals int
	marked   bool
}

// live tells whether the head takes members, or did.
func (h head) live() bool { return h.id != 0 && (!h.closed || h.arrivals > 0) }

// sight is what is on record of an object.
type sight struct {
	arrival int64   // of the same version; 0: there is none
	known   bool    // its pipeline has it already, or it came too late
	members []int64 // of its versions, those that are in the group's head
}

// gathering is a group with what came of it at once.
type gathering struct {
	key     groupKey
	rules   gantry.Collect
	head    head
	rows    []int // of the members that came
	markers []int
	stale   []int64 // arrivals of the head that what came takes the place of

	target   int64 // that the members go to; 0 and fresh: one that is to be made; else: none
	fresh    bool
	whole    bool // the new revision holds the members of the one before
	revision int32
	arrivals int
	marked   bool
	wait     time.Duration // until it is closed; below 0: until its cap
	reason   gantry.Code
}

// gather sorts what came by groups, in the order in which they appear. Arrivals that were on record are left out.
func gather(list []gantry.Gathering, heads map[groupKey]head, seen []sight) []*gathering {
	var out []*gathering
	at := map[groupKey]*gathering{}
	for i := range list {
		if seen[i].known {
			continue
		}
		key := groupKey{list[i].Pipeline, list[i].Group}
		g := at[key]
		if g == nil {
			g = &gathering{key: key, head: heads[key]}
			at[key] = g
			out = append(out, g)
		}
		g.rules = list[i].Rules
		if list[i].Marker {
			g.markers = append(g.markers, i)
			continue
		}
		g.rows = append(g.rows, i)
		g.stale = append(g.stale, seen[i].members...)
	}
	for _, g := range out {
		g.decide()
	}
	return out
}

// decide says what becomes of what came: it joins the head, opens a revision, or is too late.
func (g *gathering) decide() {
	g.marked = g.head.marked || len(g.markers) > 0
	g.target, g.revision = g.head.id, g.head.revision
	before := g.head.arrivals
	switch {
	case !g.head.live():
		g.target, g.fresh, before = 0, true, 0
		if g.head.id != 0 {
			g.revision++
		}
	case !g.head.closed:
	case len(g.rows) == 0:
		g.arrivals = before // its marker is late, which only its next revision has to know
		return
	case g.rules.Late == gantry.LateIgnore:
		g.target = 0
		return
	default:
		g.target, g.fresh = 0, true
		g.revision++
		if g.whole = g.rules.Late != gantry.LateAppend; !g.whole {
			before, g.stale = 0, nil
		}
	}
	g.arrivals = before - len(g.stale) + len(g.rows)
	g.wait, g.reason = due(g.rules, before, g.arrivals, g.marked)
}

// late tells whether the members that came are kept on record alone.
func (g *gathering) late() bool { return g.target == 0 && !g.fresh }

// due says how long a collection waits for more, and why it is closed then; below 0: until its cap. With so many
// members as are expected it waits for none; once it had them before, since it is a revision, it waits for what may
// come with the new one.
func due(c gantry.Collect, before, after int, marked bool) (time.Duration, gantry.Code) {
	switch {
	case after == 0:
	case c.Count > 0 && after >= c.Count && (before < c.Count || c.Quiet == 0):
		return 0, gantry.ClosedByCount
	case c.Marker != "" && marked:
		return c.Quiet, gantry.ClosedByMarker
	case c.Marker == "" && c.Quiet > 0:
		return c.Quiet, gantry.ClosedByQuiet
	}
	return -1, gantry.ClosedByCap
}

// rounds divides arrivals so that no object comes twice in one round: the later version must find the earlier one.
func rounds(list []gantry.Gathering) (out [][]int) {
	type object struct {
		source string
		mac    gantry.Digest
	}
	next := map[object]int{}
	for i := range list {
		o := object{list[i].Arrival.Source, list[i].Arrival.RefMAC}
		n := next[o]
		next[o] = n + 1
		if n == len(out) {
			out = append(out, nil)
		}
		out[n] = append(out[n], i)
	}
	return out
}
