package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

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
