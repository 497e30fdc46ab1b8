package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestFencesOfLeaving: neither a move nor a pause lands for whoever lost the task. The controls are the statements
// without one of their guards, which land.
func TestFencesOfLeaving(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	to := b.elsewhere()
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	other := b.register(time.Minute)
	args := map[string]func(w gantry.WorkerID, seq int32) []any{
		"move.sql": func(w gantry.WorkerID, seq int32) []any {
			return []any{int64(w), []int64{int64(task.Task)}, []int32{seq}, []int16{0}, []int16{0}, []int32{to.Pipeline}, []int32{to.Lane}, []int64{1}, []int16{0}, []string{""}, []string{""}}
		},
		"pause.sql": func(w gantry.WorkerID, seq int32) []any {
			return []any{int64(w), []int64{int64(task.Task)}, []int32{seq}, []int16{0}, []int16{0}}
		},
	}
	lands := func(sql string, args []any) (n int) {
		t.Helper()
		tx := must(b.Pool().Begin(t.Context()))(t)
		defer tx.Rollback(context.Background())
		rows := must(tx.Query(t.Context(), sql, args...))(t)
		return len(must(pgx.CollectRows(rows, pgx.RowTo[int64]))(t))
	}
	for file, with := range args {
		sql := readSQL(t, file)
		if n := lands(sql, with(b.worker, task.Seq)); n != 1 {
			t.Errorf("%s does not land for the owner", file)
		}
		for guard, who := range map[string]struct {
			w   gantry.WorkerID
			seq int32
		}{" and h.seq = i.seq": {b.worker, task.Seq - 1}, " and h.owner = $1": {other, task.Seq}} {
			if n := lands(sql, with(who.w, who.seq)); n != 0 {
				t.Errorf("%s lands in spite of%s", file, guard)
			}
			without := strings.Replace(sql, guard, "", 1)
			if n := lands(without, with(who.w, who.seq)); without == sql || n != 1 {
				t.Errorf("%s without%s does not land: the control proves nothing", file, guard)
			}
		}
	}
}

// crew works on tasks as processes do, and obeys.
type crew struct {
	*bed
	lanes []gantry.Want
	left  func() int
}

// work claims, does a random thing to what it holds, and obeys, until nothing is left.
func (c *crew) work(ctx context.Context, rnd *rand.Rand) error {
	w := c.register(time.Minute)
	for ctx.Err() == nil && c.left() > 0 {
		tasks, err := c.Claim(ctx, w, c.lanes)
		if err != nil {
			return err
		}
		orders, err := c.Obey(ctx, w)
		if err != nil {
			return err
		}
		asked := map[gantry.TaskID]gantry.Command{}
		for _, o := range orders {
			asked[o.Task] = o
		}
		var writes []*gantry.Write
		for _, t := range tasks {
			tr := &gantry.Transition{Lease: t.Lease, From: t.State, To: t.State, Change: gantry.Change(1 + rnd.IntN(3)), After: time.Millisecond, Parent: t.Parent}
			switch o, ok := asked[t.Task]; {
			case ok && o.Verb == gantry.VerbCancel:
				tr.To, tr.Change = gantry.Cancelled, gantry.End
			case ok && o.Verb == gantry.VerbMove:
				tr.To, tr.Change, tr.Passage = gantry.Queued, gantry.Move, &o.To
			case ok && o.Verb == gantry.VerbPause:
				tr.Change = gantry.Pause
			case rnd.IntN(8) == 0:
				tr.To, tr.Change = gantry.Done, gantry.End
			case t.Parent == 0 && rnd.IntN(5) == 0:
				tr.Change, tr.Divide = gantry.Wait, &gantry.Division{Role: gantry.Shard, State: t.State, Within: time.Hour}
				for i := range 3 {
					id := gantry.PublicID([]byte(t.PublicID), fmt.Sprint(t.Seq, i))
					tr.Divide.Children = append(tr.Divide.Children, gantry.Child{PublicID: id, Members: []gantry.Span{{First: 1, End: 2}}})
				}
			}
			writes = append(writes, &gantry.Write{Transition: tr})
		}
		landed, err := c.Commit(ctx, w, writes)
		if err != nil {
			return err
		}
		for i, ok := range landed {
			if !ok {
				return errors.New("a transition of the owner was fenced: " + writes[i].Transition.To.String())
			}
		}
		if _, _, err := c.Promote(ctx, 100); err != nil {
			return err
		}
	}
	return nil
}

