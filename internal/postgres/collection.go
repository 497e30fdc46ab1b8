package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeBadRow is the reason of what the database refuses whenever it is written (SQLSTATE classes 22, 23 and 54).
const CodeBadRow gantry.Code = "bad_row"

// sameObject is the constraint that holds a version of an object to one row.
const sameObject = "arrival_source_ref_mac_version_key"

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
	if other := keptOther(verb, err); other != nil {
		return other
	}
	pe, ok := errors.AsType[*pgconn.PgError](err)
	if ok && pe.ConstraintName == sameObject {
		return gantry.Errorf(gantry.Transient, "", "%s: an object came another way at this moment", verb)
	}
	if ok && len(pe.Code) == 5 && slices.Contains([]string{"22", "23", "54"}, pe.Code[:2]) {
		return gantry.Errorf(gantry.Illegal, CodeBadRow, "%s: the database refuses a row, %s", verb, pe.Code)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// gatherRound is Gather for arrivals of different objects. Those that are on record get their ids in list. It takes one round trip where
// everything is as it was left, else two, and three where a collection is opened.
func (s *Store) gatherRound(ctx context.Context, list []gantry.Gathering) (out []gantry.Gathered, err error) {
	if heads, ok := s.left.of(list, time.Now()); ok {
		if out, ok, err := s.gatherAsLeft(ctx, list, heads); ok {
			return out, err
		}
	}
	var groups []*gathering
	err = s.inBatches(ctx, func(c *pgxpool.Conn, first *pgx.Batch) (*pgx.Batch, error) {
		heads, seen, err := look(ctx, c, first, list)
		if err != nil {
			return nil, err
		}
		for i, x := range seen {
			if x.arrival != 0 {
				list[i].Arrival.ID = x.arrival
			}
		}
		recordAs(list)
		groups = gather(list, heads, seen)
		if err := openRevisions(ctx, c, list, groups); err != nil {
			return nil, err
		}
		out = told(list, groups, seen)
		b := &pgx.Batch{}
		write(b, list, groups, seen, out)
		return b, nil
	})
	if err == nil {
		s.left.keep(groups, time.Now())
	}
	return out, err
}

// inBatches runs do in a transaction that takes no round trip of its own: it begins with the batch that do is given to add to and to send,
// and ends with the one that do gives back.
func (s *Store) inBatches(ctx context.Context, do func(*pgxpool.Conn, *pgx.Batch) (*pgx.Batch, error)) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release() // which closes a connection whose transaction is open
	first := &pgx.Batch{}
	first.Queue("begin")
	last, err := do(c, first)
	if err == nil {
		last.Queue("commit")
		err = c.SendBatch(ctx, last).Close()
	}
	if err != nil && !c.Conn().IsClosed() && c.Conn().PgConn().TxStatus() != 'I' {
		_, _ = c.Exec(ctx, "rollback")
	}
	return err
}

// look waits for the other accepts of the same sources, and gives the last revision of each group, locked, and what is on record of the objects.
func look(ctx context.Context, c *pgxpool.Conn, b *pgx.Batch, list []gantry.Gathering) (map[groupKey]head, []sight, error) {
	heads := map[groupKey]head{}
	queueLock(b, list)
	queueHeads(b, list, heads)
	seen := make([]sight, len(list))
	queueSights(b, list, seen)
	return heads, seen, c.SendBatch(ctx, b).Close()
}

// queueLock waits for the other accepts of the same sources, and for those of objects that are taken once.
func queueLock(b *pgx.Batch, list []gantry.Gathering) {
	var sources []string
	for i := range list {
		sources = append(sources, list[i].Arrival.Source)
	}
	slices.Sort(sources)
	b.Queue(gatherLockSQL, slices.Compact(sources))
	queueOnce(b, func(yield func(*gantry.Arrival)) {
		for i := range list {
			yield(&list[i].Arrival)
		}
	})
}

func queueHeads(b *pgx.Batch, list []gantry.Gathering, heads map[groupKey]head) {
	var pipelines []string
	var macs [][]byte
	known := map[groupKey]bool{}
	for i := range list {
		key := groupKey{list[i].Pipeline, list[i].Group}
		if !known[key] {
			known[key] = true
			pipelines, macs = append(pipelines, key.pipeline), append(macs, slices.Clone(key.mac[:]))
		}
	}
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
}

// queueSights looks for arrivals of the same objects.
func queueSights(b *pgx.Batch, list []gantry.Gathering, seen []sight) {
	var sources, versions, sequencers, pipelines []string
	var macs, groups [][]byte
	var ids []int64
	var markers []bool
	for i := range list {
		a := &list[i].Arrival
		sources, macs, versions, pipelines = append(sources, a.Source), append(macs, a.RefMAC[:]), append(versions, a.Version), append(pipelines, list[i].Pipeline)
		sequencers, groups = append(sequencers, a.Sequencer), append(groups, list[i].Group[:])
		ids, markers = append(ids, a.ID), append(markers, list[i].Marker)
	}
	b.Queue(seenSQL, sources, macs, versions, groups, ids, pipelines, markers, openStatuses, sequencers).Query(func(rows pgx.Rows) error {
		var i, id int64
		var same, known, member bool
		_, err := pgx.ForEachRow(rows, []any{&i, &id, &same, &known, &member}, func() error {
			if same {
				seen[i-1].arrival, seen[i-1].known = id, known
			}
			if member {
				seen[i-1].members = append(seen[i-1].members, id)
			}
			return nil
		})
		return err
	})
}

// openRevisions makes the collections that are missing.
func openRevisions(ctx context.Context, c *pgxpool.Conn, list []gantry.Gathering, groups []*gathering) error {
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
	rows, err := c.Query(ctx, openSQL, pipelines, macs, revisions, sources, names, studies, apart)
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

// write puts down what was decided, and fills in when collections are due once it is sent.
func write(b *pgx.Batch, list []gantry.Gathering, groups []*gathering, seen []sight, out []gantry.Gathered) {
	queueArrivals(b, list, seen, out)
	queueMembers(b, list, groups)
	receipts := make([]*gantry.Receipt, len(list))
	for i := range list {
		receipts[i] = list[i].Receipt
	}
	queueReceipts(b, receipts)
	of := placesOf(out)
	queuePush(b, list, groups, func(collection int64, due, ask time.Duration) {
		for _, i := range of[collection] {
			out[i].Due, out[i].Ask = due, ask
		}
	})
}

// placesOf says where the members of each collection are.
func placesOf(out []gantry.Gathered) map[int64][]int {
	of := map[int64][]int{}
	for i := range out {
		of[out[i].Collection] = append(of[out[i].Collection], i)
	}
	return of
}
