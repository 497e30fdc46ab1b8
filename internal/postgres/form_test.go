package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestForms commits as many calls at once as each form of the statement takes, one of them fenced, and finds of the
// others all that was written.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, n := range []int32{1, 2, 64, 65} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.enqueue(1)
			lease := b.claim(b.worker, 1)[0].Lease
			b.plan(lease, 0)
			var intents, ends []*gantry.Write
			for k := range n {
				w := b.callWrites(lease, k+1, bytes.Repeat([]byte{byte(k)}, int(k)+1))
				w[1].Items[0].Name = [...]string{"", "a name"}[k%2]
				w[1].Items[0].Location = fmt.Sprintf("seg/%d", k)
				intents, ends = append(intents, w[0]), append(ends, w[1])
			}
			late := b.callWrites(gantry.Lease{Task: lease.Task, Seq: lease.Seq - 1}, n+1, nil)
			for i, batch := range [][]*gantry.Write{append(intents, late[0]), append(ends, late[1])} {
				if n == 1 { // alone, or it would not be in the form of one row
					if landed := b.commit(b.worker, batch[1]); landed[0] {
						t.Error("a write of a lost lease landed")
					}
					batch = batch[:1]
				}
				for k, ok := range b.commit(b.worker, batch...) {
					if ok != (k < int(n)) {
						t.Errorf("batch %d: write %d landed %t", i, k, ok)
					}
				}
			}
			b.checkCalls(lease.Task, n)
		})
	}
}

// checkCalls compares what is in the database of n calls with what TestForms wrote.
func (b *bed) checkCalls(task gantry.TaskID, n int32) {
	b.t.Helper()
	const q = `select p.ordinal, p.status, length(x.body), get_byte(x.body, 0), coalesce(x.name, ''), x.location, x.size, i.worker, i.try, o.status, o.result, o.resp_size
		from part p join item x on x.task_id = p.task_id and x.part = p.ordinal join call_intent i on i.task_id = p.task_id and i.part = p.ordinal
		join call_outcome o on o.task_id = i.task_id and o.id = i.id where p.task_id = $1 order by p.ordinal`
	rows := must(b.Pool().Query(b.t.Context(), q, int64(task)))(b.t)
	got := must(pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		all, err := r.Values()
		return fmt.Sprint(all...), err
	}))(b.t)
	if len(got) != int(n) {
		b.t.Fatalf("%d calls are whole, want %d", len(got), n)
	}
	for k, g := range got {
		want := fmt.Sprint(int32(k+1), int16(2), int32(k+1), int32(k), [...]string{"", "a name"}[k%2], fmt.Sprintf("seg/%d", k), int64(k+1),
			int64(b.worker), int16(1), int32(200), int16(0), int64(k+1))
		if g != want {
			b.t.Errorf("call %d is %s, want %s", k+1, g, want)
		}
	}
	var fenced int
	if err := b.Pool().QueryRow(b.t.Context(), `select count(*) from call_outcome where task_id = $1 and result = 3`, int64(task)).Scan(&fenced); err != nil || fenced != 1 {
		b.t.Errorf("%d outcomes are marked as fenced (%v), want 1", fenced, err)
	}
}

// TestWhatLocksTheProcess: an intent waits for nobody who takes its process off the books, and locks nothing; what effects found and how
// calls ended waits, and so cannot land after that.
func TestWhatLocksTheProcess(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	lease := b.claim(b.worker, 1)[0].Lease
	b.plan(lease, 0)
	w := b.callWrites(lease, 1, []byte("x"))
	tx := must(b.Pool().Begin(t.Context()))(t)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `select from worker where id = $1 for update`, int64(b.worker)); err != nil {
		t.Fatal(err)
	}
	if landed := b.commit(b.worker, w[0]); !landed[0] {
		t.Error("the intent did not land")
	}
	done := make(chan []bool, 1)
	go func() { done <- must(b.Commit(context.WithoutCancel(t.Context()), b.worker, []*gantry.Write{w[1]}))(t) }()
	b.whileWaiting()
	select {
	case <-done:
		t.Error("the outcome waited for nobody")
	default:
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if landed := <-done; !landed[0] {
		t.Error("the outcome did not land")
	}
}
