package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// elsewhere makes another pipeline with a lane of its own.
func (b *bed) elsewhere() gantry.Passage {
	b.t.Helper()
	ctx := b.t.Context()
	version := must(b.EnsurePipeline(ctx, &gantry.Pipeline{Name: "q", Version: gantry.Digest{2}, Resolved: []byte(`{}`)}))(b.t)
	limiter := must(b.EnsureLimiter(ctx, "pipeline:q", gantry.LimiterSpec{MaxUnits: -1}, true))(b.t)
	return gantry.Passage{Pipeline: version, Lane: must(b.EnsureLane(ctx, "q", gantry.MovedLane, limiter, 0))(b.t), Within: 30 * time.Minute}
}

func moveOn(t gantry.Task, to gantry.Passage) *gantry.Write {
	return &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, Stage: t.Stage, Change: gantry.Move, Passage: &to,
		Kind: gantry.Unavailable, Code: "x", Detail: "why"}}
}

func pause(t gantry.Task) *gantry.Write {
	return &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, To: t.State, Change: gantry.Pause}}
}

// manifest puts a call on record that wrote, or may have written, a manifest.
func (b *bed) manifest(t gantry.Task) {
	b.t.Helper()
	in := &gantry.Intent{ID: b.ids.New(), Lease: t.Lease, Boundary: gantry.AtSink, Op: gantry.OpManifest, Limiter: b.limiter, Pipeline: b.pipeline,
		Part: gantry.PartKey{Leg: t.Leg}}
	if got := b.commit(b.worker, &gantry.Write{Intent: in}); !got[0] {
		b.t.Fatal("the intent did not land")
	}
}

// TestMoveTransition fences a move as every transition, begins the next leg with no item of the one before, and
// raises the delivery only of a task whose manifest may be there.
func TestMoveTransition(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	to := b.elsewhere()
	b.enqueue(3)
	tasks := b.claim(b.worker, 3)
	for _, x := range tasks[:2] {
		b.commit(b.worker, &gantry.Write{Lease: x.Lease, Items: []gantry.Item{{ID: 0, Name: "first"}, {ID: 1}}, Cursor: 2})
	}
	b.manifest(tasks[1])
	stale := tasks[2]
	stale.Seq--
	writes := []*gantry.Write{moveOn(tasks[0], to), moveOn(tasks[1], to), moveOn(stale, to), pause(stale), advance(tasks[2], gantry.Extracting)}
	got := b.commit(b.worker, writes[0], writes[1], writes[2])
	if !got[0] || !got[1] || got[2] {
		t.Fatalf("landed %v", got)
	}
	if again := b.commit(b.worker, writes...); again[0] || again[1] || !again[4] {
		t.Errorf("landed again %v", again)
	}
	if found := must(b.Landed(t.Context(), b.worker, writes[:3]))(t); !found[0] || !found[1] || found[2] {
		t.Errorf("found on record %v", found)
	}
	next := must(b.Claim(t.Context(), b.worker, []gantry.Want{{Lane: to.Lane, N: 9}}))(t)
	if len(next) != 2 {
		t.Fatalf("claimed %+v", next)
	}
	for i, x := range next {
		if x.Task != tasks[i].Task || x.Leg != 1 || x.State != gantry.Queued || x.Pipeline != to.Pipeline || x.Seq != tasks[i].Seq+2 || x.Cursor != 0 ||
			int(x.Delivery) != i || x.Remaining < 29*time.Minute || x.Remaining > 30*time.Minute {
			t.Errorf("task %d goes on as %+v", i, x)
		}
		if items := must(b.Items(t.Context(), x.Task))(t); len(items) != 0 {
			t.Errorf("the leg begins with %+v", items)
		}
	}
	x := next[0]
	b.commit(b.worker, &gantry.Write{Lease: x.Lease, Items: []gantry.Item{{ID: 0, Leg: 1, Name: "second"}}})
	b.commit(b.worker, &gantry.Write{Lease: x.Lease, Marks: []gantry.ItemMark{{ID: 0, Size: 77, Reason: "r"}}})
	items := must(b.Items(t.Context(), x.Task))(t)
	if len(items) != 1 || items[0].Name != "second" || items[0].Size != 77 {
		t.Errorf("the leg has %+v", items)
	}
	if n := b.count(`select count(*) from item where task_id = $1 and leg = 0 and size <> 77 and (name = 'first' or id = 1)`, int64(x.Task)); n != 2 {
		t.Errorf("%d items of the first leg are as they were", n)
	}
	events := must(b.Events(t.Context(), int64(x.Task)))(t)
	if e := events[len(events)-1]; e.Change != "move" || e.From != "queued" || e.To != "queued" || e.Code != "x" || e.Detail != "why" ||
		b.count(`select leg from task_event where task_id = $1 and seq = $2`, int64(x.Task), e.Seq) != 1 {
		t.Errorf("on record is %+v", e)
	}
}

