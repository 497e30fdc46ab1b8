package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// kill ends a lease and lets the reaper see it.
func (b *bed) kill(w gantry.WorkerID) []int32 {
	b.t.Helper()
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(w))
	return must(b.Reap(b.t.Context()))(b.t)
}

func (b *bed) crashes(id gantry.TaskID) int {
	b.t.Helper()
	return b.count(`select crashes from task_hot where id = $1`, int64(id))
}

// TestSetAsideIsNotToBlame: a task that waited for its turn when the process died was not what it died of. The
// control is the same task once its effect has begun.
func TestSetAsideIsNotToBlame(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(3)
	b.exec(`update task_hot set crashes = $1 where id <> (select min(id) from task_hot)`, gantry.CrashesToBeAlone)
	w := b.register(time.Minute)
	tasks := b.claim(w, 3)
	if len(tasks) != 2 {
		t.Fatalf("claimed %+v, want one that is to be alone", tasks)
	}
	tasks = append(tasks, b.claim(w, 3)...)
	if ok := must(b.Alone(t.Context(), w, tasks[1].Lease))(t); !ok {
		t.Fatal("the second may not begin")
	}
	stale := tasks[2].Lease
	stale.Seq--
	if must(b.Alone(t.Context(), w, stale))(t) || must(b.Alone(t.Context(), b.worker, tasks[2].Lease))(t) {
		t.Error("somebody else's task begins")
	}
	if lanes := b.kill(w); len(lanes) != 1 || lanes[0] != b.lane {
		t.Errorf("work in lanes %v", lanes)
	}
	for i, want := range []int{1, gantry.CrashesToBeAlone + 1, gantry.CrashesToBeAlone} {
		if n := b.crashes(tasks[i].Task); n != want {
			t.Errorf("task %d has %d deaths, want %d", i, n, want)
		}
	}
	for i, want := range []string{"rescued rescued", "rescued rescued", "release set_aside"} {
		events := must(b.Events(t.Context(), int64(tasks[i].Task)))(t)
		if got := events[len(events)-1]; got.Change+" "+got.Code != want || got.Seq != int(tasks[i].Seq)+1 {
			t.Errorf("task %d: %+v, want %s", i, got, want)
		}
	}
	if must(b.Alone(t.Context(), w, tasks[2].Lease))(t) {
		t.Error("a dead process begins a task")
	}
}

// TestFifthDeathEndsAChild: a shard that processes die of fails, and its parent goes on as at any end of a child.
func TestFifthDeathEndsAChild(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	parent := b.divided(2)
	b.exec(`update task_hot set crashes = $1 where id <> $2`, gantry.CrashesToFail-1, int64(parent.Task))
	w := b.register(time.Minute)
	shards := b.claimShards(w, 2)
	b.commit(w, end(shards[0], gantry.Done))
	must(b.Alone(t.Context(), w, shards[1].Lease))(t)
	if lanes := b.kill(w); len(lanes) != 1 || lanes[0] != b.lane {
		t.Errorf("work in lanes %v", lanes)
	}
	if p, n := b.phase(parent.Task), b.open(parent.Task); p != gantry.Ready || n != 0 {
		t.Errorf("the parent is %s with %d children open", p, n)
	}
	got := must(b.Children(t.Context(), parent.Task))(t)[1]
	if got.State != gantry.Failed || got.Code != gantry.CodeCrashed || got.Kind != gantry.Permanent {
		t.Errorf("the child is %+v", got)
	}
	events := must(b.Events(t.Context(), int64(shards[1].Task)))(t)
	var said string
	for _, e := range events {
		said += fmt.Sprintf("%d %s %s>%s %s; ", e.Seq, e.Change, e.From, e.To, e.Code)
	}
	if want := "2 rescued inferring>inferring rescued; 3 end inferring>failed crashed; "; said != want {
		t.Errorf("on record is %q, want %q", said, want)
	}
	if must(b.Tasks(t.Context(), postgres.Filter{State: "failed"}))(t)[0].Key != int64(shards[1].Task) {
		t.Error("another failed")
	}
}

// TestReopenAfterFiveDeaths: a task that is tried again after it failed so has no more lives than the one.
func TestReopenAfterFiveDeaths(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	var task gantry.Task
	for i := range gantry.CrashesToFail {
		w := b.register(time.Minute)
		task = b.claim(w, 1)[0]
		if int(task.Crashes) != i {
			t.Fatalf("before death %d it has %d", i+1, task.Crashes)
		}
		if i >= gantry.CrashesToBeAlone {
			must(b.Alone(t.Context(), w, task.Lease))(t)
		}
		b.kill(w)
	}
	if n := b.count(`select count(*) from task_hot`); n != 0 {
		t.Fatal("it did not fail")
	}
	if !must(b.Reopen(t.Context(), task.Task, gantry.Timeouts{Queued: time.Hour, Extracting: time.Hour}, 5, "by tester"))(t) {
		t.Fatal("it cannot be tried again")
	}
	w := b.register(time.Minute)
	if task = b.claim(w, 1)[0]; int(task.Crashes) != gantry.CrashesToFail {
		t.Errorf("it has %d deaths", task.Crashes)
	}
	must(b.Alone(t.Context(), w, task.Lease))(t)
	if b.kill(w); b.count(`select count(*) from task where error_code = 'crashed'`) != 1 {
		t.Error("it may kill once more")
	}
}

// holdRepairs moves and pauses n tasks in one batch, and rescues those of a dead process.
func (p *plans) holdRepairs(n int) {
	p.t.Helper()
	fence := []string{"1", array("bigint", "", n), array("int", "0", n)}
	for file, args := range map[string][]string{
		"move.sql":  append(slices.Clone(fence), repeat(n, "0", "smallint", "smallint", "int", "int", "bigint", "smallint", "text", "text")...),
		"pause.sql": append(slices.Clone(fence), repeat(n, "0", "smallint", "smallint")...),
	} {
		if file == "move.sql" {
			args[5] = array("int", "1", n) // a pipeline that there is
		}
		plan := p.explain(readSQL(p.t, file), args...)
		hold(p.t, plan)
		if !strings.Contains(plan, "Index Scan using task_hot_pkey") {
			p.t.Errorf("%s does not find its tasks by key:\n%s", file, plan)
		}
		if scansTasks.MatchString(plan) {
			p.t.Errorf("the plan reads all tasks:\n%s", plan)
		}
	}
	p.exec(`update worker set expires_at = now() - interval '1 s'`)
	defer p.exec(`update worker set expires_at = now() + interval '1 hour'`)
	plan := p.explain(readSQL(p.t, "reap.sql"), "4", "5")
	hold(p.t, plan)
	if !strings.Contains(plan, "task_hot_owned") {
		p.t.Errorf("the reaper does not read the index of what is owned:\n%s", plan)
	}
}
