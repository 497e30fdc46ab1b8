package postgres_test

import (
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// receipt is the record of a call that brought an arrival.
func (w *ward) receipt(arrival int64, sha byte) *gantry.Receipt {
	id := gantry.UUID{0: 1, 6: 0x70, 8: 0x80, 9: sha, 15: byte(arrival)}
	return &gantry.Receipt{Worker: w.worker, Intent: gantry.Intent{ID: id, Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: 1, Arrival: arrival, Pipeline: w.pipeline},
		Outcome: gantry.Outcome{ID: id, Limiter: 1, Took: time.Second, RespSize: 12, RespSHA: gantry.Digest{sha}}}
}

// recorded gives the calls on record with all that a receipt says, as arrival and first byte of the digest.
func (w *ward) recorded() [][2]int {
	w.t.Helper()
	rows := must(w.Pool().Query(w.t.Context(), `select i.arrival::int, get_byte(o.resp_sha, 0) from call_intent i join call_outcome o using (task_id, id)
		where task_id = 0 and i.worker = $1 and i.boundary = 0 and i.op = 0 and i.pipeline = $2 and i.try = 1 and o.limiter = i.limiter and o.took_us = 1000000 and o.resp_size = 12
		and o.result = 0 and o.xid = i.xid order by 1, 2`, int64(w.worker), w.pipeline))(w.t)
	defer rows.Close()
	var out [][2]int
	for rows.Next() {
		var x [2]int
		if err := rows.Scan(&x[0], &x[1]); err != nil {
			w.t.Fatal(err)
		}
		out = append(out, x)
	}
	return out
}

// TestReceipts: the record of a call is written in the commit of what it brought, names the arrival that is on record, is there
// once however often it is given, and not at all where the arrival cannot be written.
func TestReceipts(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 9})
	first := w.file("a/1")
	first.Receipt = w.receipt(first.Arrival.ID, 1)
	again := w.file("a/1") // the same bytes once more, which are another call
	again.Receipt = w.receipt(again.Arrival.ID, 2)
	must(w.Gather(t.Context(), []gantry.Gathering{first, again}))(t)
	id := int(first.Arrival.ID)
	if got := w.recorded(); len(got) != 2 || got[0] != [2]int{id, 1} || got[1] != [2]int{id, 2} {
		t.Fatalf("on record: %v, want two of arrival %d", got, id)
	}
	must(w.Gather(t.Context(), []gantry.Gathering{first}))(t) // nobody knew that it was committed
	bad := w.file("a/2")
	bad.Arrival.Name, bad.Receipt = "\x00", w.receipt(bad.Arrival.ID, 3)
	if _, err := w.Gather(t.Context(), []gantry.Gathering{bad}); gantry.KindOf(err) != gantry.Illegal {
		t.Error(err)
	}
	new := w.file("c/1")
	new.Receipt = w.receipt(new.Arrival.ID, 5)
	must(w.Gather(t.Context(), []gantry.Gathering{new}))(t)
	if n := w.count(`select count(*) from call_intent i join arrival a on a.id = i.arrival where a.id = $1 and i.xid::text = a.xmin::text`, new.Arrival.ID); n != 1 {
		t.Errorf("%d calls in the commit of their arrival, want 1", n)
	}
	x := w.file("b/1")
	task := []gantry.Admission{{Arrival: x.Arrival, PublicID: "t", Pipeline: w.pipeline, Lane: w.lane, Within: time.Hour}}
	for range 2 {
		must(w.Admit(t.Context(), task, nil, w.receipt(x.Arrival.ID, 4)))(t)
	}
	if got := w.recorded(); len(got) != 4 || got[3] != [2]int{int(x.Arrival.ID), 4} {
		t.Errorf("on record: %v", got)
	}
}

// TestGatherBesideAdmit: an object that comes into a collection and another way at one moment is one arrival; who comes second is told to come
// again, and then finds it.
func TestGatherBesideAdmit(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Count: 9})
	tx := must(w.Pool().Begin(t.Context()))(t)
	defer tx.Rollback(t.Context())
	x := w.file("a/1")
	if _, err := tx.Exec(t.Context(), `insert into arrival(id, source, ref_mac, version, size) values ($1, 'p/in', $2, '1', 3)`, x.Arrival.ID, x.Arrival.RefMAC[:]); err != nil {
		t.Fatal(err)
	}
	y := w.file("a/1")
	var second sync.WaitGroup
	second.Go(func() {
		if _, err := w.Gather(t.Context(), []gantry.Gathering{y}); gantry.KindOf(err) != gantry.Transient || gantry.CodeOf(err) == postgres.CodeBadRow {
			t.Errorf("it came at the same moment: %v", err)
		}
	})
	w.whileWaiting()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.Wait()
	if got := must(w.Gather(t.Context(), []gantry.Gathering{y}))(t); got[0].Known || got[0].Collection == 0 {
		t.Errorf("once more: %+v", got)
	}
	if n := w.count(`select count(*) from arrival`); n != 1 {
		t.Errorf("%d arrivals", n)
	}
}
