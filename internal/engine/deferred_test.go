package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// desk stands for a service that answers later, and for what the app does about it.
type desk struct {
	w *world
	gantry.Deferral
	mu        sync.Mutex
	ready     map[string]bool // by ticket
	fails     map[string]error
	heard     gantry.Heard
	polls     int
	abandoned []string
	ticket    func(key string) (gantry.Ticket, error)
	callbacks []string // addresses that were told
	collect   error    // what collecting fails with
}

// defers makes the world's processor one that answers later.
func (w *world) defers(d gantry.Deferral) *desk {
	k := &desk{w: w, Deferral: d, ready: map[string]bool{}, fails: map[string]error{}}
	k.ticket = func(key string) (gantry.Ticket, error) { return gantry.Ticket{ID: key}, nil }
	for _, calls := range w.plan.Calls {
		for i := range calls {
			calls[i].Deferred = &Deferred{Deferral: d, Service: served{k}, Callbacks: d.Callback != ""}
		}
	}
	w.tickets = k
	return k
}

func (k *desk) Process(context.Context, *gantry.Request) error { return errors.New("it answers later") }

func (k *desk) Submit(ctx context.Context, r *gantry.Request, callback string) (gantry.Ticket, error) {
	k.mu.Lock()
	k.callbacks = append(k.callbacks, callback)
	k.mu.Unlock()
	k.w.mu.Lock()
	k.w.called = append(k.w.called, r.Key)
	k.w.mu.Unlock()
	t, err := k.ticket(r.Key)
	if err == nil && t.ID == "" {
		err = r.Receive(ctx, gantry.MediaJSON, 1, strings.NewReader("0"))
	}
	return t, err
}

func (k *desk) Poll(_ context.Context, t gantry.Ticket) (gantry.Progress, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.polls++
	return gantry.Progress{Ready: k.ready[t.ID]}, k.fails[t.ID]
}

func (k *desk) Collect(ctx context.Context, _ gantry.Ticket, r *gantry.Request) error {
	if k.collect != nil {
		return k.collect
	}
	return r.Receive(ctx, gantry.MediaJSON, 1, strings.NewReader("1"))
}

func (k *desk) Unpack(ctx context.Context, cb gantry.Callback, r *gantry.Request) error {
	b, err := cb.Body(ctx)
	if err != nil {
		return err
	}
	if _, err := cb.Body(ctx); err == nil {
		return errors.New("the body was given out twice")
	}
	return r.Receive(ctx, gantry.MediaJSON, -1, b)
}

func (k *desk) Abandon(_ context.Context, t gantry.Ticket) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.abandoned = append(k.abandoned, t.ID)
	return errors.New("it is away")
}

func (k *desk) Answers(context.Context, gantry.TaskID, int16, int16, int16) (gantry.Heard, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	h := k.heard
	h.Answers = nil
	for _, a := range k.heard.Answers {
		k.w.mu.Lock()
		p := k.w.parts[a.PartKey]
		k.w.mu.Unlock()
		if p.Status == gantry.PartOut && p.Submits == a.Try || p.Status == gantry.PartPlanned && p.Submits == a.Try-1 {
			h.Answers = append(h.Answers, a)
		}
	}
	return h, nil
}

func (k *desk) Address(s gantry.Submission) (token, address string) {
	token = fmt.Sprintf("%d/%d", s.Ordinal, s.Try)
	return token, "http://here/" + token
}

func (k *desk) Control(ctx context.Context, _ gantry.ControlKey) context.Context { return ctx }
func (k *desk) Came(_ context.Context, r io.ReadCloser) io.ReadCloser            { return r }

// served adds the one method whose name the settings have too.
type served struct{ *desk }

func (s served) Deferral() *gantry.Deferral { return &s.desk.Deferral }

func out(p gantry.Part) bool { return p.Status == gantry.PartOut }