// TestReenter moves a failed task once; its deaths are counted on.
func TestReenter(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	to := b.elsewhere()
	b.enqueue(1)
	w := b.register(time.Minute)
	b.claim(w, 1)
	b.kill(w)
	task := b.claim(b.worker, 1)[0]
	b.manifest(task)
	b.commit(b.worker, end(task, gantry.Failed))
	if !must(b.Reenter(t.Context(), task.Task, to, 3, "tester"))(t) || must(b.Reenter(t.Context(), task.Task, to, 3, "tester"))(t) {
		t.Error("it is moved once")
	}
	got := must(b.Claim(t.Context(), b.worker, []gantry.Want{{Lane: to.Lane, N: 9}}))(t)
	if len(got) != 1 || got[0].Crashes != 1 || got[0].Leg != 1 || got[0].Delivery != 1 || got[0].Priority != 3 || got[0].Seq != task.Seq+3 {
		t.Errorf("claimed %+v", got)
	}
	list := must(b.Tasks(t.Context(), postgres.Filter{}))(t)
	if list[0].Error != nil || list[0].Leg != 1 || list[0].Pipeline != "q" {
		t.Errorf("%+v", list[0])
	}
	b.commit(b.worker, end(got[0], gantry.Failed))
	if !must(b.Reopen(t.Context(), task.Task, gantry.Timeouts{Queued: time.Hour, Extracting: time.Hour, Ingesting: time.Hour, Inferring: time.Hour}, 5, "by tester"))(t) {
		t.Error("a retry finds no lane")
	}
	if n := b.count(`select count(*) from task_hot where lane = $1 and leg = 1 and crashes = 1`, to.Lane); n != 1 {
		t.Error("a retry leaves the leg")
	}
}

// TestPauseKeepsTime pauses tasks of each phase; resumed, each has the time and the phase that it had.
func TestPauseKeepsTime(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(4)
	tasks := b.claim(b.worker, 3)
	park := &gantry.Transition{Lease: tasks[0].Lease, Change: gantry.Retry, After: 30 * time.Minute}
	b.commit(b.worker, &gantry.Write{Transition: park}, &gantry.Write{Transition: &gantry.Transition{Lease: tasks[1].Lease, From: gantry.Inferring,
		To: gantry.Inferring, Change: gantry.Wait, Divide: wait(tasks[1], 1).Transition.Divide}})
	list := must(b.Tasks(t.Context(), postgres.Filter{}))(t)
	for _, x := range list {
		if x.Parent != "" {
			continue
		}
		if err := b.Pause(t.Context(), gantry.TaskID(x.Key), "tester", "why"); err != nil {
			t.Fatal(err)
		}
	}
	orders := must(b.Obey(t.Context(), b.worker))(t)
	if len(orders) != 1 || orders[0].Task != tasks[2].Task || orders[0].Verb != gantry.VerbPause || orders[0].Cause() != gantry.ErrPaused {
		t.Fatalf("asked is %+v", orders)
	}
	if got := b.commit(b.worker, pause(tasks[2])); !got[0] {
		t.Fatal("the pause did not land")
	}
	if n := b.count(`select count(*) from task_hot where phase = 4 and owner is null`); n != 5 {
		t.Fatalf("%d are paused, want four and a child", n)
	}
	if got := b.claim(b.worker, 9); len(got) != 0 {
		t.Fatalf("claimed %+v", got)
	}
	b.exec(`update task_pause set at = at - interval '2 hours'`)
	b.exec(`update task_hot set state_until = state_until - interval '2 hours'`)
	for _, x := range list {
		if x.Parent == "" && !must(b.Resume(t.Context(), gantry.TaskID(x.Key), "tester"))(t) {
			t.Errorf("%+v is not resumed", x)
		}
	}
	for i, want := range []gantry.Phase{gantry.Delayed, gantry.Waiting, gantry.Ready} {
		if p := b.phase(tasks[i].Task); p != want {
			t.Errorf("task %d is %s, want %s", i, p, want)
		}
	}
	if n := b.count(`select count(*) from task_hot where state_until between now() + interval '50 min' and now() + interval '61 min'`); n != 5 {
		t.Errorf("%d have the time that they had", n)
	}
	if n := b.count(`select count(*) from task_hot where attempt <> case when id = $1 then 1 else 0 end`, int64(tasks[0].Task)); n != 0 {
		t.Errorf("%d attempts are raised", n)
	}
	var said []string
	for _, e := range must(b.Events(t.Context(), int64(tasks[2].Task)))(t) {
		said = append(said, e.Change+" "+e.Code+" "+e.Detail)
	}
	if got, want := strings.Join(said, "; "), "pause paused by tester: why; resumed resumed by tester"; got != want {
		t.Errorf("on record is %q, want %q", got, want)
	}
	if n := b.count(`select count(*) from task_pause`) + b.count(`select count(*) from command where done_at is null`); n != 0 {
		t.Errorf("%d pauses and commands are left", n)
	}
}

