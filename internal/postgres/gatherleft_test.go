package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// becomes says what became of files, without numbers that differ from one database to another, and what is on record then.
func (w *ward) becomes(by *postgres.Store, paths ...string) string {
	w.t.Helper()
	var list []gantry.Gathering
	for i, p := range paths {
		x := w.file(p)
		x.Study, x.Priority, x.Instance = "1.2.3", 8-int16(p[len(p)-1]-'0')%8, int64(i%2*100)
		if i%3 == 0 { // some came by a call
			x.Receipt = &gantry.Receipt{Worker: w.worker, Intent: gantry.Intent{ID: w.ids.New(), Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: w.limiter, Pipeline: w.pipeline, Try: 1,
				Part: gantry.PartKey{Processor: 2}}, Outcome: gantry.Outcome{Took: time.Second, RespSize: 3, RespSHA: gantry.Digest{7}}}
		}
		list = append(list, x)
	}
	text := ""
	for _, g := range must(by.Gather(w.t.Context(), list))(w.t) {
		text += fmt.Sprintf("revision %d known %t status %d due %t ask %t; ", g.Revision, g.Known, g.Status, g.Due > 0, g.Ask >= 0)
	}
	for _, what := range []string{
		`select hashtextextended(coalesce(string_agg(x::text, ',' order by x::text), ''), 0) from (select name, revision, closed, arrivals, marked, expected, reason,
			version, lane, priority, within_us, case when reason <> 'cap' then due - last_at end, due = cap, cap is null, ask_at is null from collection) x`,
		`select hashtextextended(coalesce(string_agg(x::text, ',' order by x::text), ''), 0) from (select a.ref_mac, a.version, a.status, a.sequencer, a.name, a.size,
			a.sha, a.location, a.place, a.reason, a.event, a.via from arrival a) x`,
		`select hashtextextended(coalesce(string_agg(x::text, ',' order by x::text), ''), 0) from (select a.ref_mac, i.boundary, i.op, i.limiter is null, i.processor, i.try, i.items_sha,
			o.took_us, o.resp_size, o.resp_sha, o.result, o.kind, o.req_sha from call_intent i join call_outcome o using (task_id, id) join arrival a on a.id = i.arrival) x`,
		`select hashtextextended(coalesce(string_agg(x::text, ',' order by x::text), ''), 0) from (select c.name, c.revision, a.ref_mac, a.version, m.instance from collection_member m join collection c on c.id = m.collection join arrival a on a.id = m.arrival) x`,
	} {
		text += fmt.Sprint(w.count(what), " ")
	}
	return text
}

// TestGatherAsLeft: whatever others did since this process added to a group, what comes of the next of it is the same as for a process that
// looks first. Each step is taken by a store that remembers, after what was done in between, and by one that never does.
func TestGatherAsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		between func(w *ward, other *postgres.Store)
		next    []string
	}{
		"nothing":              {func(*ward, *postgres.Store) {}, []string{"a/3", "a/4"}},
		"another added":        {func(w *ward, other *postgres.Store) { w.becomes(other, "a/5") }, []string{"a/3"}},
		"another closed":       {func(w *ward, _ *postgres.Store) { w.pass(4 * time.Hour); w.close() }, []string{"a/3"}},
		"another marked":       {func(w *ward, other *postgres.Store) { w.becomes(other, "a/end") }, []string{"a/3"}},
		"the same came":        {func(w *ward, other *postgres.Store) { w.becomes(other, "a/3") }, []string{"a/3", "a/4"}},
		"another revision":     {func(*ward, *postgres.Store) {}, []string{"a/1@2", "a/4"}},
		"what was there":       {func(*ward, *postgres.Store) {}, []string{"a/1"}},
		"twice at once":        {func(*ward, *postgres.Store) {}, []string{"a/3", "a/3@2"}},
		"of another group":     {func(*ward, *postgres.Store) {}, []string{"a/3", "b/1"}},
		"one of two changed":   {func(w *ward, other *postgres.Store) { w.becomes(w.Store, "b/1"); w.becomes(other, "b/5") }, []string{"a/3", "b/3"}},
		"a marker":             {func(*ward, *postgres.Store) {}, []string{"a/end", "a/3"}},
		"no longer remembered": {func(w *ward, other *postgres.Store) { w.becomes(other, "a/5"); w.becomes(w.Store, "a/6") }, []string{"a/7", "a/8"}},
	} {
		for by, rules := range map[string]gantry.Collect{
			"marker": {Marker: "end", Quiet: time.Hour, Cap: 3 * time.Hour},
			"quiet":  {Quiet: time.Hour, Cap: 3 * time.Hour},
			"asked":  {Quiet: time.Hour, Cap: 3 * time.Hour, Expect: &gantry.Expect{Missing: gantry.MissingWait, Steady: time.Minute}},
		} {
			t.Run(name+", by "+by, func(t *testing.T) {
				t.Parallel()
				var said [2]string
				for i := range said {
					w := newWard(t, rules)
					w.becomes(w.Store, "a/1", "a/2")
					w.Later(-time.Hour) // on a machine that takes its time
					if !w.Remembers(w.file("a/9")) {
						t.Fatal("a group that is open is not remembered")
					}
					c.between(w, w.Beside())
					w.Later(-time.Hour)
					by := w.Store
					if i == 1 {
						by = w.Beside()
					}
					said[i] = w.becomes(by, c.next...)
					if w.Later(-time.Hour); i == 0 && name == "nothing" && !w.Remembers(w.file("a/9")) {
						t.Error("what is as it was left was looked at all the same")
					}
					said[i] += w.becomes(by, "a/10")
				}
				if diff := cmp.Diff(said[1], said[0]); diff != "" {
					t.Errorf("who looks, who remembers:\n%s", diff)
				}
			})
		}
	}
}

