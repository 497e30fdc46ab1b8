package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Redrive says what of a task, and of the tasks that it was divided into, is to be called again.
type Redrive struct {
	Task     gantry.TaskID
	Top      gantry.TaskID       // the task at the top of its family, as Ancestry has it
	Calls    []RedriveCall       // that may be selected
	Statuses []gantry.PartStatus // that are
	Within   time.Duration       // how long a task may infer
	Waiting  time.Duration       // how long one may wait for those that its media were divided among
	Priority int16
	By       string
	Dry      bool // nothing is changed
}

// RedriveCall is one processor of a stage, by its place in the stage's list, and how many parts of it.
type RedriveCall struct {
	Stage, Processor int16
	Parts            int
}

// Redriven is what a redrive came to, or would.
type Redriven struct {
	Refused    string        // why nothing was changed; empty if it was
	Generation int16         // of what is called again
	Calls      []RedriveCall // in the order of stages and processors
	Tasks      int           // that were put back: this one, and those that it was divided into or belongs to
	Anew       int           // of these, how many deliver under another prefix
}

// Ancestry says where a task stands among others.
type Ancestry struct {
	Top      gantry.TaskID // the task that was made of the input
	Parent   string        // public id of the task that waits for it; empty: none
	Role     gantry.Role
	Pipeline int32
	Run      bool // it belonged to one process alone
}

// Ancestry reads where a task stands among others.
func (s *Store) Ancestry(ctx context.Context, task gantry.TaskID) (a Ancestry, err error) {
	err = s.ask.QueryRow(ctx, `select coalesce(g.id, p.id, t.id), coalesce(p.public_id, ''), t.role, t.pipeline, t.run <> ''
		from task t left join task p on p.id = t.parent left join task g on g.id = p.parent where t.id = $1`, int64(task)).
		Scan(&a.Top, &a.Parent, &a.Role, &a.Pipeline, &a.Run)
	if err != nil {
		return a, fmt.Errorf("read ancestry of task: %w", err)
	}
	return a, nil
}

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

// livePartsSQL begins a statement on the parts that are selected, in their newest generation: $1 tasks, $2 stages and
// $3 their processors, $4 statuses.
const livePartsSQL = `
with live as (
  select distinct on (p.task_id, p.leg, p.stage, p.processor, p.ordinal) p.*
  from unnest($1::bigint[]) f(id) cross join lateral (select id, leg from task where id = f.id offset 0) t
  cross join lateral (select * from part p where p.task_id = t.id and p.leg = t.leg offset 0) p
  order by p.task_id, p.leg, p.stage, p.processor, p.ordinal, p.generation desc),
chosen as (
  select live.* from live join unnest($2::smallint[], $3::smallint[]) c(stage, processor) using (stage, processor)
  where live.status = any ($4::smallint[]) and (live.status <> 3 or live.reason is distinct from 'no_group'))`

const countPartsSQL = livePartsSQL + `
select c.task_id, c.stage, c.processor, count(*) from chosen c group by 1, 2, 3 order by 2, 3, 1`

// againSQL plans what is selected under a generation, $5. What a when left out is called now; all else is
// asked about again where what comes to its stage changed.
const againSQL = livePartsSQL + `
insert into part(task_id, leg, stage, processor, ordinal, generation, first, count, reason)
select task_id, leg, stage, processor, ordinal, $5, first, count, case when status <> 3 then 'redriven' end from chosen`

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
  join pipeline_version pv on pv.id = t.pipeline join arrival a on a.id = t.arrival
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

// errRefused ends a transaction that is not to change anything.
var errRefused = errors.New("refused")

// Redrive puts a task that has ended back to inferring, with what it was divided into and what it belongs to, and
// plans again what is selected under the family's next generation. Parts that are not selected stay answered.
func (s *Store) Redrive(ctx context.Context, r Redrive) (out Redriven, err error) {
	var lanes []string
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if lanes, err = s.redrive(ctx, tx, r, &out); err == nil && (r.Dry || out.Refused != "") {
			return errRefused
		}
		return err
	})
	switch {
	case errors.Is(err, errRefused):
		return out, nil
	case err == nil:
		err = s.Notify(ctx, strings.Join(lanes, ","))
	}
	if err != nil {
		return out, fmt.Errorf("redrive task: %w", err)
	}
	return out, nil
}