// TestResumeBeforeThePause: what its process hands back too late is merely ready, and a child that a pause reached
// after the end of its parent's goes on by itself.
func TestResumeBeforeThePause(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	if err := b.Pause(t.Context(), task.Task, "tester", ""); err != nil {
		t.Fatal(err)
	}
	if !must(b.Resume(t.Context(), task.Task, "tester"))(t) || must(b.Resume(t.Context(), task.Task, "tester"))(t) {
		t.Error("it is resumed once")
	}
	if got := b.commit(b.worker, pause(task)); !got[0] || b.phase(task.Task) != gantry.Ready {
		t.Errorf("landed %v, it is %s", got, b.phase(task.Task))
	}
	events := must(b.Events(t.Context(), int64(task.Task)))(t)
	if e := events[len(events)-1]; e.Change != "release" || e.Code != "" {
		t.Errorf("on record is %+v", e)
	}
	b.exec(`delete from task_hot`)
	parent := b.divided(1)
	b.exec(`update task_hot set phase = 4 where id <> $1`, int64(parent.Task))
	b.exec(`insert into task_pause(task_id, by) select id, 'tester' from task_hot where phase = 4`)
	must(b.Obey(t.Context(), b.worker))(t)
	if got := b.claim(b.worker, 9); len(got) != 1 || got[0].Parent != parent.Task {
		t.Errorf("claimed %+v", got)
	}
}

// TestMoveWaitsForChildren keeps a task that is to be moved from going on, whenever its children end.
func TestMoveWaitsForChildren(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	to := b.elsewhere()
	parent := b.divided(3)
	held := b.claimShards(b.worker, 1)[0]
	if err := b.Move(t.Context(), parent.Task, to, "tester"); err != nil {
		t.Fatal(err)
	}
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Paused || n != 1 {
		t.Fatalf("the parent is %s with %d children open", p, n)
	}
	orders := must(b.Obey(t.Context(), b.worker))(t)
	if len(orders) != 1 || orders[0].Task != held.Task || orders[0].Verb != gantry.VerbCancel {
		t.Fatalf("asked is %+v", orders)
	}
	b.commit(b.worker, end(held, gantry.Cancelled))
	if got := b.claim(b.worker, 9); len(got) != 0 {
		t.Errorf("claimed %+v", got)
	}
	must(b.Obey(t.Context(), b.worker))(t)
	got := must(b.Claim(t.Context(), b.worker, []gantry.Want{{Lane: to.Lane, N: 9}}))(t)
	if len(got) != 1 || got[0].Task != parent.Task || got[0].Leg != 1 {
		t.Fatalf("claimed %+v", got)
	}
	if children := must(b.Children(t.Context(), parent.Task))(t); len(children) != 0 {
		t.Errorf("the leg begins with %+v", children)
	}
	if n := b.count(`select count(*) from command where done_at is null`); n != 0 {
		t.Errorf("%d commands are open", n)
	}
}

// TestLastServed finds the version that was served last, also one that was there before.
func TestLastServed(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	if _, ok, err := b.LastServed(t.Context(), "p"); ok || err != nil {
		t.Errorf("none was served: %v %v", ok, err)
	}
	later := must(b.EnsurePipeline(t.Context(), &gantry.Pipeline{Name: "p", Version: gantry.Digest{9}, Resolved: []byte(`{"a":1}`)}))(t)
	for _, v := range []int32{later, b.pipeline, later} {
		if err := b.Served(t.Context(), v); err != nil {
			t.Fatal(err)
		}
		if x, ok, err := b.LastServed(t.Context(), "p"); err != nil || !ok || x.Version != v || x.Limiter != b.limiter || len(x.Resolved) == 0 {
			t.Errorf("%+v %v %v", x, ok, err)
		}
	}
}
