package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestAnswerWhilePaused: an answer that comes while its task is paused is taken in when the task is resumed, not when the
// pause that it was parked for is over.
func TestAnswerWhilePaused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, answered := range []bool{false, true} {
		task := b.planned(1)
		b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(b.limiter, 0, time.Hour)}})
		b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: task.Lease, From: task.State, To: task.State, Change: gantry.Park,
			After: time.Hour, Heard: 1}})
		if err := b.Pause(t.Context(), task.Task, "tester", ""); err != nil {
			t.Fatal(err)
		}
		if answered {
			b.take(b.received(task, 0, 1, gantry.CallbackDone), gantry.CallbackAccepted)
		}
		if p := b.phase(task.Task); p != gantry.Paused {
			t.Errorf("answered %t: the task is %s while it is paused", answered, p)
		}
		if !must(b.Resume(t.Context(), task.Task, "tester"))(t) {
			t.Fatal("not resumed")
		}
		want := gantry.Delayed
		if answered {
			want = gantry.Ready
		}
		if p := b.phase(task.Task); p != want {
			t.Errorf("answered %t: the task is %s once it is resumed, want %s", answered, p, want)
		}
	}
}

// TestMovedPartsAreStranded: nobody waits for a part of an earlier leg, nor for one that a redrive took the place of,
// though its task goes on.
func TestMovedPartsAreStranded(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(2)
	b.commit(b.worker, &gantry.Write{Intent: &gantry.Intent{ID: b.ids.New(), Lease: task.Lease, Boundary: gantry.AtProcessor, Op: gantry.OpSubmit, Pipeline: b.pipeline,
		Limiter: b.limiter, Part: gantry.PartKey{Ordinal: 1}, Try: 1}})
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(b.limiter, 0, time.Hour), out(b.limiter, 1, time.Hour)}})
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: task.Lease, From: task.State, To: task.State, Change: gantry.Park, After: time.Hour}})
	if list := must(b.Stranded(t.Context(), 10))(t); len(list) != 0 {
		t.Fatalf("stranded while the task waits for them: %+v", list)
	}
	to := b.elsewhere()
	if err := b.Move(t.Context(), task.Task, to, "tester"); err != nil {
		t.Fatal(err)
	}
	list := must(b.Stranded(t.Context(), 10))(t)
	if len(list) != 2 {
		t.Fatalf("stranded: %+v, want two of the leg before", list)
	}
	for _, x := range list {
		if x.Ordinal == 1 && x.Pipeline != b.pipeline {
			t.Errorf("it is to be abandoned at pipeline %d, and was submitted by %d", x.Pipeline, b.pipeline)
		}
		if err := b.Land(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.count(`select count(*) from part where out_limiter is not null`); n != 0 {
		t.Errorf("%d of an earlier leg hold a unit", n)
	}

	task = b.planned(1)
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(b.limiter, 0, time.Hour)}})
	b.finish(task, gantry.Failed, 0)
	if r := b.redrive(task, gantry.PartOut); r.Refused != "" {
		t.Fatal(r.Refused)
	}
	list = must(b.Stranded(t.Context(), 10))(t)
	if len(list) != 1 || list[0].Task != task.Task || list[0].Generation != 0 {
		t.Fatalf("stranded: %+v, want the one that is called again", list)
	}
	if err := b.Land(t.Context(), list[0]); err != nil {
		t.Fatal(err)
	}
	b.take(b.received(task, 0, 1, gantry.CallbackDone), gantry.CallbackLate)
}
