package postgres

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// arrivalRows are arrivals by columns.
type arrivalRows struct {
	ids, sizes                          []int64
	sources, versions, names            []string
	macs, shas                          [][]byte
	locations, sequencers, places, whys []string
	statuses                            []int16
	events                              []string
	vias                                []int32
}

func (r *arrivalRows) add(a *gantry.Arrival, status gantry.ArrivalStatus, why gantry.Code) {
	r.ids, r.sources, r.macs, r.versions = append(r.ids, a.ID), append(r.sources, a.Source), append(r.macs, a.RefMAC[:]), append(r.versions, a.Version)
	r.names, r.sizes, r.shas = append(r.names, a.Name), append(r.sizes, a.Size), append(r.shas, digestOrNull(a.SHA))
	r.locations, r.sequencers, r.places = append(r.locations, a.Location), append(r.sequencers, a.Sequencer), append(r.places, a.Place)
	r.events, r.vias = append(r.events, a.Event), append(r.vias, a.Via)
	r.statuses, r.whys = append(r.statuses, int16(status)), append(r.whys, string(why))
}

// args are the columns as arriveSQL has them, but for the last two.
func (r *arrivalRows) args() []any {
	return []any{r.ids, r.sources, r.macs, r.versions, r.names, r.sizes, r.shas, r.locations, r.sequencers, r.places, r.events, r.vias}
}

// queueArrivals writes the arrivals that are new, accepts those that were not, and writes where the bytes of the others
// were found last.
func queueArrivals(b *pgx.Batch, list []gantry.Gathering, seen []sight, out []gantry.Gathered) {
	var fresh, known, revived arrivalRows
	for _, i := range inOrder(list) {
		var why gantry.Code
		switch {
		case list[i].Marker:
			why = gantry.CodeMarker
		case out[i].Status == gantry.Ignored:
			why = gantry.CodeLate
		}
		switch {
		case seen[i].arrival == 0:
			fresh.add(&list[i].Arrival, out[i].Status, why)
			continue
		case !seen[i].known:
			revived.add(&list[i].Arrival, out[i].Status, why)
		}
		known.add(&list[i].Arrival, out[i].Status, why)
	}
	if r := fresh; len(r.ids) > 0 {
		b.Queue(arriveSQL, append(r.args(), r.statuses, r.whys)...)
	}
	if r := known; len(r.ids) > 0 {
		b.Queue(arriveAgainSQL, r.ids, r.sequencers, r.places, r.events, r.vias)
	}
	if r := revived; len(r.ids) > 0 {
		b.Queue(reviveSQL, r.ids, r.sizes, r.shas, r.locations, r.sequencers, r.places, r.names, r.statuses, r.whys)
	}
}

// queueMembers writes who belongs to what.
func queueMembers(b *pgx.Batch, list []gantry.Gathering, groups []*gathering) {
	var fresh, last, left, stale, joined, members, instances, superseded []int64
	for _, g := range groups {
		if g.late() || len(g.rows) == 0 {
			continue
		}
		if g.whole {
			fresh, last = append(fresh, g.target), append(last, g.head.id)
		}
		for _, a := range g.stale {
			left, stale = append(left, g.target), append(stale, a)
		}
		superseded = append(superseded, g.stale...)
		for _, i := range g.rows {
			joined, members, instances = append(joined, g.target), append(members, list[i].Arrival.ID), append(instances, list[i].Instance)
		}
	}
	if len(fresh) > 0 {
		b.Queue(copyMembersSQL, fresh, last)
	}
	if len(stale) > 0 {
		b.Queue(leaveSQL, left, stale)
		b.Queue(supersedeSQL, superseded, int16(gantry.Superseded))
	}
	if len(joined) > 0 {
		b.Queue(joinSQL, joined, members, instances)
	}
}

// pushRows are collections by columns, as pushSQL takes them.
type pushRows struct {
	ids, within, caps, waits            []int64
	arrivals, expected, versions, lanes []int32
	priorities                          []int16
	marked                              []bool
	reasons                             []string
	asks, waiting, quiet                []bool
	steady                              []int64
}

// add puts a collection down, whose last arrival is x, with the first of the priorities of what came.
func (r *pushRows) add(g *gathering, x *gantry.Gathering, first int16) {
	wait := int64(-1)
	if g.wait >= 0 {
		wait = micros(g.wait)
	}
	r.ids, r.arrivals, r.marked, r.expected = append(r.ids, g.target), append(r.arrivals, int32(g.arrivals)), append(r.marked, g.marked), append(r.expected, int32(g.rules.Count))
	r.versions, r.lanes, r.priorities = append(r.versions, x.Version), append(r.lanes, x.Lane), append(r.priorities, first)
	r.within, r.caps, r.waits, r.reasons = append(r.within, micros(x.Within)), append(r.caps, micros(g.rules.Cap)), append(r.waits, wait), append(r.reasons, string(g.reason))
	e := gantry.Expect{}
	if g.rules.Expect != nil {
		e = *g.rules.Expect
	}
	r.asks, r.waiting, r.quiet = append(r.asks, g.rules.Expect != nil), append(r.waiting, e.Missing == gantry.MissingWait), append(r.quiet, g.rules.Quiet > 0)
	r.steady = append(r.steady, micros(e.Steady))
}

// addLast puts a collection down with what came of it.
func (r *pushRows) addLast(g *gathering, list []gantry.Gathering) {
	rows := slices.Concat(g.rows, g.markers)
	x := &list[rows[len(rows)-1]]
	first := x.Priority
	for _, i := range rows {
		first = min(first, list[i].Priority)
	}
	r.add(g, x, first)
}

// queuePush writes when collections are due. tell is told how long that is, and until the archive is asked, below 0 if it is not, once the
// batch was sent.
func queuePush(b *pgx.Batch, list []gantry.Gathering, groups []*gathering, tell func(collection int64, due, ask time.Duration)) {
	var r pushRows
	var marks []int64
	for _, g := range groups {
		switch {
		case g.late():
			continue
		case g.head.closed && !g.fresh:
			marks = append(marks, g.target)
			continue
		}
		r.addLast(g, list)
	}
	if len(marks) > 0 {
		b.Queue(markSQL, marks)
	}
	if len(r.ids) == 0 {
		return
	}
	b.Queue(pushSQL, r.ids, r.arrivals, r.marked, r.expected, r.versions, r.lanes, r.priorities, r.within, r.caps, r.waits, r.reasons,
		r.asks, r.steady, r.waiting, r.quiet).Query(func(rows pgx.Rows) error {
		var id, due, ask int64
		_, err := pgx.ForEachRow(rows, []any{&id, &due, &ask}, func() error {
			tell(id, time.Duration(due)*time.Microsecond, time.Duration(ask)*time.Microsecond)
			return nil
		})
		return err
	})
}

// inOrder gives the places of a list in the order in which enqueue.sql locks arrivals.
func inOrder(list []gantry.Gathering) []int {
	at := make([]int, len(list))
	for i := range at {
		at[i] = i
	}
	slices.SortFunc(at, func(i, j int) int {
		a, b := &list[i].Arrival, &list[j].Arrival
		return cmp.Or(strings.Compare(a.Source, b.Source), bytes.Compare(a.RefMAC[:], b.RefMAC[:]), strings.Compare(a.Version, b.Version))
	})
	return at
}
