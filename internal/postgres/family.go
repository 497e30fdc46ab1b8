package postgres

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// kinSQL locks a task with all that it was divided into in its present leg, parents before their children. $1 the task at the top.
const kinSQL = `
with recursive tree as (
  select t.id, t.leg, 0 as depth from task t where t.id = $1
  union all
  select k.id, k.leg, tree.depth + 1 from tree cross join lateral (select id, leg from task where parent = tree.id and leg = tree.leg offset 0) k),
f as materialized (
  select t.* from (select id, depth from tree order by id) x
  cross join lateral (select t.id, x.depth, coalesce(t.parent, 0) as parent, t.role, coalesce(t.final_state, -1) as final, t.leg
                      from task t where t.id = x.id for no key update of t) t)
select f.id, f.parent, f.role, f.final, coalesce(e.from_state, 0), coalesce(e.stage, 0)
from f left join lateral (select from_state, stage from task_event where task_id = f.id order by seq desc limit 1) e on true
order by f.depth, f.id`

// member is one task of a family.
type member struct {
	id, parent  int64
	role, final int16
	state       int16 // that it ended in
	stage       int16

	named    bool  // it is the one that was named, or was divided off it
	selected int   // parts
	first    int16 // the first stage that it has a selected part of
	again    bool  // it is put back
	open     int   // children that are
	other    bool  // it is going to deliver something else
}

// family is a task at the top with all that it was divided into.
type family struct {
	list []*member // parents before their children
	by   map[int64]*member
}

func lockFamily(ctx context.Context, tx pgx.Tx, top, named gantry.TaskID) (f family, refused string, err error) {
	rows, err := tx.Query(ctx, kinSQL, int64(top))
	if err != nil {
		return f, "", err
	}
	f.list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*member, error) {
		m := &member{}
		return m, row.Scan(&m.id, &m.parent, &m.role, &m.final, &m.state, &m.stage)
	})
	f.by = map[int64]*member{}
	for _, m := range f.list {
		f.by[m.id] = m
		m.named = m.id == int64(named) || f.by[m.parent] != nil && f.by[m.parent].named
		if m.final < 0 {
			refused = "it has not ended"
			if m.id != int64(named) {
				refused = "a task that it was divided into, or belongs to, has not ended"
			}
		}
	}
	return f, refused, err
}

// generation is that of the family's last redrive; 0 if there was none.
func (f family) generation(ctx context.Context, tx pgx.Tx) (n int16, err error) {
	var all []int64
	for _, m := range f.list {
		all = append(all, m.id)
	}
	err = tx.QueryRow(ctx, `select coalesce(max(p.generation), 0) from unnest($1::bigint[]) f(id)
		cross join lateral (select generation from part where task_id = f.id offset 0) p`, all).Scan(&n)
	return n, err
}

// putBackSQL puts tasks that have ended back into a state, in the lane of their source. Deaths of processes are
// counted on. By task: $1 id, $2 state, $3 stage, $4 children that are put back too, $5 within (us), $6 priority, $7
// whether it is going to deliver something else: if it gave anything to a sink, that needs another prefix; $8 why.
const putBackSQL = `
with r as materialized (
  select * from unnest($1::bigint[], $2::smallint[], $3::smallint[], $4::int[], $5::bigint[], $6::smallint[], $7::bool[])
    as r(id, state, stage, open, within_us, priority, other)),
e as materialized (
  select r.*, t.leg, t.final_state, t.role, t.delivery, l.seq + 1 as seq, lane.id as lane,
    (select count(*) from task_event x where x.task_id = t.id and x.change = 9)::smallint as crashes,
    (r.other and t.role <> 1 and exists (select from call_intent i where i.task_id = t.id and i.boundary = 2 and i.generation = t.delivery
      and not exists (select from call_outcome o where o.task_id = i.task_id and o.id = i.id and o.result = 2)))::int as anew
  from r cross join lateral (select * from task where id = r.id offset 0) t
  join pipeline_version pv on pv.id = t.pipeline
  cross join lateral (select coalesce((select source from arrival where id = t.arrival), (select source from collection where id = t.collection)) as source) a
  join lateral (select id from lane l where l.pipeline = pv.name and l.private_worker is null
    and (l.source = split_part(a.source, '/', 2) or t.leg > 0 and l.source = '(moved)') order by l.source <> '(moved)' desc limit 1) lane on true
  join lateral (select seq from task_event where task_id = t.id order by seq desc limit 1) l on true),
t as (
  update task set final_state = null, finished_at = null, error_code = null, error_kind = null, error = null, delivery = e.delivery + e.anew
  from e where task.id = e.id),
c as (
  update command c set done_at = clock_timestamp(), result = 'ended' from e where c.task_id = e.id and c.done_at is null),
v as (
  insert into task_event(task_id, seq, leg, from_state, to_state, stage, attempt, worker, change, detail)
  select id, seq, leg, final_state, state, stage, 0, 0, 8, $8 from e),
h as (
  insert into task_hot(id, seq, state, phase, stage, leg, crashes, priority, lane, state_until, open_children)
  select id, seq, state, case when open > 0 then 3 else 0 end, stage, leg, crashes, priority, lane, now() + within_us * interval '1 us', open from e)
select lane, anew from e`

// putBack is the arguments of putBackSQL.
type putBack struct {
	id, within             []int64
	state, stage, priority []int16
	open                   []int32
	other                  []bool
}

// putBack lists the tasks that are put back. within says how long each may stay in its state; children go before others.
func (f family) putBack(priority int16, within func(*member) time.Duration) (p putBack) {
	for _, m := range f.list {
		if up := f.by[m.parent]; m.again && up != nil {
			up.open++
		}
	}
	for _, m := range f.list {
		if !m.again {
			continue
		}
		n := priority
		if m.parent != 0 {
			n = max(n-1, 0)
		}
		p.within = append(p.within, micros(within(m)))
		p.id, p.state, p.stage = append(p.id, m.id), append(p.state, m.state), append(p.stage, m.first)
		p.open, p.priority, p.other = append(p.open, int32(m.open)), append(p.priority, n), append(p.other, m.other)
	}
	return p
}

// apply puts the tasks back, n of them, and gives the lanes in which there is work now. anew counts those that
// get another prefix.
func (p putBack) apply(ctx context.Context, tx pgx.Tx, why string) (lanes []string, n, anew int, err error) {
	rows, err := tx.Query(ctx, putBackSQL, p.id, p.state, p.stage, p.open, p.within, p.priority, p.other, why)
	if err != nil {
		return nil, 0, 0, err
	}
	var lane, other int
	_, err = pgx.ForEachRow(rows, []any{&lane, &other}, func() error {
		n, anew = n+1, anew+other
		lanes = []string{strconv.Itoa(lane)} // it is the same of all
		return nil
	})
	return lanes, n, anew, err
}
