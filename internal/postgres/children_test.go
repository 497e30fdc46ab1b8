package postgres_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// divided is a task at inferring that waits for n shards of two items each.
func (b *bed) divided(n int) gantry.Task {
	b.t.Helper()
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	b.commit(b.worker, advance(task, gantry.Inferring))
	task.Seq++
	task.State = gantry.Inferring
	if got := b.commit(b.worker, wait(task, n)); !got[0] {
		b.t.Fatal("the wait did not land")
	}
	return task
}

// wait divides a task into n shards of two items each.
func wait(t gantry.Task, n int) *gantry.Write {
	d := &gantry.Division{Role: gantry.Shard, State: gantry.Inferring}
	for i := range n {
		d.Children = append(d.Children, gantry.Child{PublicID: gantry.ChildID(t.PublicID, gantry.Shard, i),
			Members: []gantry.Span{{First: gantry.ItemID(2*i + 1), End: gantry.ItemID(2*i + 3)}}})
	}
	return &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: gantry.Inferring, To: gantry.Inferring, Change: gantry.Wait, Divide: d}}
}

func end(t gantry.Task, to gantry.State) *gantry.Write {
	return &gantry.Write{Transition: &gantry.Transition{Lease: t.Lease, From: t.State, To: to, Change: gantry.End, Parent: t.Parent, Code: "c"}}
}

// claimShards takes n shards, which come one by one so that other processes get some.
func (b *bed) claimShards(w gantry.WorkerID, n int) (out []gantry.Task) {
	b.t.Helper()
	for range n {
		got := b.claim(w, 9)
		if len(got) != 1 || got[0].Role != gantry.Shard {
			b.t.Fatalf("claimed %+v", got)
		}
		out = append(out, got...)
	}
	return out
}

func (b *bed) phase(id gantry.TaskID) gantry.Phase {
	b.t.Helper()
	return gantry.Phase(b.count(`select phase from task_hot where id = $1`, int64(id)))
}

func (b *bed) open(id gantry.TaskID) int {
	b.t.Helper()
	return b.count(`select open_children from task_hot where id = $1`, int64(id))
}

// TestChildrenAndParent follows a parent from its division to the end of the last child.
func TestChildrenAndParent(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	parent := b.divided(3)
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Waiting || n != 3 {
		t.Fatalf("the parent is %s with %d children open", p, n)
	}
	if one := must(b.Claim(t.Context(), b.register(-time.Second), []gantry.Want{{Lane: b.lane, N: 9}}))(t); len(one) != 0 {
		t.Fatalf("a dead process claimed %+v", one)
	}
	children := b.claimShards(b.worker, 3)
	for i, c := range children {
		if c.Parent != parent.Task || c.Role != gantry.Shard || int(c.Ordinal) != i || c.State != gantry.Inferring || c.Pipeline != parent.Pipeline ||
			c.PublicID != gantry.ChildID(parent.PublicID, gantry.Shard, i) || c.Priority != parent.Priority-1 || c.Remaining < 50*time.Second || c.Remaining > time.Minute {
			t.Errorf("child %d is %+v", i, c)
		}
	}
	seq := b.count(`select seq from task_hot where id = $1`, int64(parent.Task))
	b.commit(b.worker, end(children[2], gantry.Done), end(children[0], gantry.Failed))
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Waiting || n != 1 {
		t.Errorf("with one child left the parent is %s, %d open", p, n)
	}
	b.commit(b.worker, end(children[1], gantry.Cancelled))
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Ready || n != 0 {
		t.Errorf("with no child left the parent is %s, %d open", p, n)
	}
	if n := b.count(`select seq from task_hot where id = $1`, int64(parent.Task)); n != seq {
		t.Errorf("the parent's seq went from %d to %d without it", seq, n)
	}
	got := must(b.Children(t.Context(), parent.Task))(t)
	for i := range got {
		got[i].ID = 0
	}
	want := []gantry.ChildTask{{State: gantry.Failed, Code: "c"}, {State: gantry.Cancelled, Code: "c"}, {State: gantry.Done}}
	for i := range want {
		want[i].PublicID, want[i].Role, want[i].Ordinal, want[i].Members = gantry.ChildID(parent.PublicID, gantry.Shard, i), gantry.Shard, int32(i), 2
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("children (-want +got):\n%s", diff)
	}
	again := b.claim(b.worker, 9)
	if len(again) != 1 || again[0].Task != parent.Task || again[0].State != gantry.Inferring || again[0].Attempt != 0 {
		t.Errorf("claimed %+v", again)
	}
	events := must(b.Events(t.Context(), int64(parent.Task)))(t)
	if last := events[len(events)-1]; last.Change != "wait" || last.To != "inferring" {
		t.Errorf("the wait is on record as %+v", last)
	}
}

