package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// lease of the task in every test.
var lease = gantry.Lease{Task: 7, Seq: 3}

// TestWayOfATask takes a picture through every state, each in another process.
func TestWayOfATask(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail), each("b", gantry.EachPart, gantry.OnErrorFail))
	w.blobs["in"] = tinyPNG(t)
	for _, c := range []struct {
		state, to   gantry.State
		stage, next int16
		change      gantry.Change
		within      time.Duration
	}{
		{state: gantry.Queued, to: gantry.Extracting, within: time.Minute},
		{state: gantry.Extracting, to: gantry.Ingesting, within: 2 * time.Minute},
		{state: gantry.Ingesting, to: gantry.Inferring, within: 3 * time.Minute},
		{state: gantry.Inferring, to: gantry.Inferring, next: 1},
		{state: gantry.Inferring, stage: 1, to: gantry.Responding, next: 1, within: 4 * time.Minute},
		{state: gantry.Responding, stage: 1, to: gantry.Done, next: 1, change: gantry.End},
	} {
		want := gantry.Transition{Lease: lease, From: c.state, To: c.to, Stage: c.next, Change: c.change, Within: c.within}
		if diff := cmp.Diff(want, w.step(t.Context(), c.state, c.stage)); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", c.state, diff)
		}
	}
	if diff := cmp.Diff([]string{"id/0/a/m/0/0", "id/0/b/m/0/0"}, w.calledKeys()); diff != "" {
		t.Errorf("called (-want +got):\n%s", diff)
	}
	if last := w.put[len(w.put)-1]; len(w.put) != 3 || last != "id/_manifest.json" {
		t.Errorf("delivered %v, want two outputs and then the manifest", w.put)
	}
}

// TestResume begins where a process that died stopped: one part answered, one failed once, one
// never begun.
func TestResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(3)
	ctx, die := context.WithCancelCause(t.Context())
	var n atomic.Int32
	w.process = func(ctx context.Context, r *gantry.Request) error {
		if n.Add(1) == 2 {
			die(errors.New("killed"))
			return ctx.Err()
		}
		return answer1(gantry.MediaJSON, `1`)(ctx, r)
	}
	if tr := w.step(ctx, gantry.Inferring, 0); tr.Change != gantry.Release {
		t.Fatalf("the first process left with %+v", tr)
	}
	answered := map[string]bool{}
	for k, p := range w.parts {
		if p.Status == gantry.PartOK {
			answered[fmt.Sprintf("id/0/a/m/%d/0", k.Ordinal)] = true
		}
		if p.Status != gantry.PartOK && p.Attempt != 0 {
			t.Errorf("part %d counts a try that a dying process broke off", k.Ordinal)
		}
	}
	if len(answered) == 0 || len(answered) == 3 {
		t.Fatalf("%d parts answered before the end", len(answered))
	}
	w.called, w.process = nil, answer1(gantry.MediaJSON, `2`)
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding {
		t.Fatalf("the second process left with %+v", tr)
	}
	again := w.calledKeys()
	if len(again) != 3-len(answered) {
		t.Errorf("called again %v, answered before %v", again, answered)
	}
	for _, k := range again {
		if answered[k] {
			t.Errorf("%s was answered and called again", k)
		}
	}
	ids := map[gantry.ItemID]bool{}
	for _, x := range w.items {
		if ids[x.ID] {
			t.Errorf("item %d is there twice", x.ID)
		}
		ids[x.ID] = true
	}
	if len(ids) != 7 {
		t.Errorf("%d items, want the original, its 3 entries and 3 answers", len(ids))
	}
}

// TestStop hands the task back: before a state's work, and between parts.
func TestStop(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before bool }{"before": {true}, "between parts": {false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
			w.leaves(8)
			if c.before {
				close(w.stop)
			}
			var n atomic.Int32
			w.process = func(ctx context.Context, r *gantry.Request) error {
				if n.Add(1) == 1 && !c.before {
					close(w.stop)
				}
				return answer1(gantry.MediaJSON, `1`)(ctx, r)
			}
			want := gantry.Transition{Lease: lease, From: gantry.Inferring, To: gantry.Inferring, Change: gantry.Release}
			if diff := cmp.Diff(want, w.step(t.Context(), gantry.Inferring, 0)); diff != "" {
				t.Errorf("left with (-want +got):\n%s", diff)
			}
			// What was under way is finished and kept; the room for one unit is two.
			if got := len(w.calledKeys()); c.before && got != 0 || !c.before && (got < 1 || got > 3) {
				t.Errorf("%d calls", got)
			}
			for _, p := range w.parts {
				if p.Status == gantry.PartFailed || p.Attempt > 1 {
					t.Errorf("a stop changed part %+v", p)
				}
			}
		})
	}
}

