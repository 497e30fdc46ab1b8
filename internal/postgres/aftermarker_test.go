package postgres_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestAftercareOfMarkers: a marker, which has no task and is in no collection, waits for all revisions of the groups that it is about,
// is called when one of their tasks ends, and waits for the tasks of another pipeline too to which it is a medium.
func TestAftercareOfMarkers(t *testing.T) {
	t.Parallel()
	b, tasks, a := minded(t, 4)
	b.exec(`update task set arrival = null where id <> $1`, int64(tasks[3].Task)) // to another pipeline it is a medium
	marks := []gantry.Gathering{{Pipeline: "p", Group: gantry.Digest{1}}, {Pipeline: "q", Group: gantry.Digest{1}}}
	if err := b.KeepInMind(t.Context(), a, "the mark", marks); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		pipeline string
		revision int
	}{{"p", 0}, {"p", 1}, {"q", 0}} {
		b.exec(`insert into collection(pipeline, key_mac, revision, closed) values ($1, $2, $3, true)`, c.pipeline, marks[0].Group[:], c.revision)
		b.exec(`update task set collection = (select max(id) from collection) where id = $1`, int64(tasks[i].Task))
	}
	b.exec(`insert into collection(pipeline, key_mac) values ('r', $1)`, marks[0].Group[:]) // of no concern
	for i, x := range tasks {
		if got := b.look(a); len(got) != 0 {
			t.Errorf("before task %d ended: %+v", i, got)
		}
		b.ending(x, gantry.Done)
	}
	b.exec(`update collection set closed = false where pipeline = 'q'`)
	if got := b.look(a); len(got) != 0 {
		t.Errorf("while a collection is open: %+v", got)
	}
	b.exec(`update collection set closed = true`)
	b.ending(tasks[0], gantry.Failed)
	b.exec(`update aftercare set due = now() + interval '1 h'`)
	if err := b.TasksEnded(t.Context(), []gantry.TaskID{tasks[2].Task}); err != nil {
		t.Fatal(err)
	}
	list, _, err := b.DueAftercare(t.Context(), a.Source, 10, time.Minute)
	if len(list) != 1 || list[0].Ended != gantry.Failed || list[0].Mark != "the mark" || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
}

var scansMarkers = regexp.MustCompile(`Seq Scan on (aftercare|collection|collection_member|arrival|task)\b`)

// TestMarkersPlan: neither what is due nor who is called is found by looking through tables.
func TestMarkersPlan(t *testing.T) {
	t.Parallel()
	p := newPlans(t, true)
	p.exec(`insert into aftercare(source, ref_mac, version, mark, due, pipelines, groups)
		select 'p/in', int8send(n), 'v', 'm', now() + interval '1 h', case when n % 2 = 0 then array['p'] end, case when n % 2 = 0 then array[int8send(n)] end from generate_series(1, 20000) n`)
	p.exec(`insert into collection(pipeline, key_mac, closed) select 'p', int8send(n), true from generate_series(1, 20000) n`)
	p.exec(`insert into collection_member(collection, arrival) select n, n from generate_series(1, 20000) n`)
	p.exec(`analyze aftercare, collection, collection_member`)
	for sql, args := range map[string][]string{postgres.EndedSQL: {"'{1,2}'"}, postgres.AftercareSQL: {"'p/in'", "64", "1000"}} {
		if plan := p.explain(sql, args...); scansMarkers.MatchString(plan) {
			t.Errorf("it looks through a table:\n%s", plan)
		}
	}
}