// TestParkedWhileOut submits each part once and leaves until the first poll is due, a step later so that others go along.
func TestParkedWhileOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(3)
		k := w.defers(gantry.Deferral{Poll: 10 * time.Second, Deadline: time.Hour})
		tr := w.step(t.Context(), gantry.Inferring, 0)
		want := gantry.Transition{Lease: lease, From: gantry.Inferring, To: gantry.Inferring, Change: gantry.Park, After: 11 * time.Second}
		if diff := cmp.Diff(want, tr); diff != "" {
			t.Fatalf("left with (-want +got):\n%s", diff)
		}
		for _, p := range w.parts {
			if !out(p) || p.Submits != 1 || p.Attempt != 0 || p.Out.Limiter != 1 || p.Out.For != time.Hour.Microseconds() || p.DueIn != (10*time.Second).Microseconds() {
				t.Errorf("went out as %+v", p)
			}
		}
		// A process that finds them before their time asks nobody.
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Park || k.polls != 0 || len(w.called) != 3 {
			t.Errorf("claimed early: %+v, %d polls, called %v", tr, k.polls, w.called)
		}
		w.pass(10 * time.Second)
		k.ready["id/0/a/m/1/0"] = true
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Park || k.polls != 3 || w.parts[gantry.PartKey{Ordinal: 1}].Status != gantry.PartOK {
			t.Errorf("when they are due: %+v, %d polls, %+v", tr, k.polls, w.parts)
		}
		w.pass(10 * time.Second)
		k.ready["id/0/a/m/0/0"], k.ready["id/0/a/m/2/0"] = true, true
		if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding || k.polls != 5 || len(w.called) != 3 {
			t.Errorf("at the end: %+v, %d polls, called %v", tr, k.polls, w.called)
		}
	})
}

// pass lets the times that the store holds run on.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, p := range w.parts {
		if p.DueIn >= 0 {
			p.DueIn = max(0, p.DueIn-d.Microseconds())
		}
		p.Out.For, p.Out.Left = p.Out.For-d.Microseconds(), p.Out.Left-d.Microseconds()
		w.parts[k] = p
	}
}

// TestPollsThatFail are repeated, unless they say that the job is over.
func TestPollsThatFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		status gantry.PartStatus
		again  time.Duration // until it is asked, or submitted, again
	}{
		"away":          {gantry.Errorf(gantry.Transient, "connection_refused", "x"), gantry.PartOut, time.Second},
		"asks to wait":  {&gantry.Error{Kind: gantry.Unavailable, Code: "http_429", RetryAfter: 9 * time.Second}, gantry.PartOut, 9 * time.Second},
		"lost":          {gantry.Errorf(gantry.Transient, gantry.CodeJobLost, "x"), gantry.PartPlanned, 500 * time.Millisecond},
		"lost for good": {gantry.Errorf(gantry.NotFound, gantry.CodeJobLost, "x"), gantry.PartPlanned, 500 * time.Millisecond},
		"failed, again": {gantry.Errorf(gantry.Transient, gantry.CodeJobFailed, "x"), gantry.PartPlanned, 500 * time.Millisecond},
		"not allowed":   {gantry.Errorf(gantry.Denied, "http_401", "x"), gantry.PartOut, time.Second},
		"failed":        {gantry.Errorf(gantry.Permanent, gantry.CodeJobFailed, "x"), gantry.PartFailed, -time.Microsecond},
		"not there":     {gantry.Errorf(gantry.NotFound, "http_404", "x"), gantry.PartOut, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
				w.leaves(1)
				k := w.defers(gantry.Deferral{Poll: time.Second, Deadline: time.Hour, Heartbeat: time.Minute})
				w.step(t.Context(), gantry.Inferring, 0)
				w.pass(time.Second)
				k.fails["id/0/a/m/0/0"] = c.err
				w.step(t.Context(), gantry.Inferring, 0)
				p := w.parts[gantry.PartKey{}]
				if p.Status != c.status || p.DueIn != c.again.Microseconds() {
					t.Errorf("it is %s for %d µs, want %s for %s", p.Status, p.DueIn, c.status, c.again)
				}
				if out(p) && p.Out.For != (59*time.Second).Microseconds() {
					t.Errorf("a failed poll is a sign of life: %d µs", p.Out.For)
				}
			})
		})
	}
}

