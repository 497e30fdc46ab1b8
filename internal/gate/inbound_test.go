package gate

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// keepsake is a session that keeps what is committed.
type keepsake struct {
	booth
	writes []*gantry.Write
	fault  error
	dead   bool
}

func (d *keepsake) Commit(_ context.Context, w *gantry.Write) error {
	d.writes = append(d.writes, w)
	return d.fault
}

func (d *keepsake) Alive() bool { return !d.dead }

// What came is one commit, of intent and outcome under one id; what is not on record is not told of.
func TestCame(t *testing.T) {
	t.Parallel()
	in := gantry.Intent{Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: 7, Arrival: 9, Pipeline: 3, Try: 1}
	out := gantry.Outcome{RespSize: 12, RespSHA: gantry.Digest{1}, Took: time.Second}
	for name, c := range map[string]struct {
		session *keepsake
		want    error
		n       int
	}{
		"taken":       {&keepsake{}, nil, 1},
		"no lease":    {&keepsake{dead: true}, gantry.ErrFenced, 0},
		"no database": {&keepsake{fault: errors.New("away")}, gantry.ErrNotRecorded, 1},
		"fenced":      {&keepsake{fault: gantry.ErrFenced}, gantry.ErrFenced, 1},
	} {
		g := New(c.session, gantry.NewIDs(time.Now, neverEnding{}), time.Now)
		told := 0
		g.Ended = func(_ context.Context, i gantry.Intent, o gantry.Outcome) {
			if told++; i.ID != o.ID || i.Arrival != 9 {
				t.Errorf("%s: %+v and %+v", name, i, o)
			}
		}
		if err := g.Came(t.Context(), in, out); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if len(c.session.writes) != c.n || (told == 1) != (c.want == nil) {
			t.Errorf("%s: %d commits, told %d times", name, len(c.session.writes), told)
		}
		for _, w := range c.session.writes {
			if w.Intent == nil || w.Outcome == nil || w.Intent.ID != w.Outcome.ID || w.Intent.ID == (gantry.UUID{}) || w.Outcome.Limiter != 7 || w.Outcome.RespSize != 12 {
				t.Errorf("%s: %+v, %+v", name, w.Intent, w.Outcome)
			}
		}
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
