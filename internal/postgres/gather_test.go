package postgres_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ward is a bed with one source whose files are put together by their folders.
type ward struct {
	*bed
	rules gantry.Collect
}

// never is a wait that no test lives to see the end of.
const never = time.Hour

func newWard(t testing.TB, rules gantry.Collect) *ward {
	t.Helper()
	rules.By = gantry.GroupPrefix
	if rules.Cap == 0 {
		rules.Cap = never
	}
	if rules.Late == "" {
		rules.Late = gantry.LateRerun
	}
	return &ward{newBed(t), rules}
}

// file is an arrival named folder/name, or folder/name@version.
func (w *ward) file(path string) gantry.Gathering {
	w.t.Helper()
	path, version, ok := strings.Cut(path, "@")
	if !ok {
		version = "1"
	}
	folder, name, _ := strings.Cut(path, "/")
	return gantry.Gathering{
		Arrival: gantry.Arrival{ID: must(w.ArrivalIDs(w.t.Context(), 1))(w.t)[0], Source: "p/in", RefMAC: gantry.MAC([]byte("k"), path), Version: version,
			Name: name, Size: 3, Sequencer: version},
		Group: gantry.MAC([]byte("k"), "group", folder), Name: folder, Pipeline: "p", Version: w.pipeline, Lane: w.lane, Priority: 5, Within: time.Hour,
		Rules: w.rules, Marker: name == w.rules.Marker,
	}
}

// gather takes files in at once.
func (w *ward) gather(paths ...string) []gantry.Gathered {
	w.t.Helper()
	var list []gantry.Gathering
	for _, p := range paths {
		list = append(list, w.file(p))
	}
	return must(w.Gather(w.t.Context(), list))(w.t)
}

func publicID(pipeline, source string, group gantry.Digest, revision int32) string {
	return gantry.PublicID([]byte("k"), pipeline, source, group.String(), fmt.Sprint(revision))
}

// close closes what is due, and says what that was: "revision reason: names" each, in the order in which they were due.
func (w *ward) close() []string {
	w.t.Helper()
	var out []string
	for _, c := range must(w.CloseDue(w.t.Context(), 1000, publicID))(w.t) {
		text := fmt.Sprintf("%d %s:", c.Revision, c.Reason)
		if c.Task != "" {
			var names []string
			for _, a := range w.originals(c.Task) {
				names = append(names, a.Name)
			}
			if len(names) != c.Members {
				w.t.Errorf("%d members, %d originals", c.Members, len(names))
			}
			text += " " + strings.Join(names, " ")
		}
		out = append(out, text)
	}
	return out
}

func (w *ward) originals(public string) []gantry.Arrival {
	w.t.Helper()
	return must(w.Originals(w.t.Context(), gantry.TaskID(must(w.TaskByID(w.t.Context(), public))(w.t).Key)))(w.t)
}

func (w *ward) wantClosed(want ...string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.close()); diff != "" {
		w.t.Errorf("closed (-want +got):\n%s", diff)
	}
}

// pass lets time pass for all collections.
func (w *ward) pass(d time.Duration) {
	w.t.Helper()
	w.exec(`update collection set due = due - $1 * interval '1 us', cap = cap - $1 * interval '1 us', at = at - $1 * interval '1 us' where not closed`, d.Microseconds())
}

func wantDue(t *testing.T, got []gantry.Gathered, want time.Duration) {
	t.Helper()
	for i, g := range got {
		if g.Collection == 0 || g.Due > want || g.Due < want-time.Second {
			t.Errorf("arrival %d: due in %s of collection %d, want %s", i, g.Due, g.Collection, want)
		}
	}
}

// TestQuiet: each arrival puts the end off, and the last of them is followed by it.
func TestQuiet(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	wantDue(t, w.gather("a/1", "b/1"), time.Minute)
	w.pass(50 * time.Second)
	wantDue(t, w.gather("a/2"), time.Minute)
	w.pass(20 * time.Second)
	w.wantClosed("0 quiet: 1")
	w.pass(45 * time.Second)
	w.wantClosed("0 quiet: 1 2")
	w.wantClosed()
}