// TestCollectFails keeps the ticket of an answer that may be fetched another time, and counts the tries.
func TestCollectFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		status gantry.PartStatus
		out    bool
	}{
		"broken off":  {gantry.Errorf(gantry.Transient, "connection_reset", "x"), gantry.PartOut, true},
		"no sense":    {gantry.Errorf(gantry.BadResponse, "bad_json", "x"), gantry.PartPlanned, false},
		"lost":        {gantry.Errorf(gantry.Transient, gantry.CodeJobLost, "x"), gantry.PartPlanned, false},
		"not allowed": {gantry.Errorf(gantry.Denied, "http_403", "x"), gantry.PartFailed, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
				w.leaves(1)
				k := w.defers(gantry.Deferral{Poll: time.Second, Deadline: time.Hour})
				w.step(t.Context(), gantry.Inferring, 0)
				w.pass(time.Second)
				k.ready["id/0/a/m/0/0"], k.collect = true, c.err
				w.step(t.Context(), gantry.Inferring, 0)
				p := w.parts[gantry.PartKey{}]
				if p.Status != c.status || p.Attempt != 1 || (p.Out.Ticket != "") != c.out || c.out && p.Out.For != (time.Hour-time.Second).Microseconds() {
					t.Errorf("it is %+v", p)
				}
				for range 2 {
					w.pass(time.Minute)
					w.step(t.Context(), gantry.Inferring, 0)
				}
				if p := w.parts[gantry.PartKey{}]; c.out && (p.Status != gantry.PartFailed || len(w.called) != 1) {
					t.Errorf("after three tries it is %+v, submitted %d times", p, len(w.called))
				}
			})
		})
	}
}

// TestExpires gives up what was not answered, and submits again under the same key.
func TestExpires(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		d    gantry.Deferral
		code gantry.Code
	}{
		"deadline":  {gantry.Deferral{Callback: "x", Deadline: time.Minute}, CodeNoAnswer},
		"heartbeat": {gantry.Deferral{Callback: "x", Deadline: time.Hour, Heartbeat: time.Minute}, CodeNoHeartbeat},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
				w.leaves(1)
				k := w.defers(c.d)
				if tr := w.step(t.Context(), gantry.Inferring, 0); tr.After != time.Minute+overdue || tr.Heard != 1 {
					t.Errorf("parked as %+v", tr)
				}
				w.pass(time.Minute + overdue/2)
				w.step(t.Context(), gantry.Inferring, 0)
				if p := w.parts[gantry.PartKey{}]; !out(p) {
					t.Errorf("given up before an answer of the last moment is surely known: %+v", p)
				}
				w.pass(overdue)
				w.step(t.Context(), gantry.Inferring, 0)
				p := w.parts[gantry.PartKey{}]
				if p.Status != gantry.PartPlanned || p.Attempt != 1 || p.Reason != c.code || p.Out != (gantry.Outstanding{}) || len(k.abandoned) != 1 {
					t.Errorf("given up as %+v, abandoned %v", p, k.abandoned)
				}
				w.pass(time.Minute)
				w.step(t.Context(), gantry.Inferring, 0)
				if p := w.parts[gantry.PartKey{}]; !out(p) || p.Submits != 2 {
					t.Errorf("submitted again as %+v", p)
				}
				if diff := cmp.Diff([]string{"http://here/0/1", "http://here/0/2"}, k.callbacks); diff != "" {
					t.Errorf("addresses (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff([]string{"id/0/a/m/0/0", "id/0/a/m/0/0"}, w.called); diff != "" {
					t.Errorf("keys (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestCallbacksAreTakenIn reads the answers that came, also that of a submission whose ticket was lost, without
// submitting it again.
func TestCallbacksAreTakenIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(2)
	k := w.defers(gantry.Deferral{Callback: "x", Deadline: time.Hour})
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Park || tr.Heard != 1 {
		t.Fatalf("parked as %+v", tr)
	}
	lost := w.parts[gantry.PartKey{Ordinal: 1}]
	lost.Status, lost.Submits, lost.Out = gantry.PartPlanned, 0, gantry.Outstanding{}
	w.parts[lost.PartKey] = lost
	for i := range int32(2) {
		k.heard.Count++
		k.heard.Answers = append(k.heard.Answers, gantry.Received{Submission: gantry.Submission{Task: 7, Try: 1, PartKey: gantry.PartKey{Ordinal: i}},
			Status: gantry.CallbackDone, Body: []byte(`{"a":1}`)})
	}
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Errorf("left with %+v, parts %+v", tr, w.parts)
	}
	if len(w.called) != 2 || k.polls != 0 {
		t.Errorf("called %v, %d polls", w.called, k.polls)
	}
	for _, x := range w.items[3:] {
		if !bytes.Equal(x.Body, []byte(`{"a":1}`)) {
			t.Errorf("took in %q", x.Body)
		}
	}
}