// TestLeftIsForgotten: of what is due at once, is closed or was not as it was left, nothing is remembered, and never for long.
func TestLeftIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 2, Quiet: time.Hour})
	w.gather("a/1")
	w.Later(-time.Hour)
	if !w.Remembers(w.file("a/2")) || w.Remembers(w.file("b/1")) || w.Remembers(w.file("a/2"), w.file("b/1")) {
		t.Error("remembered is not what was left")
	}
	w.gather("a/2")
	if w.Remembers(w.file("a/3")) {
		t.Error("a collection that is to be closed is remembered")
	}
	w.gather("b/1")
	w.Later(-time.Hour)
	w.becomes(w.Beside(), "b/2")
	w.gather("b/3")
	if w.Remembers(w.file("b/4")) {
		t.Error("a group that others add to is remembered")
	}
	w.gather("c/1")
	w.Later(2 * time.Second)
	if w.Remembers(w.file("c/2")) {
		t.Error("it is remembered for ever")
	}
}

// TestLeftWaitsForClosing: a file that comes for a remembered collection while that is being closed, in a transaction that nobody sees the end of
// yet, waits for it and is a member of the next revision. The control: without the lock the collection is as it was left, and its task
// would lack the file.
func TestLeftWaitsForClosing(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	w.gather("a/1")
	id := int64(w.count(`select id from collection`))
	tx := must(w.Pool().Begin(t.Context()))(t)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `update collection set closed = true, closed_at = clock_timestamp()`); err != nil {
		t.Fatal(err)
	}

	next := w.file("a/2")
	unlocked := strings.Replace(postgres.AsLeftSQL, "for update", "", 1)
	if unlocked == postgres.AsLeftSQL {
		t.Fatal("the statement is not written as this control expects")
	}
	if _, err := w.Pool().Exec(t.Context(), unlocked, []int64{id}, []int32{1}, []bool{false}, []string{next.Arrival.Source}, [][]byte{next.Arrival.RefMAC[:]}); err != nil {
		t.Errorf("without the lock: %v; the control proves nothing", err)
	}

	w.Later(-time.Hour)
	if !w.Remembers(next) {
		t.Fatal("a group that is open is not remembered")
	}
	w.waitsFor(tx, next)
}

// TestJoinUnlocked is another control: the statement that adds to a collection as it was left waits for its closing without the lock too, and
// then puts a member into what is closed.
func TestJoinUnlocked(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	w.gather("a/1")
	id := int64(w.count(`select id from collection`))
	tx := must(w.Pool().Begin(t.Context()))(t)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	if _, err := tx.Exec(t.Context(), `update collection set closed = true, closed_at = clock_timestamp()`); err != nil {
		t.Fatal(err)
	}
	sql, args := postgres.UnlockedJoin(id, w.file("a/2"))
	done := make(chan error, 1)
	go func() { _, err := w.Pool().Exec(context.WithoutCancel(t.Context()), sql, args...); done <- err }()
	w.whileWaiting()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from collection_member m join collection c on c.id = m.collection where c.closed`); n != 2 {
		t.Errorf("%d members of what is closed; the control proves nothing", n)
	}
}

// TestLeftRace: processes that all remember add to the same groups at once. Each object is in its collection, each counts.
func TestLeftRace(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Hour})
	const each = 25
	stores := []*postgres.Store{w.Store, w.Beside(), w.Beside()}
	done := make(chan error, len(stores))
	for p, s := range stores {
		go func() {
			for i := range each {
				s.Certain()
				if _, err := s.Gather(t.Context(), []gantry.Gathering{w.file(fmt.Sprintf("a/%d-%d", p, i)), w.file(fmt.Sprintf("b/%d-%d", p, i))}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range stores {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	w.whole(2 * each * len(stores))
	if n := w.count(`select sum(arrivals) from collection`); n != 2*each*len(stores) {
		t.Errorf("%d members count", n)
	}
}
