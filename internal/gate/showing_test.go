package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// desk is a session that keeps what it is told, and how many units are out.
type desk struct {
	units  int
	saw    []gantry.Showing
	out    []int // units out when it was told
	refuse error
	alive  bool

	unrecorded error // what every commit fails with
}

func (d *desk) Commit(context.Context, *gantry.Write) error { return d.unrecorded }
func (d *desk) Alive() bool                                 { return d.alive }
func (*desk) Hold(context.Context, int32, int16, time.Duration) (func(bool), error) {
	return func(bool) {}, nil
}

func (d *desk) Acquire(context.Context, int32, int16) (func(), error) {
	if d.refuse != nil {
		return nil, d.refuse
	}
	d.units++
	return func() { d.units = 0 }, nil
}
func (d *desk) Saw(_ int32, x gantry.Showing) {
	d.saw, d.out = append(d.saw, x), append(d.out, d.units)
}

// TestWhatCallsShow holds what each end of a call says about its target.
func TestWhatCallsShow(t *testing.T) {
	t.Parallel()
	asked := func(d time.Duration) error {
		e := gantry.Errorf(gantry.Unavailable, "http_429", "no room")
		e.RetryAfter = d
		return e
	}
	fails := func(k gantry.Kind, c gantry.Code) error { return gantry.Errorf(k, c, "no") }
	for name, c := range map[string]struct {
		err     error
		begun   bool
		status  int
		cancel  bool
		verdict gantry.Sign
		wait    time.Duration
		busy    bool
		out     int // units still out when the session hears of it
	}{
		"answered":              {begun: true, verdict: gantry.Alive},
		"asked to wait":         {err: asked(time.Minute), begun: true, status: 429, verdict: gantry.Alive, wait: time.Minute, busy: true, out: 1},
		"asked for a year":      {err: asked(8760 * time.Hour), begun: true, status: 503, verdict: gantry.Alive, wait: gantry.MaxRest, busy: true, out: 1},
		"asked for less than 0": {err: asked(-time.Minute), begun: true, status: 503, verdict: gantry.Failing, busy: true, out: 1},
		"no room":               {err: asked(0), begun: true, status: 429, verdict: gantry.Failing, busy: true, out: 1},
		"an error of its own":   {err: fails(gantry.Transient, "http_500"), begun: true, status: 500, verdict: gantry.Failing},
		"no answer":             {err: fails(gantry.Timeout, CodeHeaderTimeout), begun: true, verdict: gantry.Failing, busy: true},
		"refused connection":    {err: fails(gantry.Transient, CodeConnectionRefused), verdict: gantry.Failing},
		"a broken input":        {err: fails(gantry.Transient, "blob_gone"), verdict: gantry.Unknown},
		"a bad request":         {err: fails(gantry.Permanent, "http_400"), begun: true, status: 400, verdict: gantry.Alive},
		"a bad answer":          {err: fails(gantry.BadResponse, "bad_json"), begun: true, status: 200, verdict: gantry.Alive},
		"an unknown error":      {err: errors.New("?"), begun: true, verdict: gantry.Unknown},
		"broken off":            {err: fails(gantry.Timeout, CodeTimeout), begun: true, cancel: true, verdict: gantry.Unknown},
	} {
		d := &desk{alive: true}
		ctx, cancel := context.WithCancel(t.Context())
		g := New(d, gantry.NewIDs(time.Now, zeros{}), time.Now)
		g.Call(ctx, gantry.CallSpec{Intent: gantry.Intent{Boundary: gantry.AtProcessor}}, func(ctx context.Context) error {
			m := MeterFrom(ctx)
			if c.begun {
				m.Began()
			}
			if c.status > 0 {
				m.SetStatus(c.status)
			}
			m.LastByte()
			if c.cancel {
				cancel()
			}
			return c.err
		}, nil)
		cancel()
		if len(d.saw) != 1 {
			t.Fatalf("%s: told %d times", name, len(d.saw))
		}
		x := d.saw[0]
		want := gantry.Showing{Began: x.Began, Took: x.Took, Verdict: c.verdict, Wait: c.wait, Busy: c.busy}
		if diff := cmp.Diff(want, x); diff != "" || d.out[0] != c.out || d.units != 0 || x.Began.IsZero() {
			t.Errorf("%s: %d units out then, %d now (-want +got):\n%s", name, d.out[0], d.units, diff)
		}
	}
}

// TestCallsThatDoNotLeaveShowNothing: one that got no unit is not told of, one whose lease was lost says nothing.
func TestCallsThatDoNotLeaveShowNothing(t *testing.T) {
	t.Parallel()
	send := func(context.Context) error { t.Error("it was sent"); return nil }
	d := &desk{alive: true, refuse: gantry.ErrHeld}
	g := New(d, gantry.NewIDs(time.Now, zeros{}), time.Now)
	if err := g.Call(t.Context(), gantry.CallSpec{}, send, nil); !errors.Is(err, gantry.ErrHeld) || len(d.saw) != 0 {
		t.Errorf("%v, told %+v", err, d.saw)
	}
	d = &desk{}
	g = New(d, gantry.NewIDs(time.Now, zeros{}), time.Now)
	if err := g.Call(t.Context(), gantry.CallSpec{}, send, nil); !errors.Is(err, gantry.ErrFenced) || len(d.saw) != 1 || d.saw[0].Verdict != gantry.Unknown {
		t.Errorf("%v, told %+v", err, d.saw)
	}
}

// zeros is a source of randomness without any.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestOnlyRequestsShow: an answer that was sent to us shows nothing of the target, and a submission that was given up
// before it was on record says that it showed nothing: it may have been the probe.
func TestOnlyRequestsShow(t *testing.T) {
	t.Parallel()
	d := &desk{alive: true}
	g := New(d, gantry.NewIDs(time.Now, rand.Reader), time.Now)
	nothing := func(context.Context) error { return nil }
	err := g.Call(t.Context(), gantry.CallSpec{Unit: gantry.UnitNone, Intent: gantry.Intent{Boundary: gantry.AtProcessor, Op: gantry.OpCallback}}, nothing, nil)
	if err != nil || len(d.saw) != 0 {
		t.Errorf("%v: a callback shows %+v", err, d.saw)
	}
	d.unrecorded = gantry.ErrFenced
	err = g.Call(t.Context(), gantry.CallSpec{Unit: gantry.UnitKept, Intent: gantry.Intent{Boundary: gantry.AtProcessor, Op: gantry.OpSubmit}}, nothing, nil)
	if !errors.Is(err, gantry.ErrFenced) || len(d.saw) != 1 || d.saw[0].Verdict != gantry.Unknown || d.saw[0].Began.IsZero() {
		t.Errorf("%v: a submission that was not recorded shows %+v", err, d.saw)
	}
}
