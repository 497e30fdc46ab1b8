package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestGatherBack: a file that is put again as it was before another state of it is the member, not that other one.
func TestGatherBack(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	first := w.file("a/1@A")
	first.Arrival.Sequencer = "A at 1"
	other := w.file("a/1@B")
	must(w.Gather(t.Context(), []gantry.Gathering{first, other}))(t)
	again := w.file("a/1@A")
	again.Arrival.Sequencer = "A at 1"
	if got := must(w.Gather(t.Context(), []gantry.Gathering{again}))(t); !got[0].Known {
		t.Errorf("an announcement that is late took the place of what came after it: %+v", got)
	}
	again.Arrival.Sequencer = "A at 3"
	if got := must(w.Gather(t.Context(), []gantry.Gathering{again}))(t); got[0].Known || got[0].Collection == 0 {
		t.Errorf("put again: %+v", got)
	}
	w.pass(time.Minute)
	w.wantClosed("0 quiet: 1")
	if n := w.count(`select count(*) from arrival a join collection_member m on m.arrival = a.id where a.version = 'A' and a.status = 0`); n != 1 {
		t.Error("the state that was put last is not the member")
	}
	if n := w.count(`select count(*) from arrival where version = 'B' and status = $1`, int16(gantry.Superseded)); n != 1 {
		t.Error("the state before it is not superseded")
	}
}

// TestGatherHalf: an arrival of several pipelines that came to one of them alone is announced again, is not done with, and comes
// to the other then, whatever became of it in the first.
func TestGatherHalf(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		w := newWard(t, gantry.Collect{Quiet: time.Minute, Late: gantry.LateIgnore})
		if late {
			w.gather("a/0")
			w.pass(time.Minute)
			w.wantClosed("0 quiet: 0")
		}
		half, x := w.file("a/1"), w.file("a/1")
		half.Arrival.Sequencer = ""
		must(w.Gather(t.Context(), []gantry.Gathering{half}))(t)
		if must(w.Decided(t.Context(), "p/in", x.Arrival.RefMAC, x.Arrival.Version, x.Arrival.Sequencer, 0))(t) || must(w.KnownAll(t.Context(), "p/in", 0, []gantry.Digest{x.Arrival.RefMAC}, []string{x.Arrival.Version}, []string{x.Arrival.Sequencer}))(t)[0] {
			t.Errorf("late %t: it is known before it came to all", late)
		}
		whole := x
		whole.Pipeline = "other"
		x.Arrival.Sequencer = ""
		got := must(w.Gather(t.Context(), []gantry.Gathering{x, whole}))(t)
		if got[0].Known != !late || got[1].Known || got[1].Collection == 0 || late && got[0].Status != gantry.Ignored {
			t.Errorf("late %t: %+v", late, got)
		}
		if !must(w.Decided(t.Context(), "p/in", x.Arrival.RefMAC, x.Arrival.Version, whole.Arrival.Sequencer, 0))(t) {
			t.Errorf("late %t: it is not known after it came to all", late)
		}
		if n := w.count(`select count(*) from arrival where ref_mac = $1 and status = 0`, x.Arrival.RefMAC[:]); n != 1 {
			t.Errorf("late %t: it is not accepted", late)
		}
	}
}

// TestAftercareOfHalf: what did not come to all its pipelines is left as it is, though those it came to are done.
func TestAftercareOfHalf(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 1)
	b.ending(tasks[0], gantry.Done)
	b.exec(`update arrival set sequencer = null`)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	b.exec(`update arrival set sequencer = 's'`)
	if got := b.look(a); len(got) != 1 {
		t.Errorf("in the end: %+v", got)
	}
}

// TestNamesBelowFolders: originals are called as they are below the folder of their own collection, whatever another calls them.
func TestNamesBelowFolders(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 1})
	x := w.file("a/1")
	x.Arrival.Name, x.Name = "a/b/1.dcm", "a/b/"
	y := x
	y.Pipeline, y.Name, y.Group = "other", "a/", gantry.Digest{1}
	z := x
	z.Pipeline, z.Name, z.Group = "third", "1.2.3", gantry.Digest{2}
	must(w.Gather(t.Context(), []gantry.Gathering{x, y, z}))(t)
	names := map[string]string{}
	for _, c := range must(w.CloseDue(t.Context(), 10, publicID))(t) {
		names[c.Pipeline] = w.originals(c.Task)[0].Name
	}
	if names["p"] != "1.dcm" || names["other"] != "b/1.dcm" || names["third"] != "a/b/1.dcm" {
		t.Errorf("names %v", names)
	}
}

// TestTurnAwayOnce says what is new.
func TestTurnAwayOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "v", Status: gantry.Unmatched, Reason: gantry.CodeNoRoute}
	for i, want := range []int{1, 0, 0} {
		if made := must(b.TurnAway(t.Context(), []gantry.Arrival{a}))(t); len(made) != want || want > 0 && made[0] != a.ID {
			t.Errorf("time %d: %v", i, made)
		}
		a.ID = must(b.ArrivalIDs(t.Context(), 1))(t)[0]
	}
}
