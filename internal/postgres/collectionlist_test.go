package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestCollections lists those that are open and those that are closed, with their tasks and without names.
func TestCollections(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 2, Quiet: time.Minute})
	w.gather("a/1", "a/2", "b/1")
	w.close()
	w.gather("a/3")
	list := must(w.Collections(t.Context(), postgres.CollectionFilter{}))(t)
	task := publicID("p", "p/in", gantry.MAC([]byte("k"), "group", "a"), 0)
	want := []postgres.CollectionRow{
		{Pipeline: "p", Source: "p/in", Revision: 1, State: "open", Members: 3, Held: 3, Expected: 2, Why: "quiet"},
		{Pipeline: "p", Source: "p/in", State: "open", Members: 1, Held: 1, Expected: 2, Why: "quiet"},
		{Pipeline: "p", Source: "p/in", State: "closed", Members: 2, Held: 2, Expected: 2, Why: "count", Task: task},
	}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(postgres.CollectionRow{}, "ID", "Group", "First", "Last", "Due", "ClosedAt")); diff != "" {
		t.Fatalf("-want +got\n%s", diff)
	}
	if a := gantry.MAC([]byte("k"), "group", "a").String()[:12]; list[0].Group != a || list[2].Group != a || list[1].Group == a {
		t.Error("revisions of a group do not go by one name, or others do")
	}
	if list[0].ClosedAt != nil || list[2].ClosedAt == nil || list[0].Due.Sub(list[0].Last) != time.Minute || list[0].First.After(list[0].Last) {
		t.Errorf("times of %+v", list)
	}
	for f, n := range map[postgres.CollectionFilter]int{{Pipeline: "p"}: 3, {Pipeline: "q"}: 0, {State: "open"}: 2, {State: "closed"}: 1, {Limit: 1}: 1} {
		if got := must(w.Collections(t.Context(), f))(t); len(got) != n {
			t.Errorf("%+v selects %d", f, len(got))
		}
	}
	x, ok, err := w.CollectionOf(t.Context(), must(w.TaskByID(t.Context(), task))(t).Key)
	if err != nil || !ok || x.ID != list[2].ID || x.Members != 2 || x.Why != "count" {
		t.Errorf("of the task: %+v, %t, %v", x, ok, err)
	}
	w.enqueue(1)
	for _, x := range w.claim(w.worker, 5) {
		if _, ok, err := w.CollectionOf(t.Context(), int64(x.Task)); err != nil || ok != (x.PublicID == task) {
			t.Errorf("%s is of a collection: %t, %v", x.PublicID, ok, err)
		}
	}
}