// operate moves, pauses and resumes tasks at random for a while, then resumes all.
func (c *crew) operate(ctx context.Context, rnd *rand.Rand, ids []gantry.TaskID, to gantry.Passage) error {
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end) && c.left() > 0; {
		id := ids[rnd.IntN(len(ids))]
		var err error
		switch rnd.IntN(4) {
		case 0:
			err = c.Move(ctx, id, to, "tester")
		case 1, 2:
			err = c.Pause(ctx, id, "tester", "")
		default:
			_, err = c.Resume(ctx, id, "tester")
		}
		if err != nil {
			return err
		}
	}
	for _, id := range ids {
		if _, err := c.Resume(ctx, id, "tester"); err != nil {
			return err
		}
	}
	return nil
}

// TestRepairsUnderWay lets operators at tasks while processes work on them: no statement waits for another for
// ever, nothing of an owner is fenced, every task ends, and its record is one chain.
func TestRepairsUnderWay(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	to := b.elsewhere()
	b.enqueue(40)
	var ids []gantry.TaskID
	rows := must(b.Pool().Query(t.Context(), `select id from task`))(t)
	for _, id := range must(pgx.CollectRows(rows, pgx.RowTo[int64]))(t) {
		ids = append(ids, gantry.TaskID(id))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c := &crew{bed: b, lanes: []gantry.Want{{Lane: b.lane, N: 5}, {Lane: to.Lane, N: 5}}, left: func() int { return b.count(`select count(*) from task_hot`) }}
	var g sync.WaitGroup
	for i := range uint64(3) {
		g.Go(func() {
			if err := c.work(ctx, rand.New(rand.NewPCG(1, i))); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range uint64(2) {
		g.Go(func() {
			if err := c.operate(ctx, rand.New(rand.NewPCG(2, i)), ids, to); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	if n := b.count(`select count(*) from task where final_state is null`) + b.count(`select count(*) from command where done_at is null`) + b.count(`select count(*) from task_pause`); n != 0 {
		t.Errorf("%d tasks, commands and pauses are left", n)
	}
	if n := b.count(`select count(*) from (select from_state, leg, lag(to_state, 1, 0::smallint) over w as was, lag(leg, 1, 0::smallint) over w as before, change
		from task_event e where exists (select from task t where t.id = e.task_id and t.parent is null)
		window w as (partition by task_id order by seq)) x where from_state <> was or leg <> before + (change = 6)::int`); n != 0 {
		t.Errorf("%d events do not follow from the one before", n)
	}
	moves, pauses := b.count(`select count(*) from task_event where change = 6`), b.count(`select count(*) from task_event where change = 7`)
	if moves < 10 || pauses < 10 {
		t.Errorf("%d moves, %d pauses", moves, pauses)
	}
	if n := b.count(`select count(*) from (select sum(case change when 7 then 1 when 12 then -1 else 0 end) as open
		from task_event e join task t on t.id = e.task_id where t.final_state <> 7 group by t.id) x where open <> 0`); n != 0 {
		t.Errorf("%d tasks are done whose pauses do not all have an end", n)
	}
	t.Logf("%d moves, %d pauses, %d children, %d of them cancelled", moves, pauses, b.count(`select count(*) from task where parent is not null`),
		b.count(`select count(*) from task where final_state = 7`))
}
