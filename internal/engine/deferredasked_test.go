package engine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestAtWorkAgain asks on for a job that was ready and is at work again: that is no try, however often it happens.
func TestAtWorkAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(1)
		k := w.defers(gantry.Deferral{Poll: time.Second, Deadline: time.Hour})
		w.step(t.Context(), gantry.Inferring, 0)
		k.ready["id/0/a/m/0/0"], k.collect = true, gantry.Errorf(gantry.Transient, gantry.CodeNotReady, "x")
		for range 10 {
			w.pass(time.Second)
			w.step(t.Context(), gantry.Inferring, 0)
			if p := w.parts[gantry.PartKey{}]; !out(p) || p.Attempt != 0 || p.DueIn != time.Second.Microseconds() {
				t.Fatalf("it is %+v", p)
			}
		}
		k.collect = nil
		w.pass(time.Second)
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding || len(w.called) != 1 {
			t.Errorf("left with %+v, submitted %d times", tr, len(w.called))
		}
	})
}

// TestUncalled leaves a job alone that has no URL to be asked at, so that an answer of our own is no sign of its life.
func TestUncalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(1)
		k := w.defers(gantry.Deferral{Poll: time.Second, Callback: "x", Deadline: time.Hour, Heartbeat: time.Minute})
		k.ticket = func(string) (gantry.Ticket, error) { return gantry.Ticket{ID: gantry.TicketUncalled}, nil }
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.After != time.Minute+overdue {
			t.Errorf("parked for %s", tr.After)
		}
		w.pass(30 * time.Second)
		w.step(t.Context(), gantry.Inferring, 0)
		if k.polls != 0 {
			t.Errorf("%d polls", k.polls)
		}
		w.pass(31*time.Second + overdue)
		w.step(t.Context(), gantry.Inferring, 0)
		if p := w.parts[gantry.PartKey{}]; out(p) || p.Reason != CodeNoHeartbeat {
			t.Errorf("without a sign of life it is %+v", p)
		}
	})
}

// TestAnswersWithoutAddress takes in what came as callbacks to a submission of another process, though none could
// come to one of this process.
func TestAnswersWithoutAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(1)
	k := w.defers(gantry.Deferral{Poll: time.Minute, Callback: "x", Deadline: time.Hour})
	w.step(t.Context(), gantry.Inferring, 0)
	w.plan.Calls[0][0].Deferred.Callbacks = false
	k.heard = gantry.Heard{Count: 1, Answers: []gantry.Received{{Submission: gantry.Submission{Task: 7, Try: 1}, Status: gantry.CallbackDone, Body: []byte(`{"a":1}`)}}}
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding || k.polls != 0 {
		t.Errorf("left with %+v, %d polls", tr, k.polls)
	}
}