// TestWaitWithoutChildren is ready at once: nobody would ever wake it.
func TestWaitWithoutChildren(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	parent := b.divided(0)
	if p := b.phase(parent.Task); p != gantry.Ready {
		t.Errorf("a wait for nobody left the task %s", p)
	}
	// The children are there and have ended: the same division, made again by a later claim, makes none.
	parent = b.claim(b.worker, 1)[0]
	b.commit(b.worker, wait(parent, 2))
	b.commit(b.worker, end(b.claim(b.worker, 1)[0], gantry.Done), end(b.claim(b.worker, 1)[0], gantry.Done))
	parent = b.claim(b.worker, 1)[0]
	if got := b.commit(b.worker, wait(parent, 2)); !got[0] {
		t.Fatal("the second wait did not land")
	}
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Ready || n != 0 {
		t.Errorf("the parent is %s with %d children open", p, n)
	}
	if n := b.count(`select count(*) from task where parent = $1`, int64(parent.Task)); n != 2 {
		t.Errorf("%d children, want the 2", n)
	}
}

// TestDivisionIsFenced lets a process that lost its lease make no children.
func TestDivisionIsFenced(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	stale := task
	stale.Seq--
	if got := b.commit(b.worker, wait(stale, 2)); got[0] {
		t.Error("a division under a lost lease landed")
	}
	if got := b.commit(b.register(time.Minute), wait(task, 2)); got[0] {
		t.Error("another process divided the task")
	}
	if n := b.count(`select count(*) from task`); n != 1 {
		t.Errorf("%d tasks, want 1", n)
	}
}

// TestFencedEndIsNotCounted ends a child twice, the second time under the lease that was lost: the parent
// still waits for the other. The control counts what was asked for instead of what landed.
func TestFencedEndIsNotCounted(t *testing.T) {
	t.Parallel()
	for _, guarded := range []bool{true, false} {
		b := newBed(t)
		parent := b.divided(2)
		child := b.claim(b.worker, 1)[0]
		b.commit(b.worker, end(child, gantry.Done))
		if guarded {
			if got := b.commit(b.worker, end(child, gantry.Done)); got[0] {
				t.Error("a child ended twice")
			}
		} else {
			b.endUnguarded(child)
		}
		if early := b.phase(parent.Task) == gantry.Ready; early == guarded {
			t.Errorf("guarded %t: the parent is %s with a child still open", guarded, b.phase(parent.Task))
		}
	}
}

