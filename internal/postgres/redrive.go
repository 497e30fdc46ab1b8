package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
