package postgres_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// request is what a peer asked for by a name.
func (b *bed) owe(peer string, name byte, request string, hold time.Duration) (gantry.Debt, error) {
	return b.Owe(b.t.Context(), "p/in", gantry.Digest{name}, gantry.Debt{Peer: peer, Request: []byte(request)}, hold)
}

func (b *bed) dueDebts(source string, n int) []gantry.Debt {
	b.t.Helper()
	return must(b.DueDebts(b.t.Context(), source, n, time.Minute))(b.t)
}

// TestDebt goes through the life of a debt: it is held, waits, changes hands, and is forgotten at its end.
func TestDebt(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	first := must(b.owe("CT", 1, "what", time.Minute))(t)
	if got := b.dueDebts("p/in", 9); len(got) != 0 {
		t.Errorf("it is held, and is due: %+v", got)
	}
	first.Tries = 2
	if err := b.PostponeDebt(t.Context(), first, 0); err != nil {
		t.Fatal(err)
	}
	if got := b.dueDebts("p/other", 9); len(got) != 0 {
		t.Errorf("another source's: %+v", got)
	}
	b.exec(`update debt set at = at - interval '3 hours'`)
	got := b.dueDebts("p/in", 9)
	if len(got) != 1 || got[0].ID != first.ID || got[0].Turn != first.Turn+1 || got[0].Peer != "CT" || string(got[0].Request) != "what" || got[0].Tries != 2 || got[0].Age < 3*time.Hour || got[0].Age > 4*time.Hour {
		t.Fatalf("%+v", got)
	}
	// Who held it before says nothing that counts.
	if err := b.SettleDebt(t.Context(), first, ""); err != nil {
		t.Fatal(err)
	}
	if err := b.PostponeDebt(t.Context(), first, 0); err != nil {
		t.Fatal(err)
	}
	if again := b.dueDebts("p/in", 9); len(again) != 0 {
		t.Errorf("it is let go by who does not hold it: %+v", again)
	}
	if err := b.SettleDebt(t.Context(), got[0], "report_refused"); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`select count(*) from debt where due is null and request is null and given = 'report_refused' and tries = 2 and ended_at is not null`); n != 1 {
		t.Error("it has not ended as it should, or what was asked is kept")
	}
}

// TestDebtAskedAgain: the same request begins anew, also after its end; another one under its name is refused.
func TestDebtAskedAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	first := must(b.owe("CT", 1, "what", 0))(t)
	if _, err := b.owe("CT", 1, "something else", 0); gantry.KindOf(err) != gantry.Illegal || gantry.CodeOf(err) != gantry.CodeDuplicate {
		t.Errorf("something else: %v", err)
	}
	if err := b.SettleDebt(t.Context(), first, "no_report_address"); err != nil {
		t.Fatal(err)
	}
	again := must(b.owe("CT", 1, "what", time.Minute))(t)
	if again.ID != first.ID || again.Turn == first.Turn {
		t.Errorf("%+v after %+v", again, first)
	}
	if n := b.count(`select count(*) from debt where due > now() and request = 'what' and given is null and ended_at is null and tries = 0`); n != 1 {
		t.Error("it has not begun anew")
	}
	other := must(b.owe("MR", 1, "something else", 0))(t)
	if other.ID == first.ID {
		t.Error("two peers have one debt")
	}
}

// TestDebtsAtOnce: each debt is one process's, however many look for them.
func TestDebtsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for i := range byte(100) {
		must(b.owe("CT", i, "what", 0))(t)
	}
	var g sync.WaitGroup
	var got atomic.Int32
	for range 8 {
		g.Go(func() {
			for {
				list, err := b.DueDebts(t.Context(), "p/in", 3, time.Minute)
				if got.Add(int32(len(list))); err != nil || len(list) == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	g.Wait()
	if n := b.count(`select count(*) from debt where turn = 1`); got.Load() != 100 || n != 100 {
		t.Errorf("%d were taken, %d once", got.Load(), n)
	}
}

// TestDebtsTooMany bounds what one source owes; what is owed already can be asked again.
func TestDebtsTooMany(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	must(b.owe("CT", 1, "what", 0))(t)
	b.exec(`insert into debt(source, peer, name, digest, due) select 'p/in', 'CT', ('x' || n)::bytea, '', now() from generate_series(1, 9999) n`)
	if _, err := b.owe("CT", 2, "what", 0); gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != gantry.CodeTooMany {
		t.Errorf("one too many: %v", err)
	}
	if _, err := b.owe("CT", 1, "what", 0); err != nil {
		t.Errorf("asked again: %v", err)
	}
	b.exec(`update debt set due = null where name = 'x7'`)
	if _, err := b.owe("CT", 2, "what", 0); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

// TestSweepDebts: what nobody takes up is given up, what ended long ago is removed.
func TestSweepDebts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for i := range byte(4) {
		d := must(b.owe("CT", i, "what", 0))(t)
		if i < 2 {
			if err := b.SettleDebt(t.Context(), d, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.exec(`update debt set ended_at = now() - interval '2 days' where name = $1`, append([]byte{0}, make([]byte, 31)...))
	b.exec(`update debt set due = now() - interval '2 days' where name = $1`, append([]byte{2}, make([]byte, 31)...))
	if n := must(b.SweepDebts(t.Context(), 24*time.Hour, 100))(t); n != 1 {
		t.Errorf("%d removed", n)
	}
	if n := b.count(`select count(*) from debt where given = 'unserved' and request is null and due is null`); n != 1 || b.count(`select count(*) from debt`) != 3 {
		t.Errorf("%d given up", n)
	}
}