// endUnguarded runs the transition statement without its guard: it counts the children that were to end.
func (b *bed) endUnguarded(child gantry.Task) {
	b.t.Helper()
	args := append([]string{"1", array("bigint", strconv.Itoa(int(child.Task)), 1), array("int", strconv.Itoa(int(child.Seq)), 1)},
		repeat(1, "0", "smallint", "smallint", "smallint")...)
	args = append(append(args, array("smallint", "4", 1)), repeat(1, "0", "bigint", "bigint", "smallint", "text", "text", "smallint", "int")...)
	args = append(args, array("int", "-1", 1))
	src, args := postgres.MovesForTest(1, args...)
	sql := strings.Replace(src, "from c where parent is not null", "from i join task on task.id = i.id where i.change = 4", 1)
	if sql == src {
		b.t.Fatal("the statement is not written as this control expects")
	}
	tx := must(b.Pool().Begin(b.t.Context()))(b.t)
	for _, q := range []string{`prepare q as ` + sql, `execute q(` + strings.Join(args, ", ") + `)`, `deallocate q`} {
		if _, err := tx.Exec(b.t.Context(), q, pgx.QueryExecModeSimpleProtocol); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := tx.Commit(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// TestWaitingSurvivesItsProcess kills the process that divided a task and works on one of its children.
func TestWaitingSurvivesItsProcess(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	parent := b.divided(2)
	b.claim(b.worker, 1)
	b.exec(`update worker set expires_at = now() - interval '1 s'`)
	if lanes := must(b.Reap(t.Context()))(t); len(lanes) != 1 {
		t.Errorf("woke lanes %v", lanes)
	}
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Waiting || n != 2 {
		t.Errorf("after the reaper the parent is %s with %d open", p, n)
	}
	other := b.register(time.Minute)
	children := b.claim(other, 9) // the one that was rescued, and a new one
	if len(children) != 2 || children[0].Crashes != 1 || children[1].Crashes != 0 {
		t.Fatalf("claimed %+v", children)
	}
	b.commit(other, end(children[0], gantry.Done), end(children[1], gantry.Done))
	if p := b.phase(parent.Task); p != gantry.Ready {
		t.Errorf("the parent is %s", p)
	}
}

// TestParentsInTurn ends children of the same parents in many batches at once, in opposite orders.
func TestParentsInTurn(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	const parents, each = 8, 20
	b.enqueue(parents)
	top := b.claim(b.worker, parents)
	for _, p := range top {
		b.commit(b.worker, wait(p, each))
	}
	children := b.claimShards(b.worker, parents*each)
	errs := make(chan error)
	for k := range each {
		go func() {
			var writes []*gantry.Write
			for i := range parents {
				j := i
				if k%2 == 1 {
					j = parents - 1 - i
				}
				writes = append(writes, end(children[j*each+k], gantry.Done))
			}
			_, err := b.Commit(t.Context(), b.worker, writes)
			errs <- err
		}()
	}
	for range each {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	for _, p := range top {
		if b.phase(p.Task) != gantry.Ready || b.open(p.Task) != 0 {
			t.Errorf("parent %d is %s with %d open", p.Task, b.phase(p.Task), b.open(p.Task))
		}
	}
}

// TestShardsOfARunnerGone cancels a waiting parent and its children together when their only process dies.
func TestShardsOfARunnerGone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.worker = b.register(time.Minute)
	b.lane = must(b.EnsureLane(t.Context(), "p", "run", b.limiter, b.worker))(t)
	b.divided(3)
	b.claimShards(b.worker, 1)
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(b.worker))
	must(b.Reap(t.Context()))(t)
	if list := must(b.Tasks(t.Context(), postgres.Filter{State: "cancelled"}))(t); len(list) != 4 || b.count(`select count(*) from task_hot`) != 0 {
		t.Errorf("cancelled %+v", list)
	}
}

// TestMembers gives a child its items with what they lie in, and lets it mark them where they are.
func TestMembers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	parent := b.claim(b.worker, 1)[0]
	item := func(id, in gantry.ItemID) gantry.Item {
		return gantry.Item{ID: id, Parent: in, Origin: id, Stage: gantry.OriginalStage, Size: 1}
	}
	b.commit(b.worker, &gantry.Write{Lease: parent.Lease, Items: []gantry.Item{item(0, gantry.NoItem), item(1, 0), item(2, 1), item(3, 1), item(4, 0), item(5, 0)}})
	d := &gantry.Division{Role: gantry.Member, State: gantry.Queued, Within: time.Hour, Children: []gantry.Child{
		{PublicID: "a", Members: gantry.Spans([]gantry.ItemID{3, 5})}, {PublicID: "b", Members: gantry.Spans([]gantry.ItemID{2, 4})}}}
	b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: parent.Lease, Change: gantry.Wait, Divide: d}})
	child := b.claim(b.worker, 2)[1]
	owner, items, err := b.MemberItems(t.Context(), child.Task)
	if err != nil || owner != parent.Task {
		t.Fatalf("owner %d: %v", owner, err)
	}
	var ids []gantry.ItemID
	for _, x := range items {
		ids = append(ids, x.ID)
	}
	if diff := cmp.Diff([]gantry.ItemID{0, 1, 2, 4}, ids); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	if child.State != gantry.Queued || child.Remaining < 50*time.Minute {
		t.Errorf("the child begins as %+v", child)
	}
	b.commit(b.worker, &gantry.Write{Lease: child.Lease, Of: owner, Marks: []gantry.ItemMark{{ID: 4, SHA: gantry.Digest{9}, Size: 7}}})
	if got := must(b.Items(t.Context(), parent.Task))(t); got[4].SHA != (gantry.Digest{9}) || got[4].Size != 7 || got[2].Size != 1 {
		t.Errorf("the parent's items are %+v", got)
	}
	if a := must(b.Originals(t.Context(), child.Task))(t)[0]; a.Name != "a.png" {
		t.Errorf("the child's arrival is %+v", a)
	}
}
