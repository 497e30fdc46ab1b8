package gate

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// wake is a session that may be dead.
type wake struct {
	booth
	dead bool
}

func (d *wake) Alive() bool { return !d.dead }

// The intent and the outcome of what came have one id, and it is told of once it is written. A process without a lease begins no record.
func TestReceipt(t *testing.T) {
	t.Parallel()
	in := gantry.Intent{Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: 7, Arrival: 9, Pipeline: 3, Try: 1}
	out := gantry.Outcome{RespSize: 12, RespSHA: gantry.Digest{1}, Took: time.Second}
	told := 0
	open := func(dead bool) *Gate {
		g := New(&wake{dead: dead}, gantry.NewIDs(time.Now, neverEnding{}), time.Now)
		g.Ended = func(_ context.Context, i gantry.Intent, o gantry.Outcome) {
			if told++; i.ID != o.ID || i.Arrival != 9 {
				t.Errorf("%+v and %+v", i, o)
			}
		}
		return g
	}
	if _, err := open(true).Receipt(5, in, out); !errors.Is(err, gantry.ErrFenced) {
		t.Errorf("no lease: %v", err)
	}
	g := open(false)
	r, err := g.Receipt(5, in, out)
	if err != nil || told != 0 || r.Worker != 5 || r.Intent.ID == (gantry.UUID{}) || r.Intent.ID != r.Outcome.ID || r.Outcome.Limiter != 7 || r.Outcome.RespSize != 12 {
		t.Errorf("%+v, %v, told %d times", r, err, told)
	}
	g.Written(t.Context(), r)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// Stays of peers are summed up, failures have rows of their own up to a bound, and all of it is written once.
func TestCount(t *testing.T) {
	t.Parallel()
	c := NewControl(gantry.NewIDs(time.Now, neverEnding{}), time.Now)
	key := gantry.ControlKey{Boundary: gantry.AtSource, Limiter: 7}
	at := time.Now()
	for range 3 {
		c.Count(gantry.Control{ControlKey: key, To: at, Took: time.Second, RespSize: 10})
	}
	for range maxFailures + 5 {
		c.Count(gantry.Control{ControlKey: key, Kind: gantry.Denied, Code: "calling_ae"})
	}
	var rows []gantry.Control
	c.flush(t.Context(), func(_ context.Context, r []gantry.Control) error { rows = r; return nil })
	sum := rows[len(rows)-1]
	if len(rows) != maxFailures+1 || sum.Requests != 3+5 || sum.Failures != 5 || sum.RespSize != 30 || !sum.From.Equal(at.Add(-time.Second)) || c.failed != 0 {
		t.Errorf("%d rows, %+v, %d", len(rows), sum, c.failed)
	}
	if x := rows[0]; x.Requests != 1 || x.Failures != 1 || x.Code != "calling_ae" || x.ID == (gantry.UUID{}) || x.To.IsZero() {
		t.Errorf("%+v", x)
	}
}