// TestCap: however often more comes, it is closed then.
func TestCap(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute, Cap: 90 * time.Second})
	w.gather("a/1")
	w.pass(50 * time.Second)
	wantDue(t, w.gather("a/2"), 40*time.Second)
	w.wantClosed()
	w.pass(41 * time.Second)
	w.wantClosed("0 cap: 1 2")
	w = newWard(t, gantry.Collect{Cap: time.Minute})
	wantDue(t, w.gather("a/1"), time.Minute)
}

// TestCount: with so many members it waits for no more, whatever came twice.
func TestCount(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 3})
	wantDue(t, w.gather("a/1", "a/2"), never)
	wantDue(t, w.gather("a/2@2", "b/1"), never)
	if got := w.gather("a/1", "b/1", "b/1"); !got[0].Known || !got[1].Known || !got[2].Known {
		t.Errorf("the same again: %+v", got)
	}
	w.wantClosed()
	wantDue(t, w.gather("a/3"), 0)
	w.wantClosed("0 count: 1 2 3")
	if n := w.count(`select count(*) from arrival where status = $1 and version = '1'`, int16(gantry.Superseded)); n != 1 {
		t.Errorf("%d superseded", n)
	}
}

// TestCountAgain: a revision of all waits for what comes along with a late file, but not for what made the first one whole.
func TestCountAgain(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 3, Quiet: time.Minute})
	w.gather("a/1", "a/2")
	w.pass(2 * time.Minute)
	w.wantClosed("0 quiet: 1 2")
	wantDue(t, w.gather("a/3"), 0)
	w.wantClosed("1 count: 1 2 3")
	wantDue(t, w.gather("a/3@2"), time.Minute)
	w.pass(2 * time.Minute)
	w.wantClosed("2 quiet: 1 2 3")
	w.rules.Quiet = 0
	wantDue(t, w.gather("a/4"), 0)
	w.wantClosed("3 count: 1 2 3 4")
}

// TestMarker: from then on it waits for stragglers alone, and for a while it waits however long nothing comes.
func TestMarker(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Marker: "_done", Quiet: 5 * time.Second})
	wantDue(t, w.gather("a/1"), never)
	w.pass(time.Minute)
	w.wantClosed()
	wantDue(t, w.gather("a/_done"), 5*time.Second)
	w.pass(4 * time.Second)
	wantDue(t, w.gather("a/2"), 5*time.Second)
	w.pass(4 * time.Second)
	w.wantClosed()
	w.pass(time.Second)
	w.wantClosed("0 marker: 1 2")
	// Whatever comes later is waited for as stragglers are.
	wantDue(t, w.gather("a/3"), 5*time.Second)
	w.pass(5 * time.Second)
	w.wantClosed("1 marker: 1 2 3")
	w.gather("a/_done@2")
	w.wantClosed()
	if n := w.count(`select count(*) from arrival where reason = 'marker' and status = 0`); n != 2 {
		t.Errorf("%d markers", n)
	}
}

// TestMarkerFirst: a marker before all else closes nothing, and does count.
func TestMarkerFirst(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Marker: "_done", Quiet: 5 * time.Second, Late: gantry.LateIgnore})
	wantDue(t, w.gather("a/_done", "b/_done"), never)
	wantDue(t, w.gather("a/1"), 5*time.Second)
	w.pass(5 * time.Second)
	w.wantClosed("0 marker: 1")
	// A folder that nothing else came to is closed without a task, and is no reason to call what comes then late.
	w.pass(never)
	w.wantClosed("0 empty:")
	if n := w.count(`select count(*) from task`); n != 1 {
		t.Errorf("%d tasks", n)
	}
	wantDue(t, w.gather("b/1"), 5*time.Second)
	w.pass(5 * time.Second)
	w.wantClosed("1 marker: 1")
}

