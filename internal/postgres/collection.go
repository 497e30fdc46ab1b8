package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeBadRow is the reason of what the database refuses whenever it is written (SQLSTATE classes 22, 23 and 54).
const CodeBadRow gantry.Code = "bad_row"

// Gather makes arrivals durable as members of the open collections of their groups, all or none, and says what became
// of each. Where a group has no collection, or only one that is closed, one is opened, or what came is late, as the
// rules have it. The same arrivals may be given again; then nothing changes. Where one row can never be written the error is Illegal. Of an object that comes again with other
// bytes, only the last is a member. A collection is due so long after now as its rules say, on the database's clock.
func (s *Store) Gather(ctx context.Context, list []gantry.Gathering) ([]gantry.Gathered, error) {
	out := make([]gantry.Gathered, len(list))
	for _, round := range rounds(list) {
		part := make([]gantry.Gathering, len(round))
		for i, n := range round {
			part[i] = list[n]
		}
		got, err := s.gatherRound(ctx, part)
		if err != nil {
			return nil, refused("gather arrivals", err)
		}
		for i, n := range round {
			out[n] = got[i]
		}
	}
	return out, nil
}

// refused tells rows that the database will never take, Illegal with code bad_row, from a database that cannot take any now. Its
// own text may hold values.
func refused(verb string, err error) error {
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if ok && len(pe.Code) == 5 && slices.Contains([]string{"22", "23", "54"}, pe.Code[:2]) {
		return gantry.Errorf(gantry.Illegal, CodeBadRow, "%s: the database refuses a row, %s", verb, pe.Code)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// gatherRound is Gather for arrivals of different objects. Those that are on record get their ids in list.
func (s *Store) gatherRound(ctx context.Context, list []gantry.Gathering) (out []gantry.Gathered, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		heads, err := lockHeads(ctx, tx, list)
		if err != nil {
			return err
		}
		seen, err := sights(ctx, tx, list, heads)
		if err != nil {
			return err
		}
		for i, x := range seen {
			if x.arrival != 0 {
				list[i].Arrival.ID = x.arrival
			}
		}
		groups := gather(list, heads, seen)
		if err := openRevisions(ctx, tx, list, groups); err != nil {
			return err
		}
		out = told(list, groups, seen)
		return write(ctx, tx, list, groups, seen, out)
	})
	return out, err
}

// lockHeads waits for the other accepts of the same sources, and gives the last revision of each group, locked.
func lockHeads(ctx context.Context, tx pgx.Tx, list []gantry.Gathering) (map[groupKey]head, error) {
	var sources, pipelines []string
	var macs [][]byte
	known := map[groupKey]bool{}
	for i := range list {
		sources = append(sources, list[i].Arrival.Source)
		key := groupKey{list[i].Pipeline, list[i].Group}
		if !known[key] {
			known[key] = true
			pipelines, macs = append(pipelines, key.pipeline), append(macs, slices.Clone(key.mac[:]))
		}
	}
	slices.Sort(sources)
	heads := map[groupKey]head{}
	b := &pgx.Batch{}
	b.Queue(gatherLockSQL, slices.Compact(sources))
	b.Queue(headsSQL, pipelines, macs).Query(func(rows pgx.Rows) error {
		var key groupKey
		var h head
		var mac []byte
		_, err := pgx.ForEachRow(rows, []any{&key.pipeline, &mac, &h.id, &h.revision, &h.closed, &h.arrivals, &h.marked}, func() error {
			copy(key.mac[:], mac)
			heads[key] = h
			return nil
		})
		return err
	})
	return heads, tx.SendBatch(ctx, b).Close()
}

