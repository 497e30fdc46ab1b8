package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestOriginals gives the members of a collection in the order of their names.
func TestOriginals(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(3)
	tasks := b.claim(b.worker, 3)
	var ids []int64
	for i, x := range tasks {
		one := must(b.Originals(t.Context(), x.Task))(t)
		if len(one) != 1 || one[0].ID == 0 || one[0].RefMAC.IsZero() || one[0].Collection != 0 {
			t.Fatalf("task %d: %+v", i, one)
		}
		ids = append(ids, one[0].ID)
		b.exec(`update arrival set name = $2 where id = $1`, one[0].ID, []string{"c", "B", "a"}[i])
	}
	b.exec(`insert into collection(pipeline, key_mac) values ('p', '\x01')`)
	b.exec(`insert into collection_member select c.id, x from collection c, unnest($1::bigint[]) x`, ids)
	b.exec(`update task set arrival = null, collection = (select max(id) from collection) where id = $1`, int64(tasks[0].Task))
	var names string
	for _, a := range must(b.Originals(t.Context(), tasks[0].Task))(t) {
		if names += a.Name; a.Collection == 0 {
			t.Error("it is no member")
		}
	}
	if names != "Bac" {
		t.Errorf("members %s", names)
	}
	b.exec(`update task set collection = null where id = $1`, int64(tasks[0].Task))
	if _, err := b.Originals(t.Context(), tasks[0].Task); err == nil {
		t.Error("a task of nothing has originals")
	}
}

// TestTurnAway keeps what no task is made from, once.
func TestTurnAway(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "v", Name: "x.png", Size: 3,
		Status: gantry.Unmatched, Reason: "no_rule"}
	again := a
	again.ID, again.Status = must(b.ArrivalIDs(t.Context(), 1))(t)[0], gantry.Ignored
	for _, list := range [][]gantry.Arrival{{a}, {a, again}, nil} {
		if _, err := b.TurnAway(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.count(`select count(*) from arrival where source = 'p/in'`); n != 1 {
		t.Errorf("%d rows", n)
	}
	if n := b.count(`select count(*) from arrival where source = 'p/in' and status = $1 and reason = 'no_rule'`, int16(gantry.Unmatched)); n != 1 {
		t.Error("not as it was first")
	}
}

// TestMemberPutBack has the version of a file that came last as the member, also where that version is a member of a revision that is
// closed.
func TestMemberPutBack(t *testing.T) {
	t.Parallel()
	put := func(w *ward, path, sequencer string) {
		x := w.file(path)
		x.Arrival.Sequencer = sequencer
		must(w.Gather(t.Context(), []gantry.Gathering{x}))(t)
	}
	versions := func(w *ward) (out []string) {
		for _, c := range must(w.CloseDue(t.Context(), 10, publicID))(t) {
			for _, a := range w.originals(c.Task) {
				out = append(out, a.Name+"@"+a.Version)
			}
		}
		return out
	}
	for _, before := range []bool{false, true} {
		w := newWard(t, gantry.Collect{Quiet: time.Minute})
		put(w, "f/1@A", "A-1")
		put(w, "f/2@X", "X-1")
		if before { // a revision is closed meanwhile
			w.pass(2 * time.Minute)
			if got := versions(w); len(got) != 2 {
				t.Fatal(got)
			}
		}
		put(w, "f/1@B", "B-2")
		put(w, "f/1@A", "A-3")
		w.pass(2 * time.Minute)
		got := versions(w)
		t.Logf("closed before: %v: %v", before, got)
		if len(got) != 2 || got[0] != "1@A" && got[1] != "1@A" {
			t.Errorf("closed before: %v: the task is of %v, the bucket has 1@A", before, got)
		}
	}
}
