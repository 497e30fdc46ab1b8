package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestStranded finds parts that are out although their task has ended, and lets go of them unless it was reopened.
func TestStranded(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(2)
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(b.limiter, 0, time.Minute)}})
	if list := must(b.Stranded(t.Context(), 10))(t); len(list) != 0 {
		t.Errorf("stranded while the task goes on: %+v", list)
	}
	if n := must(b.PartsOut(t.Context()))(t); len(n) != 1 || n[0] != (postgres.OutCount{Target: "pipeline:p", Parts: 1}) {
		t.Errorf("out: %+v", n)
	}
	if err := b.Land(t.Context(), postgres.Stranded{Task: task.Task, Part: out(b.limiter, 0, 0)}); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`select count(*) from part where status = 1`); n != 1 {
		t.Error("a part of a task that goes on was let go")
	}
	b.commit(b.worker, end(task, gantry.Failed))
	list := must(b.Stranded(t.Context(), 10))(t)
	if len(list) != 1 || list[0].Task != task.Task || list[0].Pipeline != b.pipeline || list[0].Out.Ticket != "t" || list[0].Out.For <= 0 {
		t.Fatalf("stranded: %+v", list)
	}
	if err := b.Land(t.Context(), list[0]); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`select count(*) from part where status = 0 and out_limiter is null and ticket is null and reason = 'abandoned'`); n != 1 {
		t.Error("it is still out")
	}
}
