package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestObeyLeavesPrivateLanes: a process that waits for its own tasks must see their end itself.
func TestObeyLeavesPrivateLanes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	shared := b.lane
	b.enqueue(1)
	b.lane = must(b.EnsureLane(t.Context(), "p", "run", b.limiter, b.worker))(t)
	b.enqueue(1)
	for _, x := range must(b.Tasks(t.Context(), postgres.Filter{}))(t) {
		if err := b.Cancel(t.Context(), gantry.TaskID(x.Key), "tester"); err != nil {
			t.Fatal(err)
		}
		if err := b.Cancel(t.Context(), gantry.TaskID(x.Key), "tester"); err != nil { // asking twice is asking once
			t.Fatal(err)
		}
	}
	if n := b.count(`select count(*) from command`); n != 2 {
		t.Errorf("%d commands", n)
	}
	left := must(b.Tasks(t.Context(), postgres.Filter{State: "queued"}))(t)
	if len(left) != 1 || b.count(`select count(*) from task_hot where lane = $1`, shared) != 0 {
		t.Fatalf("left are %+v", left)
	}
	if got := must(b.Obey(t.Context(), b.worker))(t); len(got) != 0 {
		t.Errorf("it holds %v", got)
	}
	mine := b.claim(b.worker, 1)
	if got := must(b.Obey(t.Context(), b.worker))(t); len(got) != 1 || got[0].Task != mine[0].Task || got[0].Verb != gantry.VerbCancel {
		t.Errorf("it is to end %v, want %v", got, mine[0].Task)
	}
	if got := must(b.Obey(t.Context(), b.register(time.Minute)))(t); len(got) != 0 {
		t.Errorf("another is to end %v", got)
	}
}

// TestReopenCountsDeathsOn: whoever killed processes before a retry is no safer after it.
func TestReopenCountsDeathsOn(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	dead := b.register(time.Minute)
	b.claim(dead, 1)
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(dead))
	must(b.Reap(t.Context()))(t)
	task := b.claim(b.worker, 1)[0]
	end := advance(task, gantry.Failed)
	end.Transition.Change, end.Transition.Code = gantry.End, "x"
	b.commit(b.worker, end)
	f, failed, err := b.Failure(t.Context(), task.Task)
	if err != nil || !failed || f.State != gantry.Queued || f.Pipeline != b.pipeline || f.Run || f.Child {
		t.Fatalf("%+v %v %v", f, failed, err)
	}
	if !must(b.Reopen(t.Context(), task.Task, gantry.Timeouts{Queued: time.Hour, Inferring: time.Hour}, 2, "by tester"))(t) || must(b.Reopen(t.Context(), task.Task, gantry.Timeouts{Queued: time.Hour, Inferring: time.Hour}, 2, ""))(t) {
		t.Error("a failed task is reopened once")
	}
	again := b.claim(b.worker, 1)
	if len(again) != 1 || again[0].Crashes != 1 || again[0].Priority != 2 || again[0].Seq != task.Seq+3 || again[0].Remaining < 59*time.Minute {
		t.Errorf("claimed as %+v, before %+v", again, task)
	}
}

// TestCancelReachesLaterChildren cancels a task that its process divides before it hears of it: its children
// end with it, those too that they have been divided into.
func TestCancelReachesLaterChildren(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	b.commit(b.worker, advance(task, gantry.Inferring))
	task.Seq++
	task.State = gantry.Inferring
	if err := b.Cancel(t.Context(), task.Task, "tester"); err != nil {
		t.Fatal(err)
	}
	if got := b.commit(b.worker, wait(task, 2)); !got[0] {
		t.Fatal("the division did not land")
	}
	held := b.claim(b.worker, 1)[0]
	if got := must(b.Obey(t.Context(), b.worker))(t); len(got) != 1 || got[0].Task != held.Task {
		t.Errorf("it is to end %v, want %v", got, held.Task)
	}
	if left := must(b.Tasks(t.Context(), postgres.Filter{State: "cancelled"}))(t); len(left) != 2 {
		t.Errorf("cancelled %d, want the parent and the child that nobody holds: %+v", len(left), left)
	}
	if n := b.count(`select count(*) from command where by = 'tester'`); n != 3 {
		t.Errorf("%d commands", n)
	}
	b.commit(b.worker, end(held, gantry.Cancelled))
	must(b.Obey(t.Context(), b.worker))(t)
	if n := b.count(`select count(*) from command where done_at is null`) + b.count(`select count(*) from task_hot`); n != 0 {
		t.Errorf("%d commands and tasks are left", n)
	}
}

// TestReopenWithShards puts a task back with those of its shards that failed, and it waits for these.
func TestReopenWithShards(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.divided(3)
	shards := b.claimShards(b.worker, 3)
	b.commit(b.worker, end(shards[0], gantry.Failed), end(shards[1], gantry.Done), end(shards[2], gantry.Failed))
	parent := b.claim(b.worker, 1)[0]
	b.commit(b.worker, end(parent, gantry.Failed))
	f, failed, err := b.Failure(t.Context(), parent.Task)
	if err != nil || !failed || f.State != gantry.Inferring {
		t.Fatalf("%+v %v %v", f, failed, err)
	}
	if !must(b.Reopen(t.Context(), parent.Task, gantry.Timeouts{Queued: time.Hour, Inferring: time.Hour}, 2, "by tester"))(t) {
		t.Fatal("not reopened")
	}
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Waiting || n != 2 {
		t.Fatalf("the parent is %s with %d children open", p, n)
	}
	again := b.claim(b.worker, 9)
	if len(again) != 2 || again[0].Task != shards[0].Task || again[1].Task != shards[2].Task || again[0].Priority != 1 ||
		again[0].State != gantry.Inferring || again[0].Remaining < 59*time.Minute {
		t.Fatalf("claimed %+v", again)
	}
	b.commit(b.worker, end(again[0], gantry.Done), end(again[1], gantry.Done))
	if got := b.claim(b.worker, 9); len(got) != 1 || got[0].Task != parent.Task || got[0].Priority != 2 {
		t.Errorf("then it claimed %+v", got)
	}
}