// TestMarkerLate: one that comes after the end is known to the next revision.
func TestMarkerLate(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Marker: "_done", Quiet: 5 * time.Second, Cap: time.Minute})
	w.gather("a/1")
	w.pass(time.Minute)
	w.wantClosed("0 cap: 1")
	w.gather("a/_done")
	w.wantClosed()
	if n := w.count(`select count(*) from collection where closed and reason = 'cap' and marked`); n != 1 {
		t.Error("a late marker changed how it was closed, or was not noticed")
	}
	wantDue(t, w.gather("a/2"), 5*time.Second)
}

// TestLate holds the three policies to what they make of two late files, one of which replaces another.
func TestLate(t *testing.T) {
	t.Parallel()
	for policy, want := range map[gantry.LatePolicy][]string{
		gantry.LateRerun: {"1 quiet: 1 2 3"}, gantry.LateAppend: {"1 quiet: 2 3"}, gantry.LateIgnore: nil,
	} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			w := newWard(t, gantry.Collect{Quiet: time.Minute, Late: policy})
			w.gather("a/1", "a/2")
			w.pass(time.Minute)
			w.wantClosed("0 quiet: 1 2")
			first := publicID("p", "p/in", gantry.MAC([]byte("k"), "group", "a"), 0)
			before := w.originals(first)

			for _, g := range w.gather("a/2", "a/1", "a/2") {
				if !g.Known {
					t.Errorf("what came before: %+v", g)
				}
			}
			w.pass(never)
			w.wantClosed()

			got := w.gather("a/2@2", "a/3")
			if ignored := policy == gantry.LateIgnore; (got[0].Status == gantry.Ignored) != ignored || (got[1].Collection == 0) != ignored {
				t.Errorf("late: %+v", got)
			}
			w.gather("a/2@2")
			w.pass(never)
			w.wantClosed(want...)
			if diff := cmp.Diff(before, w.originals(first)); diff != "" {
				t.Errorf("the first task has other originals now:\n%s", diff)
			}
			if n := w.count(`select count(*) from arrival where status = $1 and reason = 'late'`, int16(gantry.Ignored)); (n == 2) != (policy == gantry.LateIgnore) {
				t.Errorf("%d ignored", n)
			}
			if policy == gantry.LateRerun {
				second := w.originals(publicID("p", "p/in", gantry.MAC([]byte("k"), "group", "a"), 1))
				versions := []string{}
				for _, a := range second {
					versions = append(versions, a.Version)
				}
				if !slices.Equal(versions, []string{"1", "2", "1"}) {
					t.Errorf("versions %s", versions)
				}
			}
		})
	}
}

// TestReplaced: of an object that comes three times to one collection, once in one call, the last counts.
func TestReplaced(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	w.gather("a/1@1", "a/1@2", "a/2")
	w.gather("a/1@3")
	w.pass(time.Minute)
	w.wantClosed("0 quiet: 1 2")
	list := w.originals(publicID("p", "p/in", gantry.MAC([]byte("k"), "group", "a"), 0))
	if list[0].Version != "3" {
		t.Errorf("version %s", list[0].Version)
	}
	if n := w.count(`select count(*) from arrival where status = $1`, int16(gantry.Superseded)); n != 2 {
		t.Errorf("%d superseded", n)
	}
	w.gather("a/1@4", "a/1@5") // late; 3 was used and stays as it was
	w.pass(time.Minute)
	w.wantClosed("1 quiet: 1 2")
	if n := w.count(`select count(*) from arrival where status = $1 and version in ('1', '2', '4')`, int16(gantry.Superseded)); n != 3 {
		t.Errorf("%d superseded", n)
	}
}

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
		if err := w.TurnAway(t.Context(), []gantry.Arrival{gone}); err != nil {
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
