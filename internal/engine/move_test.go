package engine

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// fixed is a condition that gives what it is told to.
type fixed struct {
	holds bool
	err   error
	seen  *map[string]any
}

// Holds gives what it is told to.
func (f fixed) Holds(vars map[string]any) (bool, error) {
	if f.seen != nil {
		*f.seen = vars
	}
	return f.holds, f.err
}

func (f fixed) String() string { return "" }

// refusingAll is a task in the first stage of a pipeline whose processor refuses everything, with rules.
func refusingAll(t *testing.T, rules ...gantry.MoveRule) *world {
	w := newWorld(t, each("find", gantry.EachPart, gantry.OnErrorFail))
	w.leaves(1)
	w.plan.MoveIf = rules
	w.process = func(context.Context, *gantry.Request) error { return gantry.Errorf(gantry.Denied, "http_403", "no") }
	return w
}

// passing runs a step of a task with a passage of the test's.
func (w *world) passing(ctx context.Context, t gantry.Task, passage func(context.Context, string, gantry.TaskID) (gantry.Passage, error)) gantry.Transition {
	w.t.Helper()
	e := New(Options{Store: w, Session: w, Caller: w, Blobs: w.blobs, Plans: w, Rand: func() float64 { return 0.5 }, Scratch: w.t.TempDir(),
		Passage: passage, Log: slog.New(slog.DiscardHandler)})
	step, end := e.Begin(t)
	defer end()
	return step(ctx, t)
}

// TestMoveIf moves a task that would fail by the first rule that holds, for as long as it has legs left.
func TestMoveIf(t *testing.T) {
	t.Parallel()
	there := gantry.Passage{Pipeline: 7, Lane: 8, Within: time.Hour}
	var seen map[string]any
	yes, no, odd := fixed{holds: true, seen: &seen}, fixed{}, fixed{err: errors.New("odd")}
	for name, c := range map[string]struct {
		rules []gantry.MoveRule
		leg   int16
		role  gantry.Role
		away  error
		nil   bool

		to   gantry.State
		code gantry.Code
		says string
	}{
		"no rule":       {to: gantry.Failed, code: "http_403"},
		"none holds":    {rules: []gantry.MoveRule{{When: no, To: "x", Legs: 3}}, to: gantry.Failed, code: "http_403"},
		"the second":    {rules: []gantry.MoveRule{{When: odd, To: "x", Legs: 3}, {When: yes, To: "b", Legs: 3}, {When: yes, To: "c", Legs: 3}}, to: gantry.Queued, code: "http_403", says: "moved to b: "},
		"the last leg":  {rules: []gantry.MoveRule{{When: yes, To: "b", Legs: 3}}, leg: 1, to: gantry.Queued, code: "http_403"},
		"too many legs": {rules: []gantry.MoveRule{{When: yes, To: "b", Legs: 3}}, leg: 2, to: gantry.Failed, code: gantry.CodeTooManyLegs, says: "http_403"},
		"a child":       {rules: []gantry.MoveRule{{When: yes, To: "b", Legs: 3}}, role: gantry.Member, to: gantry.Failed, code: "http_403"},
		"not served":    {rules: []gantry.MoveRule{{When: yes, To: "b", Legs: 3}}, away: errors.New("not served"), to: gantry.Failed, code: "http_403", says: "(not moved: not served)"},
		"nowhere to go": {rules: []gantry.MoveRule{{When: yes, To: "b", Legs: 3}}, nil: true, to: gantry.Failed, code: "http_403"},
	} {
		t.Run(name, func(t *testing.T) {
			w := refusingAll(t, c.rules...)
			task := gantry.Task{Lease: gantry.Lease{Task: 7, Seq: 3}, PublicID: "id", State: gantry.Inferring, Leg: c.leg, Role: c.role, Attempt: 1}
			if c.role != gantry.NoRole {
				w.kin[7] = &child{members: []gantry.Span{{First: 1, End: 2}}, parts: map[gantry.PartKey]gantry.Part{}}
			}
			passage := func(_ context.Context, to string, id gantry.TaskID) (gantry.Passage, error) {
				if to != "b" || id != 7 {
					t.Errorf("asked for %s of %d", to, id)
				}
				return there, c.away
			}
			if c.nil {
				passage = nil
			}
			tr := w.passing(t.Context(), task, passage)
			if tr.To != c.to || tr.Code != c.code || !strings.Contains(tr.Detail, c.says) || tr.From != gantry.Inferring || tr.Kind != gantry.Denied {
				t.Fatalf("%+v", tr)
			}
			if moved := tr.Change == gantry.Move; moved != (c.to == gantry.Queued) || moved && *tr.Passage != there {
				t.Errorf("%+v", tr)
			}
		})
	}
	failure := seen["error"].(map[string]any)
	if failure["kind"] != "denied" || failure["code"] != "http_403" || failure["stage"] != "find" || seen["state"] != "inferring" || seen["attempt"] != 2 {
		t.Errorf("a rule sees %v", seen)
	}
}

