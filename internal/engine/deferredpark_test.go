package engine

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestNoUnits parks a task that gets no unit, for a while, and one whose other parts are out until they are answered.
func TestNoUnits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(3)
	w.defers(gantry.Deferral{Poll: time.Second, Deadline: time.Hour})
	w.units = 0
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Park || tr.After != unitRetry || len(w.called) != 0 {
		t.Errorf("without a unit %+v", tr)
	}
	w.units = 2
	tr := w.step(t.Context(), gantry.Inferring, 0)
	if n := len(w.called); tr.Change != gantry.Park || tr.After > 1100*time.Millisecond || n != 2 {
		t.Errorf("with two %+v after %d calls", tr, n)
	}
}

// slowDesk has an answer for the second processor come while the first one is still looked after.
type slowDesk struct {
	*desk
	begun time.Time
}

func (s slowDesk) Answers(_ context.Context, _ gantry.TaskID, _, _, processor int16) (h gantry.Heard, err error) {
	if processor == 0 {
		time.Sleep(time.Second)
	}
	if time.Since(s.begun) >= 500*time.Millisecond {
		h.Count = 1
	}
	return h, nil
}

// TestHeardByAll parks with the number of answers that every processor of a stage has looked at, not with the
// highest that one of them saw: the task is run again for the one that came in between.
func TestHeardByAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := each("a", gantry.EachPart, gantry.OnErrorFail)
		st.Mode, st.Call = gantry.Fanout, []string{"m", "n"}
		w := newWorld(t, st)
		w.leaves(1)
		w.tickets = slowDesk{w.defers(gantry.Deferral{Callback: "x", Deadline: time.Hour}), time.Now()}
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Park || tr.Heard != 1 || len(w.called) != 2 {
			t.Errorf("parked as %+v after %v", tr, w.called)
		}
	})
}

// TestStopWhileOut hands a task back at once: nothing new is asked or submitted.
func TestStopWhileOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // a poll is due after 1 ms, which a busy machine may take for a step
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(3)
		k := w.defers(gantry.Deferral{Poll: time.Millisecond, Deadline: time.Hour})
		w.units = 2
		w.step(t.Context(), gantry.Inferring, 0)
		w.pass(time.Second)
		w.units = -1
		close(w.stop)
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Release || k.polls != 0 || len(w.called) != 2 {
			t.Errorf("left with %+v after %d polls and %v", tr, k.polls, w.called)
		}
	})
}

// TestParkEndsWithTheState wakes a task when its state's time is up, however long its answers may take.
func TestParkEndsWithTheState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(1)
		w.defers(gantry.Deferral{Callback: "x", Deadline: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if tr := w.step(ctx, gantry.Inferring, 0); tr.Change != gantry.Park || tr.After != time.Minute {
			t.Errorf("parked as %+v", tr)
		}
		<-ctx.Done()
		if tr := w.step(ctx, gantry.Inferring, 0); tr.To != gantry.Failed || tr.Code != gantry.CodeStateTimeout {
			t.Errorf("left with %+v", tr)
		}
	})
}

// TestTickets holds what a service gives to what can be kept; without one it has answered.
func TestTickets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		id     string
		status gantry.PartStatus
		code   gantry.Code
	}{
		"none":     {"", gantry.PartOK, ""},
		"longest":  {strings.Repeat("x", maxTicket), gantry.PartOut, ""},
		"too long": {strings.Repeat("x", maxTicket+1), gantry.PartPlanned, CodeBadTicket},
		"NUL":      {"a\x00b", gantry.PartPlanned, CodeBadTicket},
		"no text":  {"a\xff", gantry.PartPlanned, CodeBadTicket},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
			w.leaves(1)
			w.defers(gantry.Deferral{Poll: time.Second, Deadline: time.Hour}).ticket = func(string) (gantry.Ticket, error) { return gantry.Ticket{ID: c.id}, nil }
			w.step(t.Context(), gantry.Inferring, 0)
			if p := w.parts[gantry.PartKey{}]; p.Status != c.status || p.Reason != c.code || p.Submits != 1 {
				t.Errorf("it is %+v", p)
			}
		})
	}
}