// TestPark waits for the part that is due first.
func TestPark(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(3)
	w.process = func(ctx context.Context, r *gantry.Request) error {
		switch r.Items[0].ID {
		case 1:
			return &gantry.Error{Kind: gantry.Unavailable, Code: "http_429", RetryAfter: 7 * time.Second}
		case 2:
			return &gantry.Error{Kind: gantry.Unavailable, Code: "http_429", RetryAfter: time.Hour}
		}
		return answer1(gantry.MediaJSON, `1`)(ctx, r)
	}
	tr := w.step(t.Context(), gantry.Inferring, 0)
	want := gantry.Transition{Lease: lease, From: gantry.Inferring, To: gantry.Inferring, Change: gantry.Park, After: 7 * time.Second}
	if diff := cmp.Diff(want, tr); diff != "" {
		t.Fatalf("left with (-want +got):\n%s", diff)
	}
	if due := w.parts[gantry.PartKey{Ordinal: 1}].DueIn; due != time.Minute.Microseconds() {
		t.Errorf("a service that asks for an hour gets %d µs, want the policy's most", due)
	}
	// A process that claims it before the time calls nobody and parks again.
	w.called = nil
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Park || tr.After != 7*time.Second || len(w.called) != 0 {
		t.Errorf("claimed early: %+v after calls %v", tr, w.called)
	}
}

// TestAskedToWaitIsNoAttempt has a service ask to wait for longer than there are attempts: the part goes on, and
// its attempts are there when the service fails in earnest. The record numbers every try.
func TestAskedToWaitIsNoAttempt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(1)
	asked := true
	w.process = func(context.Context, *gantry.Request) error {
		if asked {
			return &gantry.Error{Kind: gantry.Unavailable, Code: "http_429", RetryAfter: time.Second}
		}
		return &gantry.Error{Kind: gantry.Unavailable, Code: "http_503"}
	}
	key := gantry.PartKey{}
	again := func() gantry.Transition {
		t.Helper()
		p := w.parts[key]
		p.DueIn = 0
		w.parts[key] = p
		return w.step(t.Context(), gantry.Inferring, 0)
	}
	tr := w.step(t.Context(), gantry.Inferring, 0)
	for k := range w.parts {
		key = k
	}
	for range 9 {
		if tr.Change != gantry.Park || tr.After < time.Second {
			t.Fatalf("left with %+v", tr)
		}
		tr = again()
	}
	if p := w.parts[key]; p.Attempt != 10 || p.Asked != 10 || p.Status != gantry.PartPlanned || p.Reason != "http_429" {
		t.Errorf("after ten requests to wait: %+v", p)
	}
	asked = false
	for tries := 1; ; tries++ {
		tr = again()
		if tr.Change == gantry.Park && tries < 5 {
			continue
		}
		if p := w.parts[key]; tr.Change != gantry.End || tr.To != gantry.Failed || p.Attempt-p.Asked != int16(tries) || tries < 2 {
			t.Errorf("after %d failures: %+v, %+v", tries, tr, p)
		}
		break
	}
}

// TestHeldCallsAreNoFailure pauses the pipeline while calls wait: the parts are as they were, the calls under way
// count, and the task is given back.
func TestHeldCallsAreNoFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(3)
	held := make(chan struct{})
	w.process = func(ctx context.Context, r *gantry.Request) error {
		if r.Items[0].ID != 1 {
			return gantry.ErrHeld // as the gate says of a call that waits
		}
		close(held)
		return answer1(gantry.MediaJSON, `1`)(ctx, r)
	}
	tr := w.step(gantry.WithHold(t.Context(), held), gantry.Inferring, 0)
	if tr.Change != gantry.Release || tr.To != gantry.Inferring {
		t.Errorf("left with %+v", tr)
	}
	ok := 0
	for _, p := range w.parts {
		if p.Status == gantry.PartOK {
			ok++
		} else if p.Status != gantry.PartPlanned || p.Attempt != 0 {
			t.Errorf("a part that was held is %+v", p)
		}
	}
	if ok != 1 {
		t.Errorf("%d parts are answered", ok)
	}
	w.called = nil
	if tr := w.step(gantry.WithHold(t.Context(), held), gantry.Inferring, 0); tr.Change != gantry.Release || len(w.called) != 0 {
		t.Errorf("claimed while it is paused: %+v after calls %v", tr, w.called)
	}
}

