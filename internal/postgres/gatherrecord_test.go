package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestTaskOfCollection: it is claimed as any other, with what its collection says.
func TestTaskOfCollection(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 2})
	urgent := w.file("a/1")
	urgent.Priority = gantry.PriorityUrgent
	must(w.Gather(t.Context(), []gantry.Gathering{w.file("a/2"), urgent}))(t)
	closed := must(w.CloseDue(t.Context(), 10, publicID))(t)
	tasks := w.claim(w.worker, 5)
	if len(closed) != 1 || len(tasks) != 1 || tasks[0].PublicID != closed[0].Task || closed[0].Lane != w.lane || closed[0].Source != "p/in" {
		t.Fatalf("closed %+v, claimed %+v", closed, tasks)
	}
	if x := tasks[0]; x.Priority != gantry.PriorityUrgent || x.Pipeline != w.pipeline || x.State != gantry.Queued || x.Remaining < 59*time.Minute {
		t.Errorf("claimed %+v", x)
	}
	if next := must(w.NextDue(t.Context()))(t); next >= 0 {
		t.Errorf("next due in %s", next)
	}
	w.rules = gantry.Collect{Quiet: time.Minute, Cap: never}
	w.gather("b/1")
	if next := must(w.NextDue(t.Context()))(t); next < 50*time.Second || next > time.Minute {
		t.Errorf("next due in %s", next)
	}
}

// TestGatherAway: where the database is away, or the arrivals cannot be written, nothing is.
func TestGatherAway(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 1})
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	bad := w.file("a/2")
	bad.Arrival.Name = "\x00"
	for name, f := range map[string]func() error{
		"away": func() error { _, err := w.Gather(gone, []gantry.Gathering{w.file("a/1")}); return err },
		"bad":  func() error { _, err := w.Gather(t.Context(), []gantry.Gathering{w.file("a/1"), bad}); return err },
	} {
		if err := f(); err == nil || (gantry.KindOf(err) == gantry.Illegal) != (name == "bad") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.CloseDue(gone, 1, publicID); err == nil {
		t.Error("closed without a database")
	}
	if _, err := w.NextDue(gone); err == nil {
		t.Error("looked without a database")
	}
	if n := w.count(`select (select count(*) from arrival) + (select count(*) from collection) + (select count(*) from collection_member)`); n != 0 {
		t.Errorf("%d rows", n)
	}
	if got := must(w.Gather(t.Context(), nil))(t); len(got) != 0 {
		t.Errorf("nothing gave %v", got)
	}
}

// TestGatherWhatIsOnRecord: an arrival whose row is there is taken in unless its pipeline has made something of it: a task or
// a member. One that was turned away or gone is accepted then.
func TestGatherWhatIsOnRecord(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	w.exec(`insert into pipeline_version(name, version, resolved) values ('other', sha256('o'), '{}')`)
	other := int32(w.count(`select id from pipeline_version where name = 'other'`))
	var list []gantry.Gathering
	for i, pipeline := range []int32{w.pipeline, other} {
		x := w.file(fmt.Sprint("a/", i))
		list = append(list, x)
		if n := must(w.Enqueue(t.Context(), []gantry.Admission{{Arrival: x.Arrival, PublicID: fmt.Sprint("t", i), Pipeline: pipeline, Lane: w.lane, Within: time.Hour}}))(t); n != 1 {
			t.Fatal("no task")
		}
	}
	for i, status := range []gantry.ArrivalStatus{gantry.Superseded, gantry.SourceGone, gantry.Unmatched, gantry.Ignored} {
		x := w.file(fmt.Sprint("a/", i+2))
		list = append(list, x)
		gone := x.Arrival
		gone.Status, gone.Reason, gone.Size = status, "why", 0
		if _, err := w.TurnAway(t.Context(), []gantry.Arrival{gone}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range list { // as announced again
		list[i].Arrival.ID, list[i].Arrival.Location, list[i].Arrival.Size = must(w.ArrivalIDs(t.Context(), 1))(t)[0], "here", 7
	}
	got := must(w.Gather(t.Context(), list))(t)
	for i, known := range []bool{true, false, true, false, false, true} {
		if got[i].Known != known || (got[i].Collection != 0) == known {
			t.Errorf("arrival %d: %+v", i, got[i])
		}
	}
	w.pass(time.Minute)
	w.wantClosed("0 quiet: 1 3 4")
	if n := w.count(`select count(*) from arrival where name in ('3', '4') and status = 0 and reason is null and location = 'here' and size = 7`); n != 2 {
		t.Errorf("%d are accepted", n)
	}
	if n := w.count(`select count(*) from arrival where name = '1' and size = 3`); n != 1 {
		t.Error("an arrival that was accepted has other bytes now")
	}
	if n := w.count(`select count(*) from arrival`); n != 6 {
		t.Errorf("%d arrivals", n)
	}
}

// TestTwoPipelines: one arrival in one call is a member of a collection of each, and so is a marker known to each.
func TestTwoPipelines(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute, Marker: "_done"})
	both := func(path string) []gantry.Gathering {
		x := w.file(path)
		y := x
		y.Pipeline = "other"
		return []gantry.Gathering{x, y}
	}
	for range 2 {
		must(w.Gather(t.Context(), append(both("a/1"), both("a/_done")...)))(t)
	}
	w.pass(time.Minute)
	w.wantClosed("0 marker: 1", "0 marker: 1")
	if n := w.count(`select count(*) from arrival`); n != 2 {
		t.Errorf("%d arrivals", n)
	}
	w.rules.Late = gantry.LateIgnore
	for i, g := range must(w.Gather(t.Context(), both("a/2")))(t) {
		if g.Known || g.Status != gantry.Ignored {
			t.Errorf("late for pipeline %d: %+v", i, g)
		}
	}
	for i, g := range must(w.Gather(t.Context(), both("a/2")))(t) {
		if !g.Known {
			t.Errorf("late again for pipeline %d: %+v", i, g)
		}
	}
}
