package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// beginning claims all there is, and lets queued tasks leave the queue.
func (b *bed) beginning(w gantry.WorkerID) []gantry.Task {
	b.t.Helper()
	return must(b.Claim(b.t.Context(), w, []gantry.Want{{Lane: b.lane, N: 9, Begin: true}}))(b.t)
}

// TestClaimBegins: a claim takes a queued task on to extracting, with the transition on record and the time for that
// state, under the one lease that it gives.
func TestClaimBegins(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	p := &gantry.Pipeline{Name: "p", Version: gantry.Digest{1}, Timeouts: gantry.Timeouts{Extracting: 15 * time.Minute}}
	if id := must(b.EnsurePipeline(t.Context(), p))(t); id != b.pipeline {
		t.Fatalf("version %d, not %d", id, b.pipeline)
	}
	b.enqueue(2)
	tasks := b.beginning(b.worker)
	if len(tasks) != 2 {
		t.Fatalf("claimed %d of 2", len(tasks))
	}
	for _, x := range tasks {
		if !x.Begun || x.State != gantry.Extracting || x.Seq != 2 || x.Remaining < 14*time.Minute || x.Remaining > 15*time.Minute {
			t.Errorf("claimed %+v", x)
		}
	}
	const begun = `select count(*) from task_event where seq = 2 and from_state = 0 and to_state = 1 and change = 0 and attempt = 0 and leg = 0 and stage = 0 and worker = $1`
	if n := b.count(begun, int64(b.worker)); n != 2 || b.count(`select count(*) from task_event`) != 2 {
		t.Errorf("%d of 2 transitions are on record", n)
	}
	stale := tasks[0]
	stale.Seq--
	if landed := b.commit(b.worker, advance(stale, gantry.Ingesting), advance(tasks[1], gantry.Ingesting)); landed[0] || !landed[1] {
		t.Errorf("of a transition from before the beginning and one from after it landed %v", landed)
	}
}

// TestClaimDoesNotBegin: a task whose time in the queue is over, whose priority changes as it is begun, that is claimed aside, or
// that left the queue before, comes as it is; so does every task of a claim that begins none.
func TestClaimDoesNotBegin(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	if x := b.claim(b.worker, 9); len(x) != 1 || x[0].Begun || x[0].State != gantry.Queued || x[0].Seq != 1 {
		t.Errorf("a claim that begins none gave %+v", x)
	}
	for name, change := range map[string]string{
		"late":     `update task_hot set state_until = now() where phase = 0`,
		"off-peak": `update task_hot set priority = 8 where phase = 0`,
		"aside":    `update task_hot set crashes = 2 where phase = 0`,
	} {
		b.enqueue(1)
		b.exec(change)
		if x := b.beginning(b.worker); len(x) != 1 || x[0].State != gantry.Queued || x[0].Seq != 1 {
			t.Errorf("%s: claimed %+v", name, x)
		}
	}
	b.enqueue(1)
	b.exec(`update task_hot set state = 2, seq = 7, attempt = 3 where phase = 0`)
	if x := b.beginning(b.worker); len(x) != 1 || x[0].State != gantry.Ingesting || x[0].Seq != 8 || x[0].Attempt != 3 {
		t.Errorf("ingesting: claimed %+v", x)
	}
	if n := b.count(`select count(*) from task_event`); n != 0 {
		t.Errorf("%d transitions are on record", n)
	}
	if x := b.beginning(b.register(-time.Second)); len(x) != 0 {
		t.Errorf("a worker without a lease claimed %+v", x)
	}
}

// TestBegunTasksAreRescued: a task whose process died right after it began it keeps its state.
func TestBegunTasksAreRescued(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	w := b.register(time.Minute)
	b.beginning(w)
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(w))
	must(b.Reap(t.Context()))(t)
	x := b.beginning(b.worker)
	if len(x) != 1 || x[0].Begun || x[0].State != gantry.Extracting || x[0].Seq != 4 || x[0].Crashes != 1 || x[0].Remaining < 59*time.Minute {
		t.Errorf("claimed %+v", x) // the version says nothing of a time: the queue's goes on
	}
}
