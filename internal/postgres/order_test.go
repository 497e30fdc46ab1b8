package postgres_test

import (
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestClaimLooksAtHeads: a claim with places for the oldest looks at the head of each of the ten priorities, however long
// the queue is behind it, and one that leaves priorities out does not read what it leaves.
func TestClaimLooksAtHeads(t *testing.T) {
	t.Parallel()
	for _, analyzed := range []bool{true, false} {
		p := newPlans(t, analyzed)
		p.holdHeads(t) // all are of one priority: the planner knows it, and may think that any order finds them
		p.exec(`update task_hot set priority = id % 10 where id > 1000`)
		p.exec(`vacuum task_hot`)
		if analyzed {
			p.exec(`analyze task_hot`)
		}
		p.holdHeads(t)
	}
}

func (p *plans) holdHeads(t *testing.T) {
	t.Helper()
	lane, claim := array("int", strconv.Itoa(int(p.lane)), 1), readSQL(t, "claim.sql")
	for _, c := range []struct{ n, aged, upto, most int }{{100, 13, 9, 500}, {100, 0, 9, 300}, {1, 1, 9, 39}, {1000, 0, 7, 2100}, {100, 100, 7, 1300}} {
		plan := p.explain(claim, lane, array("int", strconv.Itoa(c.n), 1), "1", array("smallint", strconv.Itoa(c.upto), 1), array("int", strconv.Itoa(c.aged), 1), lane,
			array("smallint", "5", 1), array("bigint", "1", 1))
		hold(t, plan)
		if n := rowsRead(t, plan); n > c.most {
			t.Errorf("%d rows of the queue are read for %d tasks, %d of them the oldest:\n%s", n, c.n, c.aged, plan)
		}
	}
}

var readsQueue = regexp.MustCompile(`(?:Scan using task_hot_\w+ on task_hot|Bitmap Index Scan on task_hot_).*\(actual rows=(\d+) loops=(\d+)\)|\n +(?:Filter: .*phase.*|Filter: .*priority.*)\n +Rows Removed by Filter: (\d+)`)

// rowsRead sums up what a plan reads of the queue.
func rowsRead(t *testing.T, plan string) (sum int) {
	t.Helper()
	for _, m := range readsQueue.FindAllStringSubmatch(plan, -1) {
		if m[3] != "" {
			sum += must(strconv.Atoi(m[3]))(t)
			continue
		}
		sum += must(strconv.Atoi(m[1]))(t) * must(strconv.Atoi(m[2]))(t)
	}
	if sum == 0 {
		t.Errorf("nothing is read:\n%s", plan)
	}
	return sum
}

// rank gives the tasks that wait these priorities, in the order of their ids.
func (b *bed) rank(priorities ...int16) {
	b.t.Helper()
	b.enqueue(len(priorities))
	b.exec(`update task_hot h set priority = p.p from unnest($1::smallint[]) with ordinality p(p, n)
		where h.id = (select id from task_hot order by id offset p.n - 1 limit 1)`, priorities)
}

// claimed gives the priorities of what a claim takes.
func (b *bed) claimed(w gantry.Want) (out []int16) {
	b.t.Helper()
	w.Lane = b.lane
	for _, x := range must(b.Claim(b.t.Context(), b.worker, []gantry.Want{w}))(b.t) {
		out = append(out, x.Priority)
	}
	return out
}

func TestClaimTakesTheOldest(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.rank(8, 9, 5, 1, 1, 1, 1, 5)
	for i, c := range []struct {
		want gantry.Want
		got  []int16
	}{
		{gantry.Want{N: 3, Aged: 1}, []int16{1, 1, 8}},       // the first of all is of priority 8
		{gantry.Want{N: 1, Aged: 1, Upto: 7}, []int16{5}},    // that of 9 stays where it is
		{gantry.Want{N: 2, Aged: 0, Upto: 0}, []int16{1, 1}}, // by priority alone
		{gantry.Want{N: 9, Aged: 2, Upto: 1}, nil},           // no urgent one is left
		{gantry.Want{N: 9, Aged: 9}, []int16{5, 9}},          // as many as there are
		{gantry.Want{N: 1, Aged: 1}, nil},
	} {
		if got := b.claimed(c.want); !slices.Equal(got, c.got) {
			t.Errorf("claim %d: priorities %v, want %v", i, got, c.got)
		}
	}
}

// TestClaimsDoNotMeet has claims by age and by priority run side by side: no task is taken twice, none is left.
func TestClaimsDoNotMeet(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(300)
	b.exec(`update task_hot set priority = id % 10`)
	seen := make(chan gantry.TaskID, 1000)
	done := make(chan error)
	for range 4 {
		w := b.register(time.Minute)
		go func() {
			for misses := 0; misses < 3; {
				tasks, err := b.Claim(t.Context(), w, []gantry.Want{{Lane: b.lane, N: 7, Aged: 3}})
				if err != nil {
					done <- err
					return
				}
				if misses++; len(tasks) > 0 {
					misses = 0
				}
				for _, x := range tasks {
					seen <- x.Task
				}
			}
			done <- nil
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	close(seen)
	all := map[gantry.TaskID]bool{}
	for id := range seen {
		if all[id] {
			t.Errorf("task %d was claimed twice", id)
		}
		all[id] = true
	}
	if len(all) != 300 {
		t.Errorf("%d of 300 tasks were claimed", len(all))
	}
}

func TestUrgentLanes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.rank(5, 2)
	if got := must(b.UrgentLanes(t.Context(), []int32{b.lane}))(t); len(got) != 0 {
		t.Errorf("lanes %v have urgent tasks", got)
	}
	b.exec(`update task_hot set priority = 1 where priority = 2`)
	if got := must(b.UrgentLanes(t.Context(), []int32{b.lane, 99}))(t); !slices.Equal(got, []int32{b.lane}) {
		t.Errorf("lanes %v have urgent tasks", got)
	}
	b.claimed(gantry.Want{N: 1})
	if got := must(b.UrgentLanes(t.Context(), []int32{b.lane}))(t); len(got) != 0 {
		t.Errorf("lanes %v have urgent tasks after the claim", got)
	}
}

// TestPriorityOfATransition: a transition sets the priority or leaves it, and a release may give its state more time.
func TestPriorityOfATransition(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(2)
	tasks := b.claim(b.worker, 2)
	first, second := advance(tasks[0], gantry.Ingesting), advance(tasks[1], gantry.Ingesting)
	first.Transition.Priority = new(int16)
	b.commit(b.worker, first, second)
	if got := b.priorities(); !slices.Equal(got, []int16{0, 5}) {
		t.Errorf("priorities %v, want 0 and as it was", got)
	}
	tasks[1].Seq++
	p := gantry.PriorityOffPeak
	held := &gantry.Write{Transition: &gantry.Transition{Lease: tasks[1].Lease, From: gantry.Ingesting, To: gantry.Ingesting, Change: gantry.Release, Within: 20 * time.Hour, Priority: &p}}
	if landed := b.commit(b.worker, held); !landed[0] {
		t.Fatal("the release is fenced")
	}
	got := b.claim(b.worker, 9)
	if len(got) != 1 || got[0].Priority != 8 || got[0].State != gantry.Ingesting || got[0].Remaining < 19*time.Hour {
		t.Errorf("claimed %+v", got)
	}
}

func (b *bed) priorities() (out []int16) {
	b.t.Helper()
	if err := b.Pool().QueryRow(b.t.Context(), `select array_agg(priority order by id) from task_hot`).Scan(&out); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// TestPrioritiesAndHOT: transitions that leave the priority, or set what it is, rewrite no index; the control is one
// that changes it.
func TestPrioritiesAndHOT(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	for priority, hot := range map[int16]int{-1: 1, 5: 1, 3: 0} {
		tx := must(b.Pool().Begin(t.Context()))(t)
		updates := func() (n int) {
			if err := tx.QueryRow(t.Context(), `select n_tup_hot_upd from pg_stat_xact_user_tables where relname = 'task_hot'`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := updates()
		sql, _ := postgres.MovesForTest(1, make([]string, 15)...)
		must(tx.Exec(t.Context(), sql, int64(b.worker), int64(task.Task), task.Seq, int16(0), int16(1),
			int16(0), int16(0), int64(0), int64(0), int16(0), "", "", priority, int32(0), int32(-1)))(t)
		if got := updates() - before; got != hot {
			t.Errorf("priority %d: %d HOT updates, want %d", priority, got, hot)
		}
		tx.Rollback(t.Context())
	}
}

func TestOrderOfPipelines(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := t.Context()
	if rules := must(b.Order(ctx, "p"))(t); rules != "" {
		t.Errorf("a pipeline that nobody declared has the rules %q", rules)
	}
	night := must(gantry.ParseWindows("mon-fri 22:00-06:00 Europe/Berlin;sat,sun 00:00-24:00 UTC"))(t)
	for _, w := range []gantry.Windows{nil, night} {
		if err := b.SetOrder(ctx, "p", `{"priority":"offpeak"}`, w); err != nil {
			t.Fatal(err)
		}
		got := must(b.OffPeak(ctx))(t)
		if got["p"].String() != w.String() || len(got) != min(1, len(w)) {
			t.Errorf("the windows are %v, want %v", got, w)
		}
	}
	if diff := cmp.Diff(`{"priority":"offpeak"}`, must(b.Order(ctx, "p"))(t)); diff != "" {
		t.Error(diff)
	}
}

// TestUrgentCallsGoBeforeShares has a process with much to do hold all units while another has one urgent call, or
// several: the first is entitled to what is left without them, and takes nothing that they lack.
func TestUrgentCallsGoBeforeShares(t *testing.T) {
	t.Parallel()
	for units, want := range map[int]struct{ urgent, share int }{1: {1, 0}, 4: {1, 3}, 8: {3, 5}} {
		b := newBed(t)
		ctx := t.Context()
		limiter := must(b.EnsureLimiter(ctx, "http://h:1", gantry.LimiterSpec{MaxUnits: units}, true))(t)
		busy, other := b.register(time.Minute), b.register(time.Minute)
		grant := func(w gantry.WorkerID, want, inUse int) int { return must(b.Grant(ctx, w, limiter, want, inUse))(t) }
		grant(busy, 50, 0)
		if n := grant(other, want.urgent, 0); n != 0 {
			t.Fatalf("%d units were left", n)
		}
		if err := b.Urge(ctx, other, limiter, want.urgent); err != nil {
			t.Fatal(err)
		}
		if n := must(b.Share(ctx, busy, limiter, 50))(t); n != want.share {
			t.Errorf("of %d units the busy process is entitled to %d, want %d", units, n, want.share)
		}
		if n := grant(busy, 50, units); n != units {
			t.Errorf("units in use were taken away: %d of %d are left", n, units)
		}
		if n := grant(busy, 50, units-1); n != max(want.share, units-1) {
			t.Errorf("with a call less it holds %d of %d", n, units)
		}
		grant(busy, 50, want.share)
		if n := grant(other, want.urgent, 0); n != want.urgent {
			t.Errorf("the urgent calls got %d of %d units", n, want.urgent)
		}
		// They have what they want: shares are as ever.
		if n := grant(busy, 50, want.share); n != want.share {
			t.Errorf("the busy process got %d", n)
		}
		if n := must(b.Share(ctx, busy, limiter, 50))(t); n != units {
			t.Errorf("its share is %d of %d once nobody waits", n, units)
		}
	}
}

// TestUrgentCallsOfTheDead hold nobody up.
func TestUrgentCallsOfTheDead(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx := t.Context()
	limiter := must(b.EnsureLimiter(ctx, "http://h:1", gantry.LimiterSpec{MaxUnits: 4, Hold: time.Hour}, true))(t)
	dead := b.register(time.Minute)
	must(b.Grant(ctx, dead, limiter, 1, 0))(t)
	must(b.Grant(ctx, b.worker, limiter, 9, 0))(t)
	must(b.Grant(ctx, dead, limiter, 5, 1))(t)
	if err := b.Urge(ctx, dead, limiter, 4); err != nil {
		t.Fatal(err)
	}
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(dead))
	must(b.Reap(ctx))(t)
	if n := must(b.Grant(ctx, b.worker, limiter, 9, 0))(t); n != 3 {
		t.Errorf("%d units beside the one that is held for a dead process's call, want 3", n)
	}
}
