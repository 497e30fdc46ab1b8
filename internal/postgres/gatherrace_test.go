package postgres_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// whole holds what is in the database to what must be true whatever happened: each object is in one open or closed
// revision at least, no revision has members that its count does not know, and each closed one has one task.
func (w *ward) whole(objects int) {
	w.t.Helper()
	for what, q := range map[string]string{
		"objects that no collection has":      fmt.Sprintf(`select %d - count(distinct a.ref_mac) from collection_member m join arrival a on a.id = m.arrival`, objects),
		"collections whose count is wrong":    `select count(*) from collection c where arrivals <> (select count(*) from collection_member m where m.collection = c.id)`,
		"collections with not one task":       `select count(*) from collection c where closed and 1 <> (select count(*) from task t where t.collection = c.id)`,
		"open ones that have a task":          `select count(*) from collection c where not closed and exists (select from task t where t.collection = c.id)`,
		"groups with two open collections":    `select count(*) from (select 1 from collection where not closed group by key_mac having count(*) > 1) x`,
		"objects twice in one collection":     `select count(*) from (select 1 from collection_member m join arrival a on a.id = m.arrival group by m.collection, a.ref_mac having count(*) > 1) x`,
		"tasks that nobody could ever claim":  `select count(*) from task t where not exists (select from task_hot h where h.id = t.id)`,
		"members that came after the closing": `select count(*) from collection c join collection_member m on m.collection = c.id join arrival a on a.id = m.arrival where a.at > c.closed_at`,
	} {
		if n := w.count(q); n != 0 {
			w.t.Errorf("%d %s", n, what)
		}
	}
}

// TestGatherWhileClosing: several processes take files in and close at once, some are cut off. Nothing is lost, nothing twice.
func TestGatherWhileClosing(t *testing.T) {
	t.Parallel()
	for _, late := range []gantry.LatePolicy{gantry.LateRerun, gantry.LateAppend} {
		t.Run(string(late), func(t *testing.T) {
			t.Parallel()
			w := newWard(t, gantry.Collect{Quiet: 2 * time.Millisecond, Late: late})
			const processes, each, folders = 3, 40, 4
			var made, stopped atomic.Int64
			ctx, stop := context.WithCancel(t.Context())
			var in, out sync.WaitGroup
			for p := range processes {
				in.Go(func() {
					for i := range each {
						list := []gantry.Gathering{w.file(fmt.Sprintf("%d/%d-%d", i%folders, p, i)), w.file(fmt.Sprintf("%d/%d-%d", (i+1)%folders, p, i))}
						for try := 0; ; try++ {
							cut, cancel := context.WithCancel(t.Context())
							if try == 0 && i%5 == 0 { // a process that dies while it writes, or just after
								time.AfterFunc(time.Duration(i)*50*time.Microsecond, cancel)
							}
							_, err := w.Gather(cut, list)
							cancel()
							if err == nil {
								break
							}
							stopped.Add(1)
						}
					}
				})
			}
			for p := range processes {
				out.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						cut, cancel := context.WithCancel(t.Context())
						if n%4 == p {
							time.AfterFunc(time.Duration(n%7)*200*time.Microsecond, cancel)
						}
						closed, err := w.CloseDue(cut, 10, publicID)
						cancel()
						if err == nil {
							made.Add(int64(len(closed)))
						}
						time.Sleep(time.Millisecond)
					}
				})
			}
			in.Wait()
			stop()
			out.Wait()
			w.pass(time.Second)
			rest := len(w.close())
			w.whole(processes * each * 2)
			t.Logf("%d closed and told, %d at the end, %d cut off, %d tasks", made.Load(), rest, stopped.Load(), w.count(`select count(*) from task`))
			if made.Load() < folders {
				t.Error("nothing was closed while more came")
			}
		})
	}
}

