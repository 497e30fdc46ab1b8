package postgres

import (
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// inserted counts rows that were to be made, and those that were.
type inserted struct{ want, made int }

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

// queueArrivals writes the arrivals that are new, accepts those that were not, and writes where the bytes of the others
// were found last.
func queueArrivals(b *pgx.Batch, list []gantry.Gathering, seen []sight, out []gantry.Gathered) *inserted {
	var fresh, known, revived arrivalRows
	for i := range list {
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
	n := &inserted{want: len(fresh.ids)}
	if r := fresh; len(r.ids) > 0 {
		b.Queue(arriveSQL, r.ids, r.sources, r.macs, r.versions, r.names, r.sizes, r.shas, r.locations, r.sequencers, r.places, r.statuses, r.whys,
			r.events, r.vias).Exec(func(tag pgconn.CommandTag) error {
			n.made = int(tag.RowsAffected())
			return nil
		})
	}
	if r := known; len(r.ids) > 0 {
		b.Queue(arriveAgainSQL, r.ids, r.sequencers, r.places, r.events, r.vias)
	}
	if r := revived; len(r.ids) > 0 {
		b.Queue(reviveSQL, r.ids, r.sizes, r.shas, r.locations, r.sequencers, r.places, r.names, r.statuses, r.whys)
	}
	return n
}

// queueMembers writes who belongs to what.
func queueMembers(b *pgx.Batch, list []gantry.Gathering, groups []*gathering) {
	var fresh, last, left, stale, joined, members, superseded []int64
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
			joined, members = append(joined, g.target), append(members, list[i].Arrival.ID)
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
		b.Queue(joinSQL, joined, members)
	}
}

// queuePush writes when collections are due. left is filled with how long that is, by collection, once the batch was sent.
func queuePush(b *pgx.Batch, list []gantry.Gathering, groups []*gathering, left map[int64]time.Duration) {
	var ids, within, caps, waits []int64
	var arrivals, expected, versions, lanes []int32
	var priorities []int16
	var marked []bool
	var reasons []string
	var marks []int64
	for _, g := range groups {
		switch {
		case g.late():
			continue
		case g.head.closed && !g.fresh:
			marks = append(marks, g.target)
			continue
		}
		rows := slices.Concat(g.rows, g.markers)
		x := &list[rows[len(rows)-1]]
		first := x.Priority
		for _, i := range rows {
			first = min(first, list[i].Priority)
		}
		wait := int64(-1)
		if g.wait >= 0 {
			wait = micros(g.wait)
		}
		ids, arrivals, marked, expected = append(ids, g.target), append(arrivals, int32(g.arrivals)), append(marked, g.marked), append(expected, int32(g.rules.Count))
		versions, lanes, priorities = append(versions, x.Version), append(lanes, x.Lane), append(priorities, first)
		within, caps, waits, reasons = append(within, micros(x.Within)), append(caps, micros(g.rules.Cap)), append(waits, wait), append(reasons, string(g.reason))
	}
	if len(marks) > 0 {
		b.Queue(markSQL, marks)
	}
	if len(ids) == 0 {
		return
	}
	b.Queue(pushSQL, ids, arrivals, marked, expected, versions, lanes, priorities, within, caps, waits, reasons).Query(func(rows pgx.Rows) error {
		var id, us int64
		_, err := pgx.ForEachRow(rows, []any{&id, &us}, func() error {
			left[id] = time.Duration(us) * time.Microsecond
			return nil
		})
		return err
	})
}
