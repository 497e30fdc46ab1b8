package postgres_test

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

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