// TestAcceptWaitsForClosing: a file that comes while its collection is being closed, in a transaction that nobody sees the
// end of yet, is a member of the next revision. The control: without the lock the collection seems open, and its task would lack the file.
func TestAcceptWaitsForClosing(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	w.gather("a/1")
	w.pass(time.Minute)
	tx := must(w.Pool().Begin(t.Context()))(t)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	rows := must(tx.Query(t.Context(), postgres.DueSQL, 3000000, 10))(t)
	if n := len(must(pgx.CollectRows(rows, pgx.RowToMap))(t)); n != 1 {
		t.Fatalf("%d are due", n)
	}
	if _, err := tx.Exec(t.Context(), `update collection set closed = true, closed_at = clock_timestamp()`); err != nil {
		t.Fatal(err)
	}

	unlocked := strings.Replace(postgres.HeadsSQL, "for update", "", 1)
	if unlocked == postgres.HeadsSQL {
		t.Fatal("the statement is not written as this control expects")
	}
	mac := gantry.MAC([]byte("k"), "group", "a")
	open := must(pgx.CollectRows(must(w.Pool().Query(t.Context(), unlocked, []string{"p"}, [][]byte{mac[:]}))(t), pgx.RowToMap))(t)
	if len(open) != 1 || open[0]["closed"] != false {
		t.Errorf("without the lock the collection is %v; the control proves nothing", open)
	}

	w.waitsFor(tx, w.file("a/2"))
}

// waitsFor takes a file in while a transaction closes its collection: it waits for the transaction, which is committed then, and is a
// member of the next revision.
func (w *ward) waitsFor(tx pgx.Tx, x gantry.Gathering) {
	w.t.Helper()
	done := make(chan []gantry.Gathered, 1)
	go func() { done <- must(w.Gather(context.WithoutCancel(w.t.Context()), []gantry.Gathering{x}))(w.t) }()
	w.whileWaiting()
	select {
	case got := <-done:
		w.t.Fatalf("it did not wait: %+v", got)
	default:
	}
	if err := tx.Commit(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if got := <-done; got[0].Revision != 1 {
		w.t.Errorf("it went to %+v", got)
	}
}

// whileWaiting returns once a statement of the database waits for a lock of another.
func (b *bed) whileWaiting() {
	b.t.Helper()
	root := b.root()
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var n int
		if err := root.QueryRow(b.t.Context(), `select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`).Scan(&n); err != nil {
			b.t.Fatal(err)
		}
		if n > 0 {
			return
		}
	}
	b.t.Fatal("nothing waits")
}

