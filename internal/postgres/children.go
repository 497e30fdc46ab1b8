package postgres

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

//go:embed children.sql
var childrenSQL string

type childColumns struct {
	id, within  []int64 // by parent
	seq         []int32
	role, state []int16

	parent, ordinal, first, count []int32 // by child
	public, members               []string
}

func newChildColumns(writes []*gantry.Write) *childColumns {
	c := &childColumns{}
	for _, w := range writes {
		if w.Transition != nil && w.Transition.Divide != nil {
			c.add(w.Transition.Lease, w.Transition.Divide)
		}
	}
	return c
}

func (c *childColumns) empty() bool { return len(c.public) == 0 }

func (c *childColumns) add(l gantry.Lease, d *gantry.Division) {
	c.id, c.seq, c.within = append(c.id, int64(l.Task)), append(c.seq, l.Seq), append(c.within, micros(d.Within))
	c.role, c.state = append(c.role, int16(d.Role)), append(c.state, int16(d.State))
	for i, x := range d.Children {
		var first, count int32
		for j, s := range x.Members {
			if j == 0 {
				first = int32(s.First)
			}
			count += int32(s.End - s.First)
		}
		c.parent, c.ordinal = append(c.parent, int32(len(c.id))), append(c.ordinal, int32(i))
		c.first, c.count = append(c.first, first), append(c.count, count)
		c.public, c.members = append(c.public, x.PublicID), append(c.members, gantry.FormatSpans(x.Members))
	}
}

func (c *childColumns) args(w gantry.WorkerID) []any {
	return []any{int64(w), c.id, c.seq, c.role, c.state, c.within, c.parent, c.public, c.ordinal, c.first, c.count, c.members}
}

// Children reads the tasks that a task was divided into in its present leg, by role and ordinal.
func (s *Store) Children(ctx context.Context, parent gantry.TaskID) ([]gantry.ChildTask, error) {
	rows, err := s.pool.Query(ctx, `select t.id, t.public_id, t.role, t.ordinal, coalesce(h.state, t.final_state), coalesce(t.count, 0),
		coalesce(t.error_kind, 0), coalesce(t.error_code, ''), coalesce(t.error, ''), t.delivery
		from task t left join task_hot h on h.id = t.id where t.parent = $1 and t.leg = (select leg from task where id = $1) order by t.role, t.ordinal`, int64(parent))
	if err != nil {
		return nil, fmt.Errorf("read children of task %d: %w", parent, err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[gantry.ChildTask])
}

// MemberItems reads what a child is about: the items of the task at the top that are its members, and
// those that they lie in, in the order of their ids. owner is that task.
func (s *Store) MemberItems(ctx context.Context, child gantry.TaskID) (owner gantry.TaskID, items []gantry.Item, err error) {
	var top int64
	var leg int16
	var members string
	err = s.pool.QueryRow(ctx, `select coalesce(p.parent, p.id), t.leg, t.members::text
		from task t join task p on p.id = t.parent where t.id = $1`, int64(child)).Scan(&top, &leg, &members)
	if err != nil {
		return 0, nil, fmt.Errorf("read members of task %d: %w", child, err)
	}
	rows, err := s.pool.Query(ctx, memberItemsSQL, top, members, leg)
	if err != nil {
		return 0, nil, fmt.Errorf("read members of task %d: %w", child, err)
	}
	items, err = pgx.CollectRows(rows, scanItem)
	return gantry.TaskID(top), items, err
}

// memberItemsSQL: $1 task, $2 ranges of ids, $3 leg.
const memberItemsSQL = `
with recursive m(id, parent) as (
  select i.id, i.parent from unnest($2::text::int4multirange) r
  cross join lateral (select id, parent from item where task_id = $1 and leg = $3 and id >= lower(r) and id < upper(r)) i
  union
  select i.id, i.parent from m cross join lateral (select id, parent from item where task_id = $1 and leg = $3 and id = m.parent) i)
select ` + itemColumns + `
from (select id as member from m order by id) m
cross join lateral (select * from item where task_id = $1 and leg = $3 and id = m.member offset 0) i`