// TestMoveIfInTime asks the rules too when the state's time is up.
func TestMoveIfInTime(t *testing.T) {
	t.Parallel()
	w := refusingAll(t, gantry.MoveRule{When: fixed{holds: true}, To: "b", Legs: 3})
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	tr := w.passing(ctx, gantry.Task{Lease: gantry.Lease{Task: 7}, PublicID: "id", State: gantry.Queued},
		func(ctx context.Context, _ string, _ gantry.TaskID) (gantry.Passage, error) {
			return gantry.Passage{}, ctx.Err()
		})
	if tr.Change != gantry.Move || tr.Code != gantry.CodeStateTimeout || tr.From != gantry.Queued || tr.To != gantry.Queued {
		t.Errorf("%+v", tr)
	}
}

// TestOrders breaks off an effect by what an operator asks, and says what becomes of the task.
func TestOrders(t *testing.T) {
	t.Parallel()
	to := gantry.Passage{Pipeline: 7, Lane: 8, Within: time.Hour}
	for verb, want := range map[gantry.Verb]gantry.Transition{
		gantry.VerbCancel: {To: gantry.Cancelled, Change: gantry.End, Code: gantry.CodeCancelled, Kind: gantry.Permanent},
		gantry.VerbMove:   {To: gantry.Queued, Change: gantry.Move, Code: gantry.CodeMoved, Kind: gantry.Permanent, Detail: "by me"},
		gantry.VerbPause:  {To: gantry.Inferring, Change: gantry.Pause},
	} {
		w := refusingAll(t, gantry.MoveRule{When: fixed{holds: true}, To: "b", Legs: 3})
		ctx, cancel := context.WithCancelCause(t.Context())
		var within error
		w.process = func(ctx context.Context, _ *gantry.Request) error {
			cancel(gantry.Command{Verb: verb, To: to, By: "me"}.Cause())
			<-ctx.Done()
			within = context.Cause(ctx)
			return within
		}
		tr := w.stepOf(ctx, gantry.Task{Lease: gantry.Lease{Task: 7, Seq: 3}, PublicID: "id", State: gantry.Inferring, Attempt: 2})
		if tr.To != want.To || tr.Change != want.Change || tr.Code != want.Code || tr.Kind != want.Kind || want.Detail != "" && tr.Detail != want.Detail {
			t.Errorf("%s: %+v", verb, tr)
		}
		if verb == gantry.VerbMove && (tr.Passage == nil || *tr.Passage != to) {
			t.Errorf("it goes to %+v", tr.Passage)
		}
		if code := gantry.CodeOf(within); code != map[gantry.Verb]gantry.Code{"cancel": "cancelled", "move": "moved", "pause": "paused"}[verb] {
			t.Errorf("%s: the call ends with %s", verb, code)
		}
		for k, p := range w.parts {
			if p.Attempt != 0 || p.Status != gantry.PartPlanned {
				t.Errorf("%s: part %v is %+v", verb, k, p)
			}
		}
	}
}

// TestLegs gives each leg a place of its own at the sinks, and children of its own.
func TestLegs(t *testing.T) {
	t.Parallel()
	prefixes, ids := map[string]bool{}, map[string]bool{}
	for leg := range int16(3) {
		for delivery := range int16(3) {
			w := &work{task: gantry.Task{PublicID: "id", Leg: leg, Delivery: delivery}}
			prefixes[w.prefix()] = true
			ids[gantry.ChildID(w.legID(), gantry.Shard, 0)] = true
		}
	}
	if len(prefixes) != 9 || !prefixes["id/"] || !prefixes["id/leg1/"] || !prefixes["id/leg2/r1/"] || len(ids) != 3 || !ids[gantry.ChildID("id", gantry.Shard, 0)] {
		t.Errorf("%v %v", prefixes, ids)
	}
}
