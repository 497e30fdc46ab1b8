package postgres_test

import (
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
