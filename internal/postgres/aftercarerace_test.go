package postgres_test

import (
	"context"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestTasksEndTogether: who waits for an object that another process holds has none that comes after it, so that processes whose
// tasks are of the same objects never wait for one another. The control locks them in another order.
func TestTasksEndTogether(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(2)
	var tasks []gantry.TaskID
	var ids []int64
	for _, x := range b.claim(b.worker, 2) {
		a := must(b.Originals(t.Context(), x.Task))(t)[0]
		if err := b.KeepInMind(t.Context(), a, "m", nil); err != nil {
			t.Fatal(err)
		}
		tasks, ids = append(tasks, x.Task), append(ids, int64(x.Task))
	}
	first, second := b.count(`select min(id) from aftercare`), b.count(`select max(id) from aftercare`)
	turned := strings.Replace(postgres.EndedSQL, "order by id for update", "order by id desc for update", 1)
	if turned == postgres.EndedSQL {
		t.Fatal("the statement is not written as this control expects")
	}
	for _, c := range []struct {
		name string
		free bool
		ends func(context.Context) error
	}{
		{"ordered", true, func(ctx context.Context) error { return b.TasksEnded(ctx, tasks) }},
		{"turned", false, func(ctx context.Context) error { _, err := b.Pool().Exec(ctx, turned, ids); return err }},
	} {
		b.exec(`update aftercare set due = now() + interval '1 h'`)
		tx := must(b.Pool().Begin(t.Context()))(t)
		defer tx.Rollback(context.WithoutCancel(t.Context()))
		if _, err := tx.Exec(t.Context(), `select from aftercare where id = $1 for update`, first); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- c.ends(context.WithoutCancel(t.Context())) }()
		b.whileWaiting()
		tag := must(tx.Exec(t.Context(), `select from aftercare where id = $1 for update skip locked`, second))(t)
		if free := tag.RowsAffected() == 1; free != c.free {
			t.Errorf("%s: the object that comes after is free: %t", c.name, free)
		}
		if err := tx.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := b.count(`select count(*) from aftercare where due <= clock_timestamp()`); n != 2 {
			t.Errorf("%s: %d objects are looked at", c.name, n)
		}
	}
}
