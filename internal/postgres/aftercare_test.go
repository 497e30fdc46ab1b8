package postgres_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// minded is a bed with one object in mind that tasks were made of, n of them.
func minded(t *testing.T, n int) (*bed, []gantry.Task, gantry.Arrival) {
	t.Helper()
	b := newBed(t)
	b.enqueue(n)
	tasks := b.claim(b.worker, n)
	a := must(b.Originals(t.Context(), tasks[0].Task))(t)[0]
	b.exec(`update task set arrival = $1`, a.ID)
	b.exec(`update arrival set sequencer = 's' where id = $1`, a.ID)
	if err := b.KeepInMind(t.Context(), a, "the mark", nil); err != nil {
		t.Fatal(err)
	}
	return b, tasks, a
}

// look makes all objects due and gives those that something is to be done with.
func (b *bed) look(a gantry.Arrival) []postgres.Aftercare {
	b.t.Helper()
	b.exec(`update aftercare set due = now() where due is not null`)
	list, _, err := b.DueAftercare(b.t.Context(), a.Source, 10, time.Minute)
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

func (b *bed) ending(t gantry.Task, as gantry.State) {
	b.t.Helper()
	b.exec(`update task set final_state = $2, finished_at = now() where id = $1`, int64(t.Task), int16(as))
}

// TestAftercareOfWhatIsToCome waits for collections that are open, since they are tasks to come, and for arrivals that are not
// everywhere yet where they are going.
func TestAftercareOfWhatIsToCome(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 1)
	b.ending(tasks[0], gantry.Done)
	b.exec(`update arrival set sequencer = null`)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("before it is known: %+v", got)
	}
	b.exec(`update arrival set sequencer = 's'`)
	b.exec(`with c as (insert into collection(pipeline, key_mac) values ('q', '\x07') returning id) insert into collection_member select id, $1 from c`, a.ID)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("while its collection is open: %+v", got)
	}
	b.exec(`update collection set closed = true`)
	if got := b.look(a); len(got) != 1 {
		t.Error("nothing is to be done in the end")
	}
}

// TestAftercare waits for the last of an object's tasks, children too, and is told once.
func TestAftercare(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 3)
	b.exec(`update task set parent = $1 where id = $2`, int64(tasks[0].Task), int64(tasks[2].Task))
	for i, x := range tasks {
		if got := b.look(a); len(got) != 0 {
			t.Errorf("before task %d ended: %+v", i, got)
		}
		b.ending(x, gantry.Done)
	}
	got := b.look(a)
	if len(got) != 1 || got[0].Arrival != a.ID || got[0].Mark != "the mark" || got[0].Ended != gantry.Done || got[0].Tries != 0 {
		t.Fatalf("%+v", got)
	}
	if again, more, err := b.DueAftercare(t.Context(), a.Source, 10, time.Minute); len(again) != 0 || more || err != nil {
		t.Errorf("it is the first caller's: %+v %v", again, err)
	}
	if again := b.look(a); len(again) != 1 {
		t.Error("whose caller died is not given again")
	}
	if err := b.Tended(t.Context(), got[0], "", 0); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`select count(*) from aftercare where due is null and mark is null and ended = 5`); n != 1 {
		t.Error("what is done is not put away")
	}
	if got := b.look(a); len(got) != 0 {
		t.Errorf("again: %+v", got)
	}
	if err := b.KeepInMind(t.Context(), a, "the mark", nil); err != nil {
		t.Fatal(err)
	}
	if got := b.look(a); len(got) != 1 {
		t.Error("what was put again is not minded again")
	}
}

// What failed is done with as such, and as done if it comes to that; what was cancelled, not at all.
func TestAftercareOfFailures(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 2)
	b.ending(tasks[0], gantry.Done)
	b.ending(tasks[1], gantry.Cancelled)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("cancelled: %+v", got)
	}
	b.ending(tasks[1], gantry.Failed)
	got := b.look(a)
	if len(got) != 1 || got[0].Ended != gantry.Failed {
		t.Fatalf("failed: %+v", got)
	}
	if err := b.Tended(t.Context(), got[0], "", 0); err != nil {
		t.Fatal(err)
	}
	if got := b.look(a); len(got) != 0 {
		t.Errorf("failed, a second time: %+v", got)
	}
	b.exec(`update task set final_state = null, finished_at = null where id = $1`, int64(tasks[1].Task))
	if got := b.look(a); len(got) != 0 {
		t.Errorf("redriven: %+v", got)
	}
	b.ending(tasks[1], gantry.Done)
	if got := b.look(a); len(got) != 1 || got[0].Ended != gantry.Done {
		t.Fatalf("done after all: %+v", got)
	}
}

// What could not be done is tried again, or never.
func TestAftercareTries(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 1)
	b.ending(tasks[0], gantry.Done)
	got := b.look(a)
	if err := b.Tended(t.Context(), got[0], "slow_down", time.Hour); err != nil {
		t.Fatal(err)
	}
	if list, _, err := b.DueAftercare(t.Context(), a.Source, 10, time.Minute); len(list) != 0 || err != nil {
		t.Errorf("before its time: %+v %v", list, err)
	}
	got = b.look(a)
	if len(got) != 1 || got[0].Tries != 1 {
		t.Fatalf("%+v", got)
	}
	if err := b.Tended(t.Context(), got[0], "access_denied", 0); err != nil {
		t.Fatal(err)
	}
	if got := b.look(a); len(got) != 0 {
		t.Errorf("after a refusal: %+v", got)
	}
	if n := b.count(`select count(*) from aftercare where code = 'access_denied' and mark is null`); n != 1 {
		t.Error("the refusal is not on record")
	}
}

