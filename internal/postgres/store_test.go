package postgres_test

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// bed is a store with one pipeline, one lane, one limiter and a registered worker.
type bed struct {
	*postgres.Store
	t        testing.TB
	pipeline int32
	limiter  int32
	lane     int32
	worker   gantry.WorkerID
	ids      *gantry.IDs
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{Store: postgrestest.New(t), t: t, ids: gantry.NewIDs(time.Now, rand.Reader)}
	p := &gantry.Pipeline{Name: "p", Version: gantry.Digest{1}, Resolved: []byte(`{"stages":[{"name":"s","call":["qa"]}],"sinks":{"out":{}}}`)}
	b.pipeline = must(b.EnsurePipeline(t.Context(), p))(t)
	b.limiter = must(b.EnsureLimiter(t.Context(), "pipeline:p", gantry.LimiterSpec{MaxUnits: -1}, true))(t)
	b.lane = must(b.EnsureLane(t.Context(), "p", "in", b.limiter, 0))(t)
	b.worker = b.register(time.Minute)
	return b
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (b *bed) register(ttl time.Duration) gantry.WorkerID {
	b.t.Helper()
	return must(b.Register(b.t.Context(), "host", 1, ttl))(b.t)
}

func (b *bed) enqueue(n int) {
	b.t.Helper()
	var list []gantry.Admission
	for _, id := range must(b.ArrivalIDs(b.t.Context(), n))(b.t) {
		mac := gantry.MAC([]byte("k"), b.ids.New().String())
		list = append(list, gantry.Admission{
			Arrival:  gantry.Arrival{ID: id, Source: "p/in", RefMAC: mac, Version: "v", Name: "a.png", Size: 3},
			PublicID: gantry.PublicID([]byte("k"), mac.String()), Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour})
	}
	if made := must(b.Enqueue(b.t.Context(), list))(b.t); made != n {
		b.t.Fatalf("enqueued %d of %d", made, n)
	}
}

func (b *bed) claim(w gantry.WorkerID, n int) []gantry.Task {
	b.t.Helper()
	return must(b.Claim(b.t.Context(), w, []gantry.Want{{Lane: b.lane, N: n}}))(b.t)
}

func (b *bed) commit(w gantry.WorkerID, writes ...*gantry.Write) []bool {
	b.t.Helper()
	return must(b.Commit(b.t.Context(), w, writes))(b.t)
}

func (b *bed) count(q string, args ...any) int {
	b.t.Helper()
	var n int
	if err := b.Pool().QueryRow(b.t.Context(), q, args...).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func (b *bed) exec(q string, args ...any) {
	b.t.Helper()
	if _, err := b.Pool().Exec(context.Background(), q, args...); err != nil {
		b.t.Fatal(err)
	}
}

func advance(t gantry.Task, to gantry.State) *gantry.Write {
	return &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, To: to, Change: gantry.Advance, Within: time.Minute}}
}

func TestClaimTakesEachTaskOnce(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(10)
	seen := map[gantry.TaskID]bool{}
	for range 5 {
		for _, task := range b.claim(b.worker, 3) {
			if seen[task.Task] {
				t.Errorf("task %d was claimed twice", task.Task)
			}
			seen[task.Task] = true
			if task.Seq != 1 || task.State != gantry.Queued || task.Remaining <= 0 || len(task.PublicID) != 26 {
				t.Errorf("claimed %+v", task)
			}
		}
	}
	if len(seen) != 10 {
		t.Errorf("claimed %d of 10", len(seen))
	}
}

func TestDeadWorkerClaimsNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	dead := b.register(-time.Second)
	if got := b.claim(dead, 1); len(got) != 0 {
		t.Errorf("a worker without a lease claimed %+v", got)
	}
	if ok := must(b.Heartbeat(t.Context(), dead, time.Minute))(t); ok {
		t.Error("a lease that ran out was renewed")
	}
}

func TestEnqueueIsIdempotent(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := gantry.Admission{Arrival: gantry.Arrival{ID: must(b.ArrivalIDs(t.Context(), 1))(t)[0], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "v1", Sequencer: "s1"},
		PublicID: "x", Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}
	if n := must(b.Enqueue(t.Context(), []gantry.Admission{a}))(t); n != 1 {
		t.Fatalf("made %d tasks", n)
	}
	a.Arrival.ID = must(b.ArrivalIDs(t.Context(), 1))(t)[0]
	if n := must(b.Enqueue(t.Context(), []gantry.Admission{a}))(t); n != 0 {
		t.Errorf("the same arrival made %d more tasks", n)
	}
	if n := b.count(`select count(*) from arrival`); n != 1 {
		t.Errorf("%d arrivals", n)
	}
	if !must(b.Known(t.Context(), "p/in", gantry.Digest{7}, "s1"))(t) || must(b.Known(t.Context(), "p/in", gantry.Digest{7}, "s2"))(t) {
		t.Error("Known does not tell sequencers apart")
	}
}