// sights looks for arrivals of the same objects.
func sights(ctx context.Context, tx pgx.Tx, list []gantry.Gathering, heads map[groupKey]head) ([]sight, error) {
	var sources, versions, sequencers, pipelines []string
	var macs [][]byte
	var of, ids []int64
	var marked []*bool // null: no marker
	for i := range list {
		a, h := &list[i].Arrival, heads[groupKey{list[i].Pipeline, list[i].Group}]
		sources, macs, versions, pipelines = append(sources, a.Source), append(macs, a.RefMAC[:]), append(versions, a.Version), append(pipelines, list[i].Pipeline)
		sequencers = append(sequencers, a.Sequencer)
		of, ids, marked = append(of, h.id), append(ids, a.ID), append(marked, nil)
		if list[i].Marker {
			marked[i] = &h.marked
		}
	}
	rows, err := tx.Query(ctx, seenSQL, sources, macs, versions, of, ids, pipelines, marked, openStatuses, sequencers)
	if err != nil {
		return nil, err
	}
	seen := make([]sight, len(list))
	var i, id int64
	var same, known, member bool
	_, err = pgx.ForEachRow(rows, []any{&i, &id, &same, &known, &member}, func() error {
		if same {
			seen[i-1].arrival, seen[i-1].known = id, known
		}
		if member {
			seen[i-1].members = append(seen[i-1].members, id)
		}
		return nil
	})
	return seen, err
}

// openRevisions makes the collections that are missing.
func openRevisions(ctx context.Context, tx pgx.Tx, list []gantry.Gathering, groups []*gathering) error {
	var pipelines, sources, names []string
	var macs [][]byte
	var revisions []int32
	var studies []string
	var apart []bool
	fresh := map[groupKey]*gathering{}
	for _, g := range groups {
		if !g.fresh {
			continue
		}
		fresh[g.key] = g
		x := &list[slices.Concat(g.rows, g.markers)[0]]
		pipelines, macs, revisions = append(pipelines, g.key.pipeline), append(macs, slices.Clone(g.key.mac[:])), append(revisions, g.revision)
		sources, names = append(sources, x.Arrival.Source), append(names, x.Name)
		studies, apart = append(studies, studyOf(x)), append(apart, g.revision > 0 && g.rules.Late == gantry.LateAppend)
	}
	if len(fresh) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, openSQL, pipelines, macs, revisions, sources, names, studies, apart)
	if err != nil {
		return err
	}
	var key groupKey
	var mac []byte
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&key.pipeline, &mac, &id}, func() error {
		copy(key.mac[:], mac)
		fresh[key].target = id
		return nil
	})
	return err
}

// studyOf is what an archive is asked about; empty if none is.
func studyOf(x *gantry.Gathering) string {
	if x.Rules.Expect == nil {
		return ""
	}
	return x.Study
}

// waits is how long it is until a collection is due, and until its archive is asked; below 0: it is not.
type waits struct{ due, ask time.Duration }

// told says what becomes of each arrival, but for when its collection is due.
func told(list []gantry.Gathering, groups []*gathering, seen []sight) []gantry.Gathered {
	out := make([]gantry.Gathered, len(list))
	for i := range out {
		out[i].Known, out[i].Ask = seen[i].known, -1
	}
	for _, g := range groups {
		for _, i := range slices.Concat(g.rows, g.markers) {
			out[i] = gantry.Gathered{Collection: g.target, Revision: g.revision, Status: gantry.Accepted, Ask: -1}
			if g.late() && !list[i].Marker {
				out[i].Status = gantry.Ignored
			}
		}
	}
	return out
}

// write puts down what was decided, and fills in when collections are due.
func write(ctx context.Context, tx pgx.Tx, list []gantry.Gathering, groups []*gathering, seen []sight, out []gantry.Gathered) error {
	b := &pgx.Batch{}
	fresh := queueArrivals(b, list, seen, out)
	queueMembers(b, list, groups)
	left := map[int64]waits{}
	queuePush(b, list, groups, left)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	if n := fresh.made; n != fresh.want {
		return gantry.Errorf(gantry.Transient, "", "%d of %d arrivals came another way at this moment", fresh.want-n, fresh.want)
	}
	for i := range out {
		if x, ok := left[out[i].Collection]; ok {
			out[i].Due, out[i].Ask = x.due, x.ask
		}
	}
	return nil
}
