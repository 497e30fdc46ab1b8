package audit_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// at puts a call for a part on record that was made at a moment and took so long.
func (b *bed) at(task gantry.Task, ordinal int32, op gantry.Op, made time.Time, took time.Duration) {
	b.t.Helper()
	in := &gantry.Intent{ID: gantry.NewIDs(func() time.Time { return made }, rand.Reader).New(), Lease: task.Lease, Boundary: gantry.AtProcessor, Op: op,
		Limiter: b.limiter, Pipeline: b.pipeline, Part: gantry.PartKey{Ordinal: ordinal}, Try: 1}
	b.commit(b.worker, &gantry.Write{Intent: in})
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Outcome: &gantry.Outcome{ID: in.ID, Task: task.Task, Limiter: b.limiter, Took: took}})
}

// TestPartsOutKeepTheirUnits: of two units, a part that is out has one until its answer comes, as a callback or fetched;
// to take the answer in needs none, nor a start.
func TestPartsOutKeepTheirUnits(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.task("x")
	from := time.Now().Add(-10 * time.Minute).Truncate(time.Millisecond)
	after := func(s float64) time.Time { return from.Add(time.Duration(s * float64(time.Second))) }
	short := 10 * time.Millisecond
	b.at(task, 0, gantry.OpSubmit, after(0), short)    // out until its callback
	b.at(task, 1, gantry.OpSubmit, after(1), short)    // out until it is fetched, beyond the hold of a minute
	b.at(task, 0, gantry.OpCallback, after(20), short) // taken in late
	b.at(task, 2, gantry.OpSubmit, after(10.1), short) // in place of the first
	b.at(task, 2, gantry.OpSubmit, after(90), short)   // again: when it was given up is not on record
	b.at(task, 3, gantry.OpProcess, after(30), short)  // in place of the third, by then perhaps given up
	b.at(task, 1, gantry.OpCollect, after(100), time.Minute)
	b.at(task, 1, gantry.OpCollect, after(100.2), time.Minute)
	b.at(task, 4, gantry.OpCollect, after(100.4), time.Minute)
	b.forge(`insert into callback(id, task_id, leg, stage, processor, ordinal, generation, try, status, verdict, size, sha)
		values ($1, $2, 0, 0, 0, 0, 0, 1, 1, 0, 0, '')`, gantry.NewIDs(func() time.Time { return after(10) }, rand.Reader).New(), int64(task.Task))
	want := audit.Usage{Target: "http://a", Units: 2, Rate: 4, Burst: 2, Calls: 5, AtOnce: 2, WithLost: 2, Starts: 1}
	b.limits(want)
	b.at(task, 5, gantry.OpProcess, after(5), short) // beside two that are out
	b.at(task, 6, gantry.OpProcess, after(98), short)
	b.at(task, 7, gantry.OpProcess, after(98), short) // beside one
	want.Calls, want.AtOnce, want.WithLost, want.Starts, want.Broken = 8, 3, 3, 2, 2
	want.Note = "the limit as it stands now; if it was higher before, that is not on record"
	b.limits(want, audit.RuleAtOnce, audit.RuleAtOnce)

	three, five := 3, 5.0
	if ok := must(b.SetLimit(t.Context(), "http://a", "me", postgres.Setting{Units: &three, Rate: &five}))(t); !ok {
		t.Fatal("no such limit")
	}
	want.Units, want.Rate, want.Broken, want.Note = 3, 5, 0, ""
	b.limits(want)
}
