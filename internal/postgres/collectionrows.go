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

// queueArrivals writes the arrivals that are new, and where the bytes of the others were found last.
func queueArrivals(b *pgx.Batch, list []gantry.Gathering, seen []sight, out []gantry.Gathered) *inserted {
	var (
		ids, sizes, known                      []int64
		sources, versions, names               []string
		macs, shas                             [][]byte
		locations, sequencers, places, reasons []string
		knownSequencers, knownPlaces           []string
		statuses                               []int16
	)
	for i := range list {
		a := &list[i].Arrival
		if id := seen[i].known; id != 0 {
			known, knownSequencers, knownPlaces = append(known, id), append(knownSequencers, a.Sequencer), append(knownPlaces, a.Place)
			continue
		}
		var why gantry.Code
		switch {
		case list[i].Marker:
			why = gantry.CodeMarker
		case out[i].Status == gantry.Ignored:
			why = gantry.CodeLate
		}
		ids, sources, macs, versions = append(ids, a.ID), append(sources, a.Source), append(macs, a.RefMAC[:]), append(versions, a.Version)
		names, sizes, shas = append(names, a.Name), append(sizes, a.Size), append(shas, digestOrNull(a.SHA))
		locations, sequencers, places = append(locations, a.Location), append(sequencers, a.Sequencer), append(places, a.Place)
		statuses, reasons = append(statuses, int16(out[i].Status)), append(reasons, string(why))
	}
	n := &inserted{want: len(ids)}
	if len(ids) > 0 {
		b.Queue(arriveSQL, ids, sources, macs, versions, names, sizes, shas, locations, sequencers, places, statuses, reasons).Exec(func(tag pgconn.CommandTag) error {
			n.made = int(tag.RowsAffected())
			return nil
		})
	}
	if len(known) > 0 {
		b.Queue(arriveAgainSQL, known, knownSequencers, knownPlaces)
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