// TestAdmittedIsAsGiven holds what is read of an arrival that is new to what was given, and tells one that was on record before.
func TestAdmittedIsAsGiven(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ids := must(b.ArrivalIDs(t.Context(), 2))(t)
	given := gantry.Arrival{ID: ids[0], Source: "p/in", RefMAC: gantry.Digest{7}, Version: "v1", Name: "a.zip", Size: 3, SHA: gantry.Digest{8}, Location: "seg/1/2/3/4", Via: b.pipeline}
	x := gantry.Admission{Arrival: given, PublicID: "x", Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}
	x.Arrival.Sequencer, x.Arrival.Event = "s1", "e1"
	if made := must(b.Admit(t.Context(), []gantry.Admission{x}))(t); len(made) != 1 || made["x"] != ids[0] {
		t.Errorf("made %v of arrival %d", made, ids[0])
	}
	task := must(b.Task(t.Context(), "x"))(t)
	if got := must(b.Originals(t.Context(), gantry.TaskID(task.Key)))(t); len(got) != 1 || got[0] != given {
		t.Errorf("read %+v, given was %+v", got, given)
	}
	x.Arrival.ID, x.PublicID, x.Arrival.Location = ids[1], "y", "elsewhere"
	if made := must(b.Admit(t.Context(), []gantry.Admission{x}))(t); made["y"] != ids[0] {
		t.Errorf("made %v, of arrival %d, which was on record", made, ids[0])
	}
}

// TestPlace holds an arrival that was not copied to where it was found last, and one that was erased to nothing.
func TestPlace(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := gantry.Admission{Arrival: gantry.Arrival{Source: "p/in", RefMAC: gantry.Digest{7}, Version: "v1", Size: 9, Place: "first"},
		PublicID: "x", Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}
	var task gantry.TaskID
	found := func(place string) string {
		a.Arrival.ID, a.Arrival.Place = must(b.ArrivalIDs(t.Context(), 1))(t)[0], place
		must(b.Enqueue(t.Context(), []gantry.Admission{a}))(t)
		if task == 0 {
			task = b.claim(b.worker, 1)[0].Task
		}
		got := must(b.Originals(t.Context(), task))(t)[0]
		if got.Size != 9 || !got.SHA.IsZero() || got.Location != "" {
			t.Errorf("the arrival is %+v", got)
		}
		return got.Place
	}
	for _, c := range [][2]string{{"first", "first"}, {"second", "second"}, {"", "second"}} {
		if got := found(c[0]); got != c[1] {
			t.Errorf("found at %q it is at %q", c[0], got)
		}
	}
	b.exec(`update arrival set place = null`)
	if got := found("third"); got != "" {
		t.Errorf("what was erased is at %q", got)
	}
}

func TestTransitionsAreFenced(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(2)
	tasks := b.claim(b.worker, 2)
	other := b.register(time.Minute)
	stale := tasks[1]
	stale.Seq--
	if got := b.commit(b.worker, advance(tasks[0], gantry.Extracting), advance(stale, gantry.Extracting)); !got[0] || got[1] {
		t.Errorf("landed %v, want the first alone", got)
	}
	if got := b.commit(other, advance(tasks[1], gantry.Extracting)); got[0] {
		t.Error("another worker moved the task")
	}
	if n := b.count(`select count(*) from task_event`); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}

func TestTransitionKinds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		change  gantry.Change
		to      gantry.State
		phase   gantry.Phase
		attempt int
	}{
		{gantry.Advance, gantry.Extracting, gantry.Owned, 0},
		{gantry.Retry, gantry.Queued, gantry.Delayed, 1},
		{gantry.Park, gantry.Queued, gantry.Delayed, 0},
		{gantry.Release, gantry.Queued, gantry.Ready, 0},
	} {
		b := newBed(t)
		b.enqueue(1)
		task := b.claim(b.worker, 1)[0]
		tr := &gantry.Transition{Lease: task.Lease, From: gantry.Queued, To: c.to, Change: c.change, After: time.Minute}
		if got := b.commit(b.worker, &gantry.Write{Transition: tr}); !got[0] {
			t.Fatalf("change %d did not land", c.change)
		}
		n := b.count(`select count(*) from task_hot where phase = $1 and state = $2 and attempt = $3 and seq = 2
			and (owner is null) = ($1 <> 1) and (phase <> 2 or run_at between now() + interval '50 s' and now() + interval '70 s')`,
			int(c.phase), int(c.to), c.attempt)
		if n != 1 {
			t.Errorf("change %d left another row than wanted", c.change)
		}
	}
}