func (s *Store) redrive(ctx context.Context, tx pgx.Tx, r Redrive, out *Redriven) (lanes []string, err error) {
	f, refused, err := lockFamily(ctx, tx, r.Top, r.Task)
	if err != nil || refused != "" {
		out.Refused = refused
		return nil, err
	}
	if err := f.choose(ctx, tx, r, out); err != nil || out.Refused != "" {
		return nil, err
	}
	f.follow()
	put := f.putBack(r.Priority, func(m *member) time.Duration {
		m.state, m.other = int16(gantry.Inferring), true
		if m.open > 0 {
			return max(r.Within, r.Waiting)
		}
		return r.Within
	})
	out.Tasks = len(put.id)
	if r.Dry {
		return nil, nil
	}
	ids, stages, processors, statuses := f.selection(r)
	tag, err := tx.Exec(ctx, againSQL, ids, stages, processors, statuses, out.Generation)
	if err != nil {
		return nil, err
	}
	why := fmt.Sprintf("redrive %d of %d parts by %s", out.Generation, tag.RowsAffected(), r.By)
	n := 0
	if lanes, n, out.Anew, err = put.apply(ctx, tx, why); err == nil && n < out.Tasks {
		out.Refused = "its source is not served any more"
	}
	return lanes, err
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

// selection gives the arguments that say which parts are selected.
func (f family) selection(r Redrive) (ids []int64, stages, processors, statuses []int16) {
	for _, m := range f.list {
		if m.named {
			ids = append(ids, m.id)
		}
	}
	for _, c := range r.Calls {
		stages, processors = append(stages, c.Stage), append(processors, c.Processor)
	}
	for _, x := range r.Statuses {
		statuses = append(statuses, int16(x))
	}
	return ids, stages, processors, statuses
}

// choose finds out which parts are selected, and of which tasks.
func (f family) choose(ctx context.Context, tx pgx.Tx, r Redrive, out *Redriven) error {
	ids, stages, processors, statuses := f.selection(r)
	rows, err := tx.Query(ctx, countPartsSQL, ids, stages, processors, statuses)
	if err != nil {
		return err
	}
	var task int64
	var stage, processor int16
	var n int
	_, err = pgx.ForEachRow(rows, []any{&task, &stage, &processor, &n}, func() error {
		m := f.by[task]
		if m.selected == 0 || stage < m.first {
			m.first = stage
		}
		m.selected += n
		if k := len(out.Calls); k > 0 && out.Calls[k-1].Stage == stage && out.Calls[k-1].Processor == processor {
			out.Calls[k-1].Parts += n
		} else {
			out.Calls = append(out.Calls, RedriveCall{stage, processor, n})
		}
		return nil
	})
	if err == nil && len(out.Calls) == 0 {
		out.Refused = "it has no such part"
	}
	if err != nil || out.Refused != "" {
		return err
	}
	last, err := f.generation(ctx, tx)
	out.Generation = last + 1
	return err
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

// follow finds out which tasks are put back: those with selected parts, those that wait for them, and of these the
// shards that did not end well, since nothing goes on without them.
func (f family) follow() {
	for _, m := range slices.Backward(f.list) {
		m.again = m.again || m.selected > 0
		if p := f.by[m.parent]; m.again && p != nil {
			p.again = true
		}
	}
	inferring := int16(gantry.Inferring)
	for _, m := range f.list {
		p := f.by[m.parent]
		if !m.again && p != nil && p.again && m.role == int16(gantry.Shard) && m.final != int16(gantry.Done) {
			m.again = true
		}
		if m.again && (m.selected == 0 || m.final != int16(gantry.Done) && m.state == inferring && m.stage < m.first) {
			m.first = m.stage // what it stopped at is not before this
		}
		if m.again && m.state < inferring {
			m.first = 0
		}
	}
	for _, m := range slices.Backward(f.list) {
		switch p := f.by[m.parent]; {
		case !m.again || p == nil:
		case m.role == int16(gantry.Shard):
			p.first = min(p.first, m.first)
		default:
			p.first = 0 // it passes its stages by
		}
	}
}

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
