package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestDelivered knows a task that is done from one that is under way, failed or was filtered.
func TestDelivered(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(4)
	tasks := b.claim(b.worker, 4)
	if len(tasks) != 4 {
		t.Fatalf("claimed %d", len(tasks))
	}
	end := func(x gantry.Task, to gantry.State, code gantry.Code) {
		b.commit(b.worker, &gantry.Write{Lease: x.Lease, Transition: &gantry.Transition{Lease: x.Lease, From: x.State, To: to, Change: gantry.End,
			Within: time.Minute, Code: code, Kind: gantry.Illegal}})
	}
	end(tasks[1], gantry.Done, "")
	end(tasks[2], gantry.Failed, gantry.CodeEmpty)
	end(tasks[3], gantry.Done, gantry.CodeFiltered)
	for i, want := range []bool{false, true, false, false} {
		got, ok, err := b.Delivered(t.Context(), tasks[i].PublicID)
		if err != nil || ok != want || got.Task != tasks[i].Task || got.PublicID != tasks[i].PublicID || got.Pipeline != b.pipeline || got.State != gantry.Responding {
			t.Errorf("task %d: %+v, %t, %v", i, got, ok, err)
		}
		row, err := b.TaskByID(t.Context(), tasks[i].PublicID)
		if err != nil || row.Key != int64(tasks[i].Task) {
			t.Errorf("task %d: %+v, %v", i, row, err)
		}
	}
	for _, id := range []string{"", "none", tasks[1].PublicID[:10], tasks[1].PublicID + "x", "%"} {
		if _, _, err := b.Delivered(t.Context(), id); gantry.KindOf(err) != gantry.NotFound || gantry.CodeOf(err) != postgres.CodeNoTask {
			t.Errorf("%q: %v", id, err)
		}
		if _, err := b.TaskByID(t.Context(), id); gantry.CodeOf(err) != postgres.CodeNoTask {
			t.Errorf("%q: %v", id, err)
		}
	}
}