func TestEndRemovesTheHotRow(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: task.Lease, To: gantry.Failed, Change: gantry.End,
		Code: "empty", Kind: gantry.Illegal, Detail: "no bytes"}})
	if n := b.count(`select count(*) from task_hot`); n != 0 {
		t.Errorf("%d hot rows are left", n)
	}
	list := must(b.Tasks(t.Context(), postgres.Filter{}))(t)
	if len(list) != 1 || list[0].State != "failed" || list[0].Error == nil || list[0].Error.Code != "empty" || list[0].Error.Kind != "illegal" || list[0].FinishedAt == nil {
		t.Errorf("task ended as %+v", list)
	}
	events := must(b.Events(t.Context(), list[0].Key))(t)
	if len(events) != 1 || events[0].To != "failed" || events[0].Change != "end" {
		t.Errorf("events %+v", events)
	}
}

// TestAPlanWithItsIntent commits both at once, and looks for both where the end of that is not known.
func TestAPlanWithItsIntent(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	write := func(ordinal int32) *gantry.Write {
		key := gantry.PartKey{Ordinal: ordinal}
		return &gantry.Write{Lease: task.Lease, Plan: []gantry.Part{{PartKey: key, Count: 1, DueIn: -1}}, Intent: &gantry.Intent{ID: b.ids.New(), Lease: task.Lease,
			Boundary: gantry.AtProcessor, Op: gantry.OpProcess, Limiter: b.limiter, Pipeline: b.pipeline, Part: key, Try: 1, ItemCount: 1}}
	}
	both, alone := write(1), write(2)
	if got := b.commit(b.worker, both, &gantry.Write{Intent: alone.Intent}); !got[0] || !got[1] {
		t.Fatal("they did not land")
	}
	if got := must(b.Landed(t.Context(), b.worker, []*gantry.Write{both, alone, write(3)}))(t); !got[0] || got[1] || got[2] {
		t.Errorf("found %v, want only the one that landed with its plan", got)
	}
	late := write(4)
	late.Lease.Seq, late.Intent.Lease.Seq = 0, 0
	if got := b.commit(b.worker, late); got[0] || b.count(`select count(*) from part`) != 1 || b.count(`select count(*) from call_intent`) != 2 {
		t.Error("a plan or an intent under a lease that is lost landed")
	}
}

// TestItemsGoWithTheirTransition commits both at once. A lease that has run out holds no items any more; then the
// transition, which alone would land until the task is rescued, must not.
func TestItemsGoWithTheirTransition(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(3)
	tasks := b.claim(b.worker, 3)
	write := func(task gantry.Task, n int) *gantry.Write {
		w := &gantry.Write{Lease: task.Lease, Transition: &gantry.Transition{Lease: task.Lease, From: gantry.Extracting, To: gantry.Ingesting}}
		for i := range n {
			w.Items = append(w.Items, gantry.Item{ID: gantry.ItemID(i), Parent: gantry.NoItem, Stage: gantry.OriginalStage, Media: gantry.MediaPNG})
		}
		return w
	}
	if got := b.commit(b.worker, write(tasks[0], 2)); !got[0] || b.count(`select count(*) from item`) != 2 || b.count(`select count(*) from task_hot where state = 2`) != 1 {
		t.Fatal("items and their transition did not land")
	}
	if _, err := b.Pool().Exec(t.Context(), `update worker set expires_at = now() - interval '1 s'`); err != nil {
		t.Fatal(err)
	}
	got := b.commit(b.worker, write(tasks[1], 2), write(tasks[2], 0))
	if got[0] || b.count(`select count(*) from item`) != 2 || b.count(`select count(*) from task_event where task_id = $1`, int64(tasks[1].Task)) != 0 {
		t.Error("a transition landed without the items that go with it")
	}
	if !got[1] {
		t.Error("a transition alone did not land under a lease that nobody ended")
	}
}