// root connects as who owns the database.
func (b *bed) root() *pgx.Conn {
	b.t.Helper()
	c := must(pgx.ConnectConfig(b.t.Context(), b.Pool().Config().ConnConfig.Copy()))(b.t)
	b.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// TestClosingPassesOver: a collection that a file is being added to is not closed, and is not waited for.
func TestClosingPassesOver(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	w.gather("a/1", "b/1")
	w.pass(time.Minute)
	tx := must(w.Pool().Begin(t.Context()))(t)
	defer tx.Rollback(context.WithoutCancel(t.Context()))
	mac := gantry.MAC([]byte("k"), "group", "a")
	if n := len(must(pgx.CollectRows(must(tx.Query(t.Context(), postgres.HeadsSQL, []string{"p"}, [][]byte{mac[:]}))(t), pgx.RowToMap))(t)); n != 1 {
		t.Fatalf("%d heads", n)
	}
	w.wantClosed("0 quiet: 1")
	w.wantClosed()
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.wantClosed("0 quiet: 1")
}

// TestCutBeforeCommit: a process that is killed between the two statements of a closing leaves the collection as it was.
func TestCutBeforeCommit(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	w.gather("a/1")
	w.pass(time.Minute)
	conn, root := w.root(), w.root()
	var pid int
	if err := conn.QueryRow(t.Context(), `select pg_backend_pid()`).Scan(&pid); err != nil {
		t.Fatal(err)
	}
	tx := must(conn.Begin(t.Context()))(t)
	must(pgx.CollectRows(must(tx.Query(t.Context(), postgres.DueSQL, 3000000, 10))(t), pgx.RowToMap))(t)
	id := w.count(`select id from collection`)
	if _, err := tx.Exec(t.Context(), postgres.CloseSQL, []int64{int64(id)}, []string{"x"}, []int32{w.pipeline}, []int32{w.lane}, []int16{5}, []int64{1}, []string{"quiet"}); err != nil {
		t.Fatal(err)
	}
	w.wantClosed()
	var gone bool
	if err := root.QueryRow(t.Context(), `select pg_terminate_backend($1, 5000)`, pid).Scan(&gone); err != nil || !gone {
		t.Fatal("the connection lives on", err)
	}
	w.wantClosed("0 quiet: 1")
	w.whole(1)
}

// TestManyMembers: 10,000 files of one folder, in batches as they come, are one task and few commits.
func TestManyMembers(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute, Count: 10_000})
	const n, batch = 10_000, 500
	began := time.Now()
	ids := must(w.ArrivalIDs(t.Context(), n))(t)
	var last []gantry.Gathered
	for i := 0; i < n; i += batch {
		var list []gantry.Gathering
		for k := i; k < i+batch; k++ {
			list = append(list, w.named(ids[k], "a", fmt.Sprintf("%05d.dcm", k)))
		}
		last = must(w.Gather(t.Context(), list))(t)
	}
	wantDue(t, last[:1], 0)
	closed := must(w.CloseDue(t.Context(), 10, publicID))(t)
	t.Logf("%d files in %s", n, time.Since(began).Round(time.Millisecond))
	if len(closed) != 1 || closed[0].Members != n || closed[0].Reason != gantry.ClosedByCount {
		t.Fatalf("%+v", closed)
	}
	list := w.originals(closed[0].Task)
	if len(list) != n || list[0].Name != "00000.dcm" || list[n-1].Name != "09999.dcm" {
		t.Errorf("%d originals, from %s to %s", len(list), list[0].Name, list[len(list)-1].Name)
	}
	// A late one makes a revision of them all, in time.
	began = time.Now()
	w.gather("a/late.dcm")
	t.Logf("a revision of them in %s", time.Since(began).Round(time.Millisecond))
	w.pass(time.Minute)
	if closed = must(w.CloseDue(t.Context(), 10, publicID))(t); len(closed) != 1 || closed[0].Members != n+1 {
		t.Errorf("%+v", closed)
	}
	w.whole(n + 1)
}

// named is file for an id that was taken before.
func (w *ward) named(id int64, folder, name string) gantry.Gathering {
	return gantry.Gathering{
		Arrival: gantry.Arrival{ID: id, Source: "p/in", RefMAC: gantry.MAC([]byte("k"), folder, name), Version: "1", Name: name, Size: 3},
		Group:   gantry.MAC([]byte("k"), "group", folder), Name: folder, Pipeline: "p", Version: w.pipeline, Lane: w.lane, Priority: 5, Within: time.Hour, Rules: w.rules,
	}
}

// TestManyCollections: a thousand of them fill up at once, and are closed by two processes.
func TestManyCollections(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute})
	const n = 1000
	began := time.Now()
	for _, name := range []string{"1", "2", "3"} {
		ids := must(w.ArrivalIDs(t.Context(), n))(t)
		for half := range 2 {
			var list []gantry.Gathering
			for i := half * n / 2; i < (half+1)*n/2; i++ {
				list = append(list, w.named(ids[i], fmt.Sprint("f", i), name))
			}
			must(w.Gather(t.Context(), list))(t)
		}
	}
	t.Logf("%d files of %d collections in %s", 3*n, n, time.Since(began).Round(time.Millisecond))
	w.pass(time.Minute)
	var total atomic.Int64
	var g sync.WaitGroup
	for range 2 {
		g.Go(func() {
			for {
				closed := must(w.CloseDue(context.WithoutCancel(t.Context()), 100, publicID))(t)
				if total.Add(int64(len(closed))); len(closed) == 0 {
					return
				}
			}
		})
	}
	g.Wait()
	if total.Load() != n || w.count(`select count(*) from task`) != n {
		t.Errorf("%d closed, %d tasks", total.Load(), w.count(`select count(*) from task`))
	}
	w.whole(3 * n)
}
