package app

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// TestRoomBetweenFolders lets no object of a folder wait of which others were let in, and those of others as ever.
func TestRoomBetweenFolders(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	if _, err := store.Pool().Exec(t.Context(), `insert into gantry.task_hot(id, lane, state_until) select n, 7, now() from generate_series(1, $1::int) n`, roomFor); err != nil {
		t.Fatal(err)
	}
	prefix := &gantry.Collect{By: gantry.GroupPrefix}
	type step struct {
		ref     string
		new, in bool
	}
	for name, c := range map[string]struct {
		collect *gantry.Collect
		routes  []route
		steps   []step
	}{
		"by folder": {prefix, nil, []step{
			{"in/a/1", false, true}, // it may have been begun before
			{"in/a/2", false, true}, {"in/a/b/1", false, true}, {"in/a/3", false, true}, {"in/ab/1", false, false}, {"in/c/1", false, false},
			{"in/c/2", true, true}, {"in/c/1", false, true}, {"in/a/4", false, true}}},
		"in no folder": {prefix, nil, []step{{"in/1", false, false}, {"in/a/1", false, true}, {"in/2", false, false}, {"in/2", true, true}, {"in/2", false, false}}},
		"by the first folder": {&gantry.Collect{By: gantry.GroupPrefix, Depth: 1}, nil, []step{
			{"in/a/s/1", false, true}, {"in/a/t/1", false, true}, {"in/b/s/1", false, false}}},
		"by series": {&gantry.Collect{By: gantry.GroupSeries}, nil, []step{
			{"in/p/a/1/1", false, true}, {"in/p/a/1/2", false, true}, {"in/p/a/2/1", false, false}}},
		"by study": {&gantry.Collect{By: gantry.GroupStudy}, nil, []step{
			{"in/p/a/1/1", false, true}, {"in/p/a/2/1", false, true}, {"in/p/b/1/1", false, false}}},
		"by study, one folder each": {&gantry.Collect{By: gantry.GroupStudy}, nil, []step{{"in/a/1", false, true}, {"in/a/2", false, true}, {"in/b/1", false, false}}},
		"by patient":                {&gantry.Collect{By: gantry.GroupPatient}, nil, []step{{"in/p/a/1/1", false, true}, {"in/p/b/1/1", false, true}, {"in/q/a/1/1", false, false}}},
		"by study, without folders": {&gantry.Collect{By: gantry.GroupStudy}, nil, []step{{"in/1", false, true}, {"in/2", false, true}, {"in/a/1", false, false}}},
		"each by itself":            {nil, nil, []step{{"in/a/1", false, false}, {"in/a/1", true, true}, {"in/a/2", false, false}}},
		"shared": {nil, []route{{way{lane: 7, collect: prefix}, nil}, {way{lane: 8}, nil}, {way{lane: 9, collect: &gantry.Collect{By: gantry.GroupPrefix, Depth: 1}}, nil}}, []step{
			{"in/a/s/1", false, true}, {"in/a/t/1", false, true}, {"in/b/s/1", false, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := pages(t, store, "key", "p/in", 7)
			l.feed = &feed{name: "p/in", lane: 7, prefix: "in/", collect: c.collect, routes: c.routes}
			for i, s := range c.steps {
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				if err := l.room(ctx, gantry.Object{Ref: s.ref, Backlog: !s.new}); (err == nil) != s.in {
					t.Errorf("%d, %s: %v", i+1, s.ref, err)
				}
				cancel()
			}
		})
	}
}

// TestLetInIsBounded forgets the folder that nothing came of for longest.
func TestLetInIsBounded(t *testing.T) {
	t.Parallel()
	l := letIn{began: true}
	l.in("a")
	for i := range 3 * maxLetIn {
		if l.in(fmt.Sprint(i)); i < maxLetIn {
			l.in("a")
		}
	}
	if len(l.last) != maxLetIn || l.knows("a") || l.knows("a/b") || !l.knows(fmt.Sprint(3*maxLetIn-1)) || !l.knows(fmt.Sprint(2*maxLetIn)) {
		t.Errorf("%d: %v", len(l.last), l.last)
	}
}

// TestLetInKeepsParent keeps a folder in mind as long as what lies in folders below it comes, however many they are.
func TestLetInKeepsParent(t *testing.T) {
	t.Parallel()
	l := letIn{began: true}
	l.in("p")
	for i := range 2 * maxLetIn {
		folder := fmt.Sprintf("p/%03d", i)
		if !l.knows(folder) {
			t.Fatalf("%s is made to wait though it lies in p, which was let in", folder)
		}
		l.in(folder)
	}
	if !l.knows("p") {
		t.Error("p itself is forgotten")
	}
}