// TestStateTimeout ends the task while a service hangs.
func TestStateTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(2)
		w.process = func(ctx context.Context, _ *gantry.Request) error {
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		begun := time.Now()
		tr := w.step(ctx, gantry.Inferring, 0)
		if tr.To != gantry.Failed || tr.Change != gantry.End || tr.Code != gantry.CodeStateTimeout || tr.Kind != gantry.Timeout {
			t.Errorf("left with %+v", tr)
		}
		if took := time.Since(begun); took != time.Hour {
			t.Errorf("after %s", took)
		}
	})
}

// TestFenced leaves no trace of a process whose lease is gone.
func TestFenced(t *testing.T) {
	t.Parallel()
	for _, s := range []gantry.State{gantry.Extracting, gantry.Inferring, gantry.Responding} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
			w.leaves(2)
			w.blobs["in"] = tinyPNG(t)
			w.refuse = fmt.Errorf("commit: %w", gantry.ErrFenced)
			if tr := w.step(t.Context(), s, 0); tr != (gantry.Transition{}) {
				t.Errorf("left with %+v", tr)
			}
		})
	}
	t.Run("context", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
		w.leaves(1)
		ctx, lose := context.WithCancelCause(t.Context())
		w.process = func(context.Context, *gantry.Request) error { lose(gantry.ErrFenced); return ctx.Err() }
		if tr := w.step(ctx, gantry.Inferring, 0); tr != (gantry.Transition{}) {
			t.Errorf("left with %+v", tr)
		}
	})
}

// TestRetryOfAState tries an effect again while its kind of failure is worth it.
func TestRetryOfAState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.original = &gantry.Error{Kind: gantry.Unavailable, Code: "store", Err: errors.New("busy\nnow")}
	want := gantry.Transition{Lease: lease, From: gantry.Extracting, To: gantry.Extracting, Change: gantry.Retry,
		After: 500 * time.Millisecond, Kind: gantry.Unavailable, Code: "store", Detail: "busy now"}
	if diff := cmp.Diff(want, w.step(t.Context(), gantry.Extracting, 0)); diff != "" {
		t.Errorf("left with (-want +got):\n%s", diff)
	}
	w.original = &gantry.Error{Kind: gantry.NotFound, Code: "source_gone", Err: errors.New(strings.Repeat("é", 400))}
	tr := w.step(t.Context(), gantry.Extracting, 0)
	if tr.To != gantry.Failed || tr.Change != gantry.End || tr.Code != "source_gone" || len(tr.Detail) > 501 {
		t.Errorf("left with %+v", tr)
	}
	w.original, w.refuse = nil, gantry.ErrNotRecorded
	w.leaves(1)
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.Change != gantry.Retry || tr.Kind != gantry.Transient {
		t.Errorf("a record that could not be written: %+v", tr)
	}
}

// TestPartsFail ends a task once, with the reason of its first part that failed, unless its stage
// skips.
func TestPartsFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, each("a", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(3)
	w.process = func(ctx context.Context, r *gantry.Request) error {
		if id := r.Items[0].ID; id > 1 {
			return gantry.Errorf(gantry.Permanent, gantry.Code(fmt.Sprintf("http_40%d", id)), "no")
		}
		return answer1(gantry.MediaJSON, `1`)(ctx, r)
	}
	tr := w.step(t.Context(), gantry.Inferring, 0)
	if tr.To != gantry.Failed || tr.Code != "http_402" || tr.Kind != gantry.Permanent || len(w.called) != 3 {
		t.Errorf("left with %+v after %d calls", tr, len(w.called))
	}
	w.plan.Stages[0].OnError = gantry.OnErrorSkip
	if tr := w.step(t.Context(), gantry.Inferring, 0); tr.To != gantry.Responding || len(w.called) != 3 {
		t.Errorf("a stage that skips: %+v after %d calls", tr, len(w.called))
	}
}
