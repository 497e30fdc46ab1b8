package postgres_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// admissions are n objects, each with a task, under ids of their own at each call.
func (b *bed) admissions(n int) []gantry.Admission {
	b.t.Helper()
	list := make([]gantry.Admission, n)
	for i, id := range must(b.ArrivalIDs(b.t.Context(), n))(b.t) {
		name := strconv.Itoa(i)
		list[i] = gantry.Admission{Arrival: gantry.Arrival{ID: id, Source: "p/in", RefMAC: gantry.MAC([]byte("k"), name), Version: "v"},
			PublicID: name, Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}
	}
	return list
}

// once holds that n objects have an arrival and a task each, which belong together.
func (b *bed) once(n int) {
	b.t.Helper()
	for _, what := range []string{"arrival", "task", "task_hot", "arrival a join task t on t.arrival = a.id join task_hot h on h.id = t.id where h.lane = " + fmt.Sprint(b.lane)} {
		if got := b.count(`select count(*) from ` + what); got != n {
			b.t.Errorf("%d rows of %s, want %d", got, what, n)
		}
	}
}

// TestAdmitMeanwhile: a batch one of whose objects is being written by another transaction waits for it, and what comes of it is each
// task once whether that one commits or not.
func TestAdmitMeanwhile(t *testing.T) {
	const arrival, task = `insert into arrival(id, source, ref_mac, version, size) values (%d, 'p/in', '\x%x', 'v', 0)`, `insert into task(id, arrival, public_id, pipeline) select 1000, %d, '1', max(id) from pipeline_version where '%x' <> ''`
	for name, c := range map[string]struct {
		sql, end string
		made     int
	}{"arrival, committed": {arrival, "commit", 3}, "arrival, rolled back": {arrival, "rollback", 3}, "task, committed": {task, "commit", 2}, "task, rolled back": {task, "rollback", 3}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			list := b.admissions(3)
			other := must(b.ArrivalIDs(t.Context(), 1))(t)[0]
			beside := must(b.Pool().Acquire(t.Context()))(t)
			defer beside.Release()
			for _, sql := range []string{"begin", fmt.Sprintf(c.sql, other, list[1].Arrival.RefMAC[:])} {
				if _, err := beside.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			var made map[string]int64
			var g errgroup.Group
			g.Go(func() (err error) {
				made, err = b.Admit(t.Context(), list)
				return err
			})
			b.whileWaiting()
			if _, err := beside.Exec(t.Context(), c.end); err != nil {
				t.Fatal(err)
			}
			if err := g.Wait(); err != nil || len(made) != c.made {
				t.Fatalf("made %v: %v", made, err)
			}
			if of, want := made["1"], c.sql == arrival && c.end == "commit"; (of == other) != want {
				t.Errorf("the task of the object that both wrote is of arrival %d; the other's is %d", of, other)
			}
			if n := b.count(`select count(distinct public_id) from task`); n != 3 {
				t.Errorf("%d tasks", n)
			}
			if c.made == 3 {
				b.once(3)
			}
			if b.Unmet() != (c.end == "rollback") {
				t.Error("that somebody else makes arrivals is not remembered, or was never so")
			}
		})
	}
}

// TestAdmitCrosswise: two processes that found the same objects in opposite order make each task once, and neither waits for the other
// in a circle.
func TestAdmitCrosswise(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	const n = 40
	for round := range 10 {
		lists := [][]gantry.Admission{b.admissions(n), b.admissions(n)}
		slices.Reverse(lists[1])
		for _, list := range lists {
			for i := range list {
				list[i].Arrival.RefMAC = gantry.MAC([]byte("k"), fmt.Sprint(round), list[i].PublicID)
				list[i].PublicID = fmt.Sprint(round, "/", list[i].PublicID)
			}
		}
		g, ctx := errgroup.WithContext(t.Context())
		made := make([]int, len(lists))
		for i := range lists {
			g.Go(func() (err error) {
				made[i], err = b.Beside().Enqueue(ctx, lists[i]) // a process that has met no other
				return err
			})
		}
		if err := g.Wait(); err != nil || made[0]+made[1] != n {
			t.Fatalf("made %v: %v", made, err)
		}
	}
	b.once(10 * n)
}

// TestAdmitTwice: one object that comes twice in a batch under ids of two arrivals has one, and a task that is known makes no other new.
func TestAdmitTwice(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	list := b.admissions(2)
	list[1].Arrival.RefMAC = list[0].Arrival.RefMAC
	if made := must(b.Admit(t.Context(), list))(t); len(made) != 2 || made["0"] != made["1"] {
		t.Errorf("made %v", made)
	}
	more := b.admissions(4)
	more[1].Arrival.RefMAC = gantry.Digest{1} // its task is known, of another arrival
	if made := must(b.Admit(t.Context(), more))(t); len(made) != 2 || made["2"] == 0 || made["3"] == 0 {
		t.Errorf("made %v", made)
	}
}

var scansArrivals = regexp.MustCompile(`Seq Scan on (arrival|task)\b`)

// holdAdmissions makes n new tasks beside many.
func (p *plans) holdAdmissions(n int) {
	p.t.Helper()
	macs := array("bytea", "'x'", n)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("'new%d'", i)
	}
	args := []string{array("bigint", "", n), array("text", "'p/in'", n), macs, array("text", "", n), array("text", "''", n), array("bigint", "0", n), macs,
		array("text", "''", n), array("text", "''", n), "array[" + strings.Join(names, ",") + "]", array("int", "1", n), array("int", strconv.Itoa(int(p.lane)), n),
		array("text", "''", n), array("smallint", "5", n), array("bigint", "1", n), array("text", "''", n), array("text", "''", n), array("int", "0", n)}
	plan := p.explain(readSQL(p.t, "enqueuefresh.sql"), args...)
	if scansArrivals.MatchString(plan) {
		p.t.Errorf("the plan reads all arrivals or tasks:\n%s", plan)
	}
}

// TestAdmitPlan holds the plan where the tables are long, analyzed or not.
func TestAdmitPlan(t *testing.T) {
	t.Parallel()
	for _, analyzed := range []bool{false, true} {
		p := newPlans(t, analyzed)
		p.exec(`insert into arrival(id, source, ref_mac, version, size) select 100000 + n, 'p/in', 'x', 'old' || n, 0 from generate_series(1, 20000) n`)
		p.exec(`select setval('task_id_seq', 200000)`)
		if analyzed {
			p.exec(`vacuum analyze arrival`)
		}
		p.holdAdmissions(1)
		p.holdAdmissions(100)
	}
}