func TestResultsAndCalls(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	part := gantry.Part{PartKey: gantry.PartKey{Ordinal: 4}, First: 0, Count: 1, DueIn: -1}
	item := gantry.Item{ID: 0, Parent: gantry.NoItem, Stage: gantry.OriginalStage, Name: "secret name", Media: gantry.MediaPNG, Size: 9, Body: []byte("body")}
	if got := b.commit(b.worker, &gantry.Write{Lease: task.Lease, Items: []gantry.Item{item}, Plan: []gantry.Part{part}, Cursor: 7}); !got[0] {
		t.Fatal("plan did not land")
	}
	in := &gantry.Intent{ID: b.ids.New(), Lease: task.Lease, Boundary: gantry.AtProcessor, Op: gantry.OpProcess, Limiter: b.limiter,
		Pipeline: b.pipeline, Part: part.PartKey, Try: 1, ItemCount: 1}
	if got := b.commit(b.worker, &gantry.Write{Intent: in}); !got[0] {
		t.Fatal("intent did not land")
	}
	if _, err := b.Commit(t.Context(), b.worker, []*gantry.Write{{Intent: in}}); err == nil {
		t.Error("an intent landed twice")
	}
	if got := must(b.Landed(t.Context(), b.worker, []*gantry.Write{{Intent: in}}))(t); !got[0] {
		t.Error("Landed does not find the intent")
	}
	if list := must(b.Calls(t.Context(), postgres.Filter{Outcome: "lost"}))(t); len(list) != 0 {
		t.Errorf("a call that runs is listed as lost: %+v", list)
	}
	done := part
	done.Status, done.Attempt = gantry.PartOK, 1
	out := &gantry.Outcome{ID: in.ID, Task: task.Task, Limiter: b.limiter, Status: 200, ReqSize: 9, ReqSHA: gantry.Digest{1}}
	mark := gantry.ItemMark{ID: 0, SHA: gantry.Digest{5}, Size: 9}
	if got := b.commit(b.worker, &gantry.Write{Lease: task.Lease, Outcome: out, Parts: []gantry.Part{done}, Marks: []gantry.ItemMark{mark}}); !got[0] {
		t.Fatal("outcome did not land")
	}
	parts := must(b.Parts(t.Context(), task.Task, 0))(t)
	if len(parts) != 1 || parts[0].Status != gantry.PartOK || parts[0].Ordinal != 4 || parts[0].DueIn != -1 {
		t.Errorf("parts %+v", parts)
	}
	// Planning again must not undo an answer.
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Plan: []gantry.Part{part}})
	if parts := must(b.Parts(t.Context(), task.Task, 0))(t); parts[0].Status != gantry.PartOK {
		t.Errorf("planning again made %+v", parts[0])
	}
	items := must(b.Items(t.Context(), task.Task))(t)
	if len(items) != 1 || items[0].SHA != mark.SHA || string(items[0].Body) != "body" || items[0].Name != "secret name" {
		t.Errorf("items %+v", items)
	}
	calls := must(b.Calls(t.Context(), postgres.Filter{}))(t)
	if len(calls) != 1 || calls[0].Stage != "s" || calls[0].Processor != "qa" || calls[0].Outcome != "ok" || calls[0].Status != 200 || calls[0].Task != task.PublicID {
		t.Errorf("calls %+v", calls)
	}
	for _, id := range []string{"zzz", "", gantry.NewIDs(time.Now, rand.Reader).New().String()} {
		if _, err := b.Call(t.Context(), id); err == nil || err.Error() != "no call "+id {
			t.Errorf("call %q: %v", id, err)
		}
	}
	if list := must(b.Calls(t.Context(), postgres.Filter{Call: in.ID.String()}))(t); len(list) != 1 || list[0].ID != in.ID.String() {
		t.Errorf("%d calls of one id", len(list))
	}
	if c := must(b.Call(t.Context(), strings.ToUpper(in.ID.String())))(t); c.RequestBytes != 9 {
		t.Errorf("call %+v", c)
	}
}

