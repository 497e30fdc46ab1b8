package postgres

import (
	"context"
	_ "embed"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// What is remembered of groups.
const (
	leftFor   = time.Second      // after this a group may well be closed
	leftDoubt = 10 * time.Second // nothing is remembered of a group that was not as it was left
	leftMost  = 1024             // groups
)

// asLeftSQL fails with SQLSTATE GA001 unless collections, which it locks, are open and as they were left, and nothing is on record of
// objects. By collection: $1 id, $2 members, $3 whether its marker came. By object: $4 source, $5 ref_mac.
const asLeftSQL = `
with h as materialized (
  select c.id from collection c where c.id = any (array(select * from unnest($1::bigint[]))) and not c.closed
    and exists (select from unnest($1::bigint[], $2::int[], $3::bool[]) g(id, arrivals, marked) where g.id = c.id and g.arrivals = c.arrivals and g.marked = c.marked)
  order by c.id for update),
a as materialized (
  select a.id from unnest($4::text[], $5::bytea[]) r(source, ref_mac)
  cross join lateral (select id from arrival where source = r.source and ref_mac = r.ref_mac offset 0) a limit 1)
select as_left((select count(*) from h) = cardinality($1::bigint[]) and not exists (select from a))`

//go:embed asleft.sql
var joinAsLeftSQL string

const codeNotAsLeft = "GA001" // SQLSTATE of the function as_left

// left are the heads of groups as this process left them a moment ago. Who adds to a collection that nobody else touched, an object
// that nobody has seen, need not look first: that it is so is asked in the batch that writes.
type left struct {
	mu    sync.Mutex
	heads map[groupKey]leftHead
}

type leftHead struct {
	head
	at    time.Time
	doubt time.Time // until then nothing is remembered
}

// of gives the heads of all groups of a list; false if one is not remembered, or something other than members comes.
func (l *left) of(list []gantry.Gathering, now time.Time) (map[groupKey]head, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[groupKey]head{}
	for i := range list {
		key := groupKey{list[i].Pipeline, list[i].Group}
		x, ok := l.heads[key]
		if !ok || list[i].Marker || now.Sub(x.at) > leftFor {
			return nil, false
		}
		out[key] = x.head
	}
	return out, true
}

// keep remembers the groups that take more.
func (l *left) keep(groups []*gathering, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.heads == nil || len(l.heads) > leftMost {
		l.heads = map[groupKey]leftHead{}
	}
	for _, g := range groups {
		switch was := l.heads[g.key]; {
		case now.Before(was.doubt):
		case g.late(), g.head.closed && !g.fresh, g.wait == 0:
			delete(l.heads, g.key)
		default:
			l.heads[g.key] = leftHead{head: head{id: g.target, revision: g.revision, arrivals: g.arrivals, marked: g.marked}, at: now}
		}
	}
}

// doubt forgets the groups of a list for a while.
func (l *left) doubt(list []gantry.Gathering, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range list {
		l.heads[groupKey{list[i].Pipeline, list[i].Group}] = leftHead{doubt: now.Add(leftDoubt)}
	}
}

// gatherAsLeft is gatherRound for members of collections that are as they were left. It takes one round trip. It is false, and nothing was
// written, if they are not, or an object is on record.
func (s *Store) gatherAsLeft(ctx context.Context, list []gantry.Gathering, heads map[groupKey]head) (out []gantry.Gathered, ok bool, err error) {
	seen := make([]sight, len(list))
	groups := gather(list, heads, seen)
	recordAs(list)
	out = told(list, groups, seen)
	if slices.ContainsFunc(groups, func(g *gathering) bool { return g.rules.Expect != nil }) {
		ok, err = s.askingAsLeft(ctx, list, groups, seen, out)
	} else {
		ok, err = s.joinAsLeft(ctx, list, groups, out)
	}
	switch {
	case err != nil:
		return nil, true, err
	case !ok:
		s.left.doubt(list, time.Now())
		return nil, false, nil
	}
	s.left.keep(groups, time.Now())
	return out, true, nil
}

// joinAsLeft does it in one statement, after the one that waits: each of a transaction's costs more than the rows that it writes.
func (s *Store) joinAsLeft(ctx context.Context, list []gantry.Gathering, groups []*gathering, out []gantry.Gathered) (ok bool, err error) {
	b := &pgx.Batch{} // a transaction of its own
	queueLock(b, list)
	sql, args := asLeftStatement(s.asLeft, list, groups)
	joined := 0
	of := placesOf(out)
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		var id, due int64
		_, err := pgx.ForEachRow(rows, []any{&id, &due}, func() error {
			joined++
			for _, i := range of[id] {
				out[i].Due = time.Duration(due) * time.Microsecond
			}
			return nil
		})
		return err
	})
	err = s.pool.SendBatch(ctx, b).Close()
	return joined == len(groups), err
}

// asLeftStatement adds a list to groups.
func asLeftStatement(of *sections, list []gantry.Gathering, groups []*gathering) (string, []any) {
	var push pushRows
	var was []int32
	var objects arrivalRows
	targets := make([]int64, len(list))
	var collections, instances []int64
	receipts := make([]*gantry.Receipt, len(list))
	for _, g := range groups {
		push.addLast(g, list)
		was = append(was, int32(g.head.arrivals))
		for _, i := range g.rows {
			targets[i] = g.target
		}
	}
	for _, i := range inOrder(list) {
		objects.add(&list[i].Arrival, gantry.Accepted, "")
		collections, instances = append(collections, targets[i]), append(instances, list[i].Instance)
		receipts[i] = list[i].Receipt
	}
	args, calls := receiptColumns(receipts)
	return of.statement(
		section{"groups", len(groups), []any{push.ids, was, push.marked, push.arrivals, push.expected, push.versions, push.lanes, push.priorities,
			push.within, push.caps, push.waits, push.reasons}},
		section{"objects", len(list), append(objects.args(), collections, instances)},
		section{"receipts", calls, args})
}

// askingAsLeft does it where an archive is asked about collections, which has to be weighed when their members are there.
func (s *Store) askingAsLeft(ctx context.Context, list []gantry.Gathering, groups []*gathering, seen []sight, out []gantry.Gathered) (ok bool, err error) {
	err = s.inBatches(ctx, func(_ *pgxpool.Conn, b *pgx.Batch) (*pgx.Batch, error) {
		queueLock(b, list)
		queueAsLeft(b, list, groups)
		write(b, list, groups, seen, out)
		return b, nil
	})
	if pe, is := errors.AsType[*pgconn.PgError](err); is && pe.Code == codeNotAsLeft {
		return false, nil
	}
	return err == nil, err
}

func queueAsLeft(b *pgx.Batch, list []gantry.Gathering, groups []*gathering) {
	var ids []int64
	var arrivals []int32
	var marked []bool
	for _, g := range groups {
		ids, arrivals, marked = append(ids, g.head.id), append(arrivals, int32(g.head.arrivals)), append(marked, g.head.marked)
	}
	var sources []string
	var macs [][]byte
	for i := range list {
		sources, macs = append(sources, list[i].Arrival.Source), append(macs, list[i].Arrival.RefMAC[:])
	}
	b.Queue(asLeftSQL, ids, arrivals, marked, sources, macs)
}

// recordAs gives receipts the arrivals that they are of.
func recordAs(list []gantry.Gathering) {
	for i := range list {
		if r := list[i].Receipt; r != nil {
			r.Intent.Arrival = list[i].Arrival.ID
		}
	}
}