// An object of a collection waits for the collection's task; one without any waits.
func TestAftercareOfCollections(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 1)
	b.exec(`update task set arrival = null`)
	b.exec(`insert into collection(pipeline, key_mac) values ('p', '\x01')`)
	b.exec(`insert into collection_member select id, $1 from collection`, a.ID)
	b.ending(tasks[0], gantry.Done)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("before the collection closed: %+v", got)
	}
	b.exec(`update collection set closed = true`)
	b.exec(`update task set collection = (select max(id) from collection)`)
	b.exec(`update collection set closed = true`)
	b.exec(`update aftercare set due = now() + interval '1 h'`)
	if err := b.TasksEnded(t.Context(), []gantry.TaskID{tasks[0].Task}); err != nil {
		t.Fatal(err)
	}
	list, more, err := b.DueAftercare(t.Context(), a.Source, 1, time.Minute)
	if len(list) != 1 || !more || err != nil {
		t.Errorf("%+v %v %v", list, more, err)
	}
}

// What is in an open collection too is not done with, though a task of it alone has ended: another pipeline's is to come, or
// the next revision.
func TestAftercareOfOpenCollections(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 2)
	b.exec(`update task set arrival = null where id = $1`, int64(tasks[1].Task))
	b.exec(`insert into collection(pipeline, key_mac) values ('q', '\x01')`)
	b.exec(`insert into collection_member select id, $1 from collection`, a.ID)
	b.ending(tasks[0], gantry.Done)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("while a collection holds it: %+v", got)
	}
	b.exec(`update collection set closed = true`)
	b.exec(`update task set collection = (select max(id) from collection) where id = $1`, int64(tasks[1].Task))
	if got := b.look(a); len(got) != 0 {
		t.Errorf("while the collection's task runs: %+v", got)
	}
	b.ending(tasks[1], gantry.Done)
	if got := b.look(a); len(got) != 1 {
		t.Errorf("in the end: %+v", got)
	}
}

// TestAftercarePlan: what is not due yet is not looked through, however much it is.
func TestAftercarePlan(t *testing.T) {
	t.Parallel()
	p := newPlans(t, true)
	p.exec(`insert into aftercare(source, ref_mac, version, mark, due) select 'p/in', int8send(n), 'v', 'm', now() + interval '1 h' from generate_series(1, 20000) n`)
	p.exec(`vacuum analyze aftercare`)
	plan := p.explain(postgres.AftercareSQL, "'p/in'", "64", "1000")
	if !regexp.MustCompile(`Index Cond: .*due <= now`).MatchString(plan) || regexp.MustCompile(`Rows Removed by Filter: \d{3}`).MatchString(plan) {
		t.Errorf("it looks through all that is not due:\n%s", plan)
	}
}

// An object whose arrival was never committed waits, and hurts nobody.
func TestAftercareWithoutArrival(t *testing.T) {
	t.Parallel()
	b, _, a := minded(t, 1)
	ghost := gantry.Arrival{Source: a.Source, RefMAC: gantry.Digest{9}, Version: "ghost"}
	if err := b.KeepInMind(t.Context(), ghost, "m", nil); err != nil {
		t.Fatal(err)
	}
	b.exec(`update aftercare set at = now() - interval '40 h'`)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if n := b.count(`select count(*) from aftercare where due between now() + interval '9 h' and now() + interval '1 d' and version = 'ghost'`); n != 1 {
		t.Error("it is looked at as often as ever")
	}
	if n := b.count(`select count(*) from aftercare where due < now() + interval '20 min' and version <> 'ghost'`); n != 1 {
		t.Error("one with an open task is looked at too seldom")
	}
}

// An object that one task was made of, and that belongs to a collection of another pipeline which is still open, waits for
// that one's task too: it may be read where it lies.
func TestAftercareOfAnOpenCollection(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 2)
	b.exec(`update task set arrival = null where id = $1`, int64(tasks[1].Task))
	b.exec(`insert into collection(pipeline, key_mac) values ('p', '\x01')`)
	b.exec(`insert into collection_member select id, $1 from collection`, a.ID)
	b.ending(tasks[0], gantry.Done)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("while the collection is open: %+v", got)
	}
	b.exec(`update collection set closed = true`)
	b.exec(`update task set collection = (select max(id) from collection) where id = $1`, int64(tasks[1].Task))
	if got := b.look(a); len(got) != 0 {
		t.Errorf("while the collection's task is open: %+v", got)
	}
	b.ending(tasks[1], gantry.Done)
	if got := b.look(a); len(got) != 1 || got[0].Ended != gantry.Done {
		t.Errorf("after both: %+v", got)
	}
}

// TestPutAgainWhileTended: what came of an object's former self says nothing of what was put again while that was tended.
func TestPutAgainWhileTended(t *testing.T) {
	t.Parallel()
	for _, code := range []gantry.Code{"", "denied"} {
		b, tasks, a := minded(t, 1)
		b.ending(tasks[0], gantry.Done)
		got := b.look(a)
		if len(got) != 1 {
			t.Fatal(got)
		}
		if err := b.KeepInMind(t.Context(), a, "another mark", nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Tended(t.Context(), got[0], code, 0); err != nil {
			t.Fatal(err)
		}
		if got := b.look(a); len(got) != 1 || got[0].Mark != "another mark" || got[0].Tries != 0 {
			t.Errorf("%q: what was put again is forgotten: %+v", code, got)
		}
	}
}