// TestSkippedPartStaysSkipped plans a part that a condition leaves out: another process must find it so, or it
// would make the call. To plan it again, as one that is to be called, changes nothing.
func TestSkippedPartStaysSkipped(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	skipped := gantry.Part{PartKey: gantry.PartKey{Ordinal: 1}, Status: gantry.PartSkipped, Count: 1, DueIn: -1}
	planned := gantry.Part{PartKey: gantry.PartKey{Ordinal: 0}, Count: 1, DueIn: -1}
	for range 2 {
		if got := b.commit(b.worker, &gantry.Write{Lease: task.Lease, Plan: []gantry.Part{planned, skipped}}); !got[0] {
			t.Fatal("the plan did not land")
		}
		if diff := cmp.Diff([]gantry.Part{planned, skipped}, must(b.Parts(t.Context(), task.Task, 0))(t)); diff != "" {
			t.Errorf("parts (-want +got):\n%s", diff)
		}
		skipped.Status = gantry.PartPlanned
		b.commit(b.worker, &gantry.Write{Lease: task.Lease, Plan: []gantry.Part{skipped}})
		skipped.Status = gantry.PartSkipped
	}
}

func TestZombieWritesNothingButItsOutcome(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	zombie := b.register(time.Minute)
	task := b.claim(zombie, 1)[0]
	in := &gantry.Intent{ID: b.ids.New(), Lease: task.Lease, Boundary: gantry.AtProcessor, Limiter: b.limiter, Pipeline: b.pipeline}
	kept := *in
	kept.ID = b.ids.New()
	b.commit(zombie, &gantry.Write{Intent: in}, &gantry.Write{Intent: &kept})
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(zombie))
	if lanes := must(b.Reap(t.Context()))(t); len(lanes) != 1 || lanes[0] != b.lane {
		t.Fatalf("reaped lanes %v", lanes)
	}
	late := &gantry.Write{Lease: task.Lease, Outcome: &gantry.Outcome{ID: in.ID, Task: task.Task, Limiter: b.limiter},
		Items: []gantry.Item{{ID: 3}}, Parts: []gantry.Part{{Status: gantry.PartOK, Attempt: 1, DueIn: -1}}}
	next := *in
	next.ID = b.ids.New()
	got := b.commit(zombie, late, &gantry.Write{Intent: &next}, advance(task, gantry.Extracting),
		&gantry.Write{Lease: task.Lease, Outcome: &gantry.Outcome{ID: kept.ID, Task: task.Task, Limiter: b.limiter, Result: gantry.ResultNotSent}})
	if got[0] || got[1] || got[2] {
		t.Errorf("a zombie's writes landed: %v", got)
	}
	if n := b.count(`select (select count(*) from item) + (select count(*) from part)`); n != 0 {
		t.Errorf("%d rows of a zombie", n)
	}
	was := map[string]string{}
	for _, c := range must(b.Calls(t.Context(), postgres.Filter{}))(t) {
		was[c.ID] = c.Outcome
	}
	if diff := cmp.Diff(map[string]string{in.ID.String(): "fenced", kept.ID.String(): "not_sent"}, was); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	again := b.claim(b.worker, 1)
	if len(again) != 1 || again[0].Crashes != 1 || again[0].Seq != task.Seq+2 {
		t.Errorf("claimed again as %+v", again)
	}
}

// TestLostClaimIsNotLost: a claim whose answer got lost left tasks with a worker that knows nothing of them. It can
// ask for them; and if it resigns instead, they are rescued, and count as in progress until then.
func TestLostClaimIsNotLost(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(2)
	w := b.register(time.Minute)
	if n := must(b.Grant(t.Context(), w, b.limiter, 2, 0))(t); n != 2 {
		t.Fatalf("granted %d", n)
	}
	claimed := b.claim(w, 2)
	held := must(b.Held(t.Context(), w))(t)
	if len(held) != 2 || held[0].Lease != claimed[0].Lease || held[1].PublicID != claimed[1].PublicID || held[0].Remaining <= 0 {
		t.Fatalf("it holds %+v, claimed %+v", held, claimed)
	}
	if other := must(b.Held(t.Context(), b.worker))(t); len(other) != 0 {
		t.Errorf("another holds %+v", other)
	}
	if err := b.Resign(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	if n := b.count(`select coalesce(sum(units), 0) from limit_grant`); n != 2 {
		t.Errorf("%d units are in progress, want 2", n)
	}
	if lanes := must(b.Reap(t.Context()))(t); len(lanes) != 1 {
		t.Errorf("reaped lanes %v", lanes)
	}
	if n := b.count(`select count(*) from limit_grant`) + b.count(`select count(*) from worker where id = $1`, int64(w)); n != 0 {
		t.Errorf("%d rows are left of it", n)
	}
	if again := b.claim(b.worker, 2); len(again) != 2 {
		t.Errorf("claimed again %+v", again)
	}
}
