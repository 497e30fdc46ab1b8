package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestInboxHastens asks for what an inbox says is there, at once or when it will be, and not when the next look would be due. What it says
// of parts that are not out is of no interest.
func TestInboxHastens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(3)
		k := w.defers(gantry.Deferral{Poll: time.Hour, Deadline: 24 * time.Hour, Inbox: true})
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Park || tr.After != time.Hour+stepMax || tr.Heard != 1 {
			t.Fatalf("left with %+v", tr)
		}
		k.heard = gantry.Heard{Count: 2, Due: []gantry.DueAnswer{{Ordinal: 1}, {Ordinal: 2, In: time.Minute.Microseconds()}, {Ordinal: 1, Generation: 7}, {Ordinal: 9}}}
		k.ready["id/0/a/m/1/0"] = true
		tr := w.step(t.Context(), gantry.Inferring, 0)
		if tr.Change != gantry.Park || tr.After != time.Minute+stepMin || tr.Heard != 3 || k.polls != 1 {
			t.Errorf("left with %+v after %d looks", tr, k.polls)
		}
		if p := w.parts[gantry.PartKey{Ordinal: 1}]; p.Status != gantry.PartOK {
			t.Errorf("what is there was not collected: %+v", p)
		}
		k.heard.Due = []gantry.DueAnswer{{Ordinal: 2, In: (90 * time.Second).Microseconds()}} // another one came meanwhile
		w.pass(time.Minute)
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.After != 90*time.Second+stepMin {
			t.Errorf("where it will be complete later it left with %+v", tr)
		}
		polls := k.polls
		w.pass(90 * time.Second)
		k.ready["id/0/a/m/2/0"], k.heard.Due = true, []gantry.DueAnswer{{Ordinal: 1}, {Ordinal: 2}}
		w.step(t.Context(), gantry.Inferring, 0)
		if p := w.parts[gantry.PartKey{Ordinal: 2}]; p.Status != gantry.PartOK || k.polls != polls+1 {
			t.Errorf("after %d looks it is %+v", k.polls, p)
		}
	})
}

// TestInboxBeforeTheTicket collects within the step that submitted what came before the ticket did. Without the inbox's word, which is
// the control, it waits for the next look.
func TestInboxBeforeTheTicket(t *testing.T) {
	t.Parallel()
	for _, inbox := range []bool{true, false} {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(1)
		k := w.defers(gantry.Deferral{Poll: time.Hour, Deadline: 24 * time.Hour, Inbox: inbox})
		k.ready["id/0/a/m/0/0"], k.heard = true, gantry.Heard{Count: 1, Due: []gantry.DueAnswer{{}}}
		if tr := w.step(t.Context(), gantry.Inferring, 0); (tr.To == gantry.Responding) != inbox {
			t.Errorf("with an inbox %v it left with %+v", inbox, tr)
		}
	}
}
