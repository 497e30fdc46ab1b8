package postgres

import (
	"context"
	"errors"
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
	err = s.inBatches(ctx, func(_ *pgxpool.Conn, b *pgx.Batch) (*pgx.Batch, error) {
		queueLock(b, list)
		queueAsLeft(b, list, groups)
		write(b, list, groups, seen, out)
		return b, nil
	})
	if pe, is := errors.AsType[*pgconn.PgError](err); is && pe.Code == codeNotAsLeft {
		s.left.doubt(list, time.Now())
		return nil, false, nil
	}
	if err == nil {
		s.left.keep(groups, time.Now())
	}
	return out, true, err
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
