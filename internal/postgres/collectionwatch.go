package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// awaySurely is how long after the last report of a source nobody watches it for sure: whoever does reports more often.
const awaySurely = 5 * time.Second

// leastLeft is how much of its quiet a collection has left once its source is watched again after nobody did for sure: what came meanwhile is found in it, or the report
// says that the source cannot be looked at.
const leastLeft = 10 * time.Second

// watchAgainSQL stops the clock of the open collections of sources for the time that nobody watched them: what came meanwhile could not put them off.
// That is the time since the last report of a source that could be looked at, or the last arrival of a collection. Where the report is so young that others may be watching,
// a collection is given that time from now on instead, which one that is due later has anyhow. One that was due before the
// report was waited for to its end. The report is of now then, so that of several that begin at once only one puts off. $1 sources, $2 how old
// a report is that nobody followed (us), $3 how much a collection has left then at least (us).
const watchAgainSQL = `
with s as materialized (
  select source, coalesce(watched_at, at) as at from source_state where source = any ($1::text[]) order by source for update),
n as materialized (select clock_timestamp() as at, x.since from (select min(at) as since from s) x), -- after the lock
o as materialized (
  select id, source, due, cap, last_at from collection
  where not closed and due > (select since from n) and due < cap and reason in ('quiet', 'marker') and source = any ($1::text[])
  order by id for update),
r as materialized (
  select o.id, o.cap, case when n.at - s.at > $2::bigint * interval '1 us' then greatest(o.due + (n.at - greatest(s.at, o.last_at)), n.at + $3::bigint * interval '1 us')
    else greatest(o.due, n.at + (n.at - greatest(s.at, o.last_at))) end as due
  from o join s on s.source = o.source cross join n where o.due > s.at),
seen as (
  update source_state x set at = n.at, watched_at = n.at from n where x.source = any (array(select source from s)))
update collection c set due = least(r.cap, r.due), reason = case when r.cap <= r.due then 'cap' else c.reason end
from r where c.id = r.id`

// WatchAgain puts off the collections of sources that this process is about to watch, or can look at again, by the time that nobody did, at most to their caps. One whose
// cap ran out meanwhile is due.
func (s *Store) WatchAgain(ctx context.Context, sources []string) error {
	if len(sources) == 0 {
		return nil
	}
	sources = slices.Compact(slices.Sorted(slices.Values(sources)))
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(gatherLockSQL, sources) // who adds members locks collections too
		b.Queue(watchAgainSQL, sources, micros(awaySurely), micros(leastLeft))
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return fmt.Errorf("put collections off: %w", err)
	}
	return nil
}

// keepOpenSQL has the quiet of a group's open collection begin anew. $1 pipeline, $2 key_mac, $3 quiet (us).
const keepOpenSQL = `
update collection c set due = least(c.cap, n.due), reason = case when c.cap <= n.due then 'cap' else c.reason end
from (select clock_timestamp() + $3::bigint * interval '1 us' as due) n
where c.id = (select id from collection where pipeline = $1 and key_mac = $2 order by revision desc limit 1)
  and not c.closed and c.reason in ('quiet', 'marker') and c.due < n.due`

// KeepOpen puts the open collection of a group off as a file would that came now, at most to its cap: one is on its way.
func (s *Store) KeepOpen(ctx context.Context, pipeline string, group gantry.Digest, quiet time.Duration) error {
	if _, err := s.pool.Exec(ctx, keepOpenSQL, pipeline, group[:], micros(quiet)); err != nil {
		return fmt.Errorf("keep collection open: %w", err)
	}
	return nil
}
