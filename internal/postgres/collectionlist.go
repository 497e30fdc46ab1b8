package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// CollectionRow is a collection as people see it. What its members have in common is erasable and stands in no listing: Group
// tells groups apart.
type CollectionRow struct {
	ID       int64      `json:"id"`
	Pipeline string     `json:"pipeline"`
	Source   string     `json:"source"`
	Group    string     `json:"group"`    // the same for all revisions
	Revision int        `json:"revision"` // 0 is the first
	State    string     `json:"state"`    // open or closed
	Members  int        `json:"members"`
	Held     int        `json:"held"`     // instances; of a revision of what came late alone, with those of the revisions before
	Expected int        `json:"expected"` // what it is closed with: by the archive's count, or the rules'; 0: nobody knows
	Marked   bool       `json:"marked"`   // its marker came
	First    time.Time  `json:"first_arrival"`
	Last     time.Time  `json:"last_arrival"`
	Due      time.Time  `json:"due"` // when it is closed, or was to be
	ClosedAt *time.Time `json:"closed_at"`
	Why      string     `json:"why"`      // what closed it, or will if nothing more comes
	Task     string     `json:"task"`     // public id; empty: there is none
	Asks     int        `json:"asks"`     // questions that were put to an archive
	AskedAt  *time.Time `json:"asked_at"` // when it said last how many there are
}

// CollectionFilter selects collections. Empty fields do not select; Limit 0 is no limit.
type CollectionFilter struct {
	Pipeline string
	State    string // open or closed
	Limit    int
}

// listHeldSQL counts where it matters: members are instances where no archive says how many there are.
const listHeldSQL = `(case when c.counted is null then c.arrivals else ` + heldHereSQL + ` end)::int`

const listCollectionsSQL = `
select c.id, c.pipeline, c.source, substr(encode(c.key_mac, 'hex'), 1, 12), c.revision, case when c.closed then 'closed' else 'open' end, c.arrivals, ` + listHeldSQL + `, coalesce(c.counted, c.expected, 0),
  c.marked, c.at, c.last_at, c.due, c.closed_at, c.reason, coalesce((select t.public_id from task t where t.collection = c.id and t.parent is null), ''), c.asks, c.asked_at
from collection c
where ($1 = '' or c.pipeline = $1) and ($2 = '' or c.closed = ($2 = 'closed')) and c.last_at is not null
order by c.id desc limit nullif($3, 0)`

// Collections lists collections, the newest first.
func (s *Store) Collections(ctx context.Context, f CollectionFilter) ([]CollectionRow, error) {
	rows, err := s.ask.Query(ctx, listCollectionsSQL, f.Pipeline, f.State, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("list collections: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[CollectionRow])
}

// CollectionOf finds the collection that a task, or one that it belongs to, was made from; ok is false if it was made from one
// arrival.
func (s *Store) CollectionOf(ctx context.Context, key int64) (c CollectionRow, ok bool, err error) {
	rows, err := s.ask.Query(ctx, `select c.id, c.pipeline, c.source, substr(encode(c.key_mac, 'hex'), 1, 12), c.revision, case when c.closed then 'closed' else 'open' end, c.arrivals, `+listHeldSQL+`, coalesce(c.counted, c.expected, 0),
		c.marked, c.at, coalesce(c.last_at, c.at), coalesce(c.due, c.at), c.closed_at, coalesce(c.reason, ''), '', c.asks, c.asked_at
		from task t join collection c on c.id = t.collection where t.id = $1`, key)
	if err == nil {
		var list []CollectionRow
		if list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[CollectionRow]); len(list) == 1 {
			return list[0], true, err
		}
	}
	if err != nil {
		return c, false, fmt.Errorf("read collection of task %d: %w", key, err)
	}
	return c, false, nil
}
