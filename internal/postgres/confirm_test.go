package postgres_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

func (b *bed) asking(task gantry.Task, id string, try int16) gantry.Asking {
	return gantry.Asking{ID: id, Lease: task.Lease, Sink: 1, Try: try, Limiter: b.limiter, Count: 3, Names: gantry.Digest{9, byte(try)}}
}

func (b *bed) asked(task gantry.Task) (int32, []gantry.Asked) {
	b.t.Helper()
	count, list, err := b.Asked(b.t.Context(), task.Task, 0, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return count, list
}

// TestConfirmation goes through the life of a request.
func TestConfirmation(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	if count, list := b.asked(task); count != 0 || len(list) != 0 {
		t.Errorf("%d, %+v", count, list)
	}
	for range 2 { // the second time it is there
		if err := b.Ask(t.Context(), b.asking(task, "2.25.1", 0)); err != nil {
			t.Fatal(err)
		}
	}
	_, list := b.asked(task)
	want := gantry.Asked{Asking: b.asking(task, "2.25.1", 0)}
	want.Seq, want.Waited = 0, list[0].Waited
	if diff := cmp.Diff([]gantry.Asked{want}, list); diff != "" || list[0].Waited > 20*time.Second {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
	b.exec(`update confirmation set asked_at = asked_at - interval '1 hour'`)
	if _, list := b.asked(task); list[0].Waited < time.Hour {
		t.Errorf("waited %s", list[0].Waited)
	}
	if err := b.Taken(t.Context(), task.Lease, "2.25.1"); err != nil {
		t.Fatal(err)
	}
	if _, list := b.asked(task); !list[0].Taken || list[0].Waited > 20*time.Second {
		t.Errorf("taken: %+v", list[0])
	}
	failed := []gantry.Unconfirmed{{Name: gantry.Digest{1, 2}, Reason: 0x0112}, {Name: gantry.Digest{3}, Reason: 0x0110}}
	for _, kept := range []int32{1, 3} { // the first counts
		known, err := b.Confirmed(t.Context(), b.limiter, gantry.Answer{ID: "2.25.1", Kept: kept, Names: gantry.Digest{7, byte(kept)}, Failed: failed})
		if err != nil || !known {
			t.Fatal(known, err)
		}
	}
	count, list := b.asked(task)
	if diff := cmp.Diff(&gantry.Answer{ID: "2.25.1", Kept: 1, Names: gantry.Digest{7, 1}, Failed: failed}, list[0].Answer); diff != "" || count != 1 {
		t.Errorf("%d answers (-want +got):\n%s", count, diff)
	}
	if err := b.Ask(t.Context(), b.asking(task, "2.25.2", 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.GiveUp(t.Context(), task.Lease, 0, 0, 1); err != nil {
		t.Fatal(err)
	}
	if _, list := b.asked(task); len(list) != 2 || !list[0].Over || !list[1].Over || list[1].Try != 1 {
		t.Errorf("%+v", list)
	}
	if known, err := b.Confirmed(t.Context(), b.limiter, gantry.Answer{ID: "2.25.2", Kept: 3}); err != nil || !known {
		t.Error("an answer that came late is not kept", err)
	}
}

// TestConfirmationOfOthers takes no answer that nobody asked for, nor one of another server.
func TestConfirmationOfOthers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	if err := b.Ask(t.Context(), b.asking(task, "2.25.1", 0)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		limiter int32
		id      string
	}{{b.limiter, "2.25.2"}, {b.limiter, ""}, {b.limiter + 1, "2.25.1"}, {b.limiter, "2.25.1' or true"}} {
		if known, err := b.Confirmed(t.Context(), c.limiter, gantry.Answer{ID: c.id, Kept: 3}); known || err != nil {
			t.Errorf("%q of limiter %d: %v, %v", c.id, c.limiter, known, err)
		}
	}
	if count, list := b.asked(task); count != 0 || list[0].Answer != nil || b.count(`select count(*) from confirmation_answer`) != 0 {
		t.Errorf("%d, %+v", count, list)
	}
}

// TestConfirmationFenced lets a process that lost its lease change nothing.
func TestConfirmationFenced(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	if err := b.Ask(t.Context(), b.asking(task, "2.25.1", 0)); err != nil {
		t.Fatal(err)
	}
	b.exec(`update task_hot set seq = seq + 1`)
	if err := b.Ask(t.Context(), b.asking(task, "2.25.2", 1)); !errors.Is(err, gantry.ErrFenced) {
		t.Error(err)
	}
	if err := errors.Join(b.Taken(t.Context(), task.Lease, "2.25.1"), b.GiveUp(t.Context(), task.Lease, 0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if _, list := b.asked(task); len(list) != 1 || list[0].Taken || list[0].Over {
		t.Errorf("%+v", list)
	}
	b.exec(`delete from task_hot`)
	if _, _, err := b.Asked(t.Context(), task.Task, 0, 0); !errors.Is(err, gantry.ErrFenced) {
		t.Errorf("of a task that has ended: %v", err)
	}
}

// TestConfirmationWakes ends the wait of a parked task, whichever comes first, its park or the answer, and however many come at once.
func TestConfirmationWakes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, first := range []bool{true, false} {
		b.enqueue(1)
		task := b.claim(b.worker, 1)[0]
		id := map[bool]string{true: "2.25.1", false: "2.25.2"}[first]
		if err := b.Ask(t.Context(), b.asking(task, id, 0)); err != nil {
			t.Fatal(err)
		}
		heard, _ := b.asked(task)
		answer := func() {
			var wg sync.WaitGroup
			var known atomic.Int32
			for range 8 {
				wg.Go(func() {
					if ok, err := b.Confirmed(t.Context(), b.limiter, gantry.Answer{ID: id, Kept: 3}); err != nil {
						t.Error(err)
					} else if ok {
						known.Add(1)
					}
				})
			}
			wg.Wait()
			if known.Load() != 8 {
				t.Errorf("%d of 8 were known", known.Load())
			}
		}
		if first {
			answer()
		}
		b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: task.Lease, From: task.State, To: task.State, Change: gantry.Park, After: time.Hour, Heard: heard + 1}})
		if !first {
			answer()
		}
		if n := b.count(`select count(*) from task_hot where id = $1 and answers = 1 and phase = 2 and run_at <= now()`, int64(task.Task)); n != 1 {
			t.Errorf("answer first: %v: the task is not awake", first)
		}
	}
}

// TestConfirmationRecord lets nobody change an answer.
func TestConfirmationRecord(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	if err := b.Ask(t.Context(), b.asking(task, "2.25.1", 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Confirmed(t.Context(), b.limiter, gantry.Answer{ID: "2.25.1", Kept: 3}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{`update confirmation_answer set kept = 4`, `delete from confirmation_answer`, `truncate confirmation_answer`} {
		if _, err := b.Pool().Exec(t.Context(), q); err == nil {
			t.Errorf("%s was let pass", q)
		}
	}
}
