package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// oneStatement is the grant as it must not be: the lock and the sum in one statement, whose snapshot is
// from before the wait for the lock.
const oneStatement = `
with l as (select coalesce(max_units, 1000000) as max from limiter where id = $1 for update),
o as (select coalesce(sum(units), 0)::int as units from limit_grant where limiter = $1 and worker <> $2 and (select max from l) is not null)
insert into limit_grant as g (limiter, worker, units, want)
select $1, $2, greatest($4::int, least($3::int, greatest(0, l.max - o.units))), $3::int from l, o
on conflict (limiter, worker) do update set units = excluded.units, want = excluded.want
returning units`

// granted runs two grants of all units at the same moment: both wait for the limiter's row, which a
// third transaction holds, and says how many units were given out.
func granted(t *testing.T, grant func(b *bed, w gantry.WorkerID, limiter int32) (int, error)) int {
	t.Helper()
	b := newBed(t)
	limiter := must(b.EnsureLimiter(t.Context(), "http://h:1", gantry.LimiterSpec{MaxUnits: 8}, true))(t)
	hold := must(b.Pool().Begin(t.Context()))(t)
	t.Cleanup(func() { hold.Rollback(context.Background()) })
	if _, err := hold.Exec(t.Context(), `select 1 from limiter where id = $1 for update`, limiter); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	sum := make(chan int, 2)
	for range 2 {
		w := b.register(time.Minute)
		wg.Go(func() {
			n, err := grant(b, w, limiter)
			if err != nil {
				t.Error(err)
			}
			sum <- n
		})
	}
	waitFor(t, func() bool {
		return b.count(`select count(distinct pid) from pg_locks where not granted and pid in
			(select pid from pg_locks where database = (select oid from pg_database where datname = current_database()))`) == 2
	})
	if err := hold.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return <-sum + <-sum
}

func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for range 1000 {
		if cond() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it did not come to that")
}

func TestGrantsOfOneMomentShareTheUnits(t *testing.T) {
	t.Parallel()
	n := granted(t, func(b *bed, w gantry.WorkerID, limiter int32) (int, error) {
		return b.Grant(t.Context(), w, limiter, 8, 0)
	})
	if n != 8 {
		t.Errorf("%d units were given out of 8", n)
	}
}

// TestOneStatementGrantExceeds is the control: the same schedule with the statement in one piece
// gives out more than there is, so the test above can fail.
func TestOneStatementGrantExceeds(t *testing.T) {
	t.Parallel()
	n := granted(t, func(b *bed, w gantry.WorkerID, limiter int32) (n int, err error) {
		err = b.Pool().QueryRow(context.Background(), oneStatement, limiter, int64(w), 8, 0).Scan(&n)
		return n, err
	})
	if n != 16 {
		t.Errorf("the grant in one statement gave out %d units of 8; it is known to give 16", n)
	}
}

func TestGrantRules(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	limiter := must(b.EnsureLimiter(t.Context(), "http://h:1", gantry.LimiterSpec{MaxUnits: 8}, true))(t)
	one, two := b.register(time.Minute), b.register(time.Minute)
	for i, c := range []struct {
		w           gantry.WorkerID
		want, inUse int
		units       int
	}{
		{one, 5, 0, 5},
		{two, 20, 0, 3},                     // no more than is left
		{one, 5, 5, 5},                      // what is in use stays, even above the share
		{one, 5, 1, 2},                      // then it shrinks to the share: 8 x 5/25
		{two, 20, 3, 6},                     // and the other grows
		{two, 0, 0, 0},                      // all goes back
		{one, 50, 2, 8},                     // to whoever wants it
		{b.register(-time.Second), 4, 0, 0}, // nothing for the dead
	} {
		units, err := b.Grant(t.Context(), c.w, limiter, c.want, c.inUse)
		if i == 7 {
			if err == nil && units > 0 {
				t.Error("a worker without a lease got units")
			}
			continue
		}
		if err != nil || units != c.units {
			t.Errorf("step %d: got %d units (%v), want %d", i, units, err, c.units)
		}
		if n := b.count(`select coalesce(sum(units), 0) from limit_grant where limiter = $1`, limiter); n > 8 {
			t.Fatalf("step %d: %d units of 8 are out", i, n)
		}
	}
}

func TestUnitsOfTheDeadAreHeld(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	limiter := must(b.EnsureLimiter(t.Context(), "http://h:1", gantry.LimiterSpec{MaxUnits: 8, Hold: 300 * time.Millisecond}, true))(t)
	progress := must(b.EnsureLimiter(t.Context(), "pipeline:q", gantry.LimiterSpec{MaxUnits: 4, Hold: time.Hour}, true))(t)
	dead := b.register(time.Minute)
	must(b.Grant(t.Context(), dead, limiter, 6, 6))(t)
	must(b.Grant(t.Context(), dead, progress, 4, 4))(t)
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(dead))
	must(b.Reap(t.Context()))(t)
	if n := must(b.Grant(t.Context(), b.worker, limiter, 8, 0))(t); n != 2 {
		t.Errorf("got %d units while the dead process's six calls may still run", n)
	}
	if n := must(b.Grant(t.Context(), b.worker, progress, 4, 0))(t); n != 4 {
		t.Errorf("got %d units of tasks in progress; those of the dead go back at once", n)
	}
	waitFor(t, func() bool { return must(b.Grant(t.Context(), b.worker, limiter, 8, 2))(t) == 8 })
}

func TestReserveSpacesStarts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	limiter := must(b.EnsureLimiter(t.Context(), "http://h:1", gantry.LimiterSpec{MaxUnits: -1, Rate: 20, Burst: 5}, true))(t)
	var starts []time.Duration
	var booked []int // the same in microseconds of the database's clock, which is not how long we took to hear of them
	began := time.Now()
	for range 10 {
		first, step, err := b.Reserve(t.Context(), limiter, 2)
		if err != nil {
			t.Fatal(err)
		}
		now, end := time.Since(began), b.count(`select (extract(epoch from tat) * 1e6)::bigint from limiter where key = 'http://h:1'`)
		for i := range 2 {
			starts = append(starts, now+max(0, first+time.Duration(i)*step))
			booked = append(booked, end-(2-i)*int(step.Microseconds()))
		}
	}
	// Five at once, then one each 50 ms: the twentieth 750 ms after the burst.
	if last := starts[19]; last < 700*time.Millisecond || last > 900*time.Millisecond+time.Since(began) {
		t.Errorf("the 20th start is at %s", last)
	}
	for i := 6; i < len(starts); i++ {
		if gap := booked[i] - booked[i-1]; gap < 49_000 {
			t.Errorf("start %d comes %d us after the one before", i, gap)
		}
	}
	b.exec(`update limiter set tat = now() - interval '1 hour' where id = $1`, limiter)
	first, _, err := b.Reserve(t.Context(), limiter, 1)
	if err != nil || first < -time.Second {
		t.Errorf("an hour's missed starts were kept: the next is at %s (%v)", first, err)
	}
}

func TestEnsureLimiterKeepsWhatWasDeclared(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	id := must(b.EnsureLimiter(t.Context(), "k", gantry.LimiterSpec{MaxUnits: 3, Rate: 7, Burst: 2}, true))(t)
	if again := must(b.EnsureLimiter(t.Context(), "k", gantry.LimiterSpec{MaxUnits: 9}, false))(t); again != id {
		t.Errorf("the key has rows %d and %d", id, again)
	}
	if got := must(b.Limit(t.Context(), id))(t); got != (gantry.LimiterSpec{MaxUnits: 3, Rate: 7, Burst: 2}) {
		t.Errorf("limits became %+v", got)
	}
	must(b.EnsureLimiter(t.Context(), "k", gantry.LimiterSpec{MaxUnits: -1}, true))(t)
	if got := must(b.Limit(t.Context(), id))(t); got.MaxUnits != -1 || got.Rate != 0 {
		t.Errorf("declared anew they are %+v", got)
	}
}

func TestRunnerGone(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	runner := b.register(time.Minute)
	shared := b.lane
	b.lane = must(b.EnsureLane(t.Context(), "p", "run", b.limiter, runner))(t)
	b.enqueue(3)
	task := b.claim(runner, 2)
	b.commit(runner, &gantry.Write{Transition: &gantry.Transition{Lease: task[0].Lease, Change: gantry.Park, After: time.Hour}})
	if lanes := must(b.Lanes(t.Context(), b.worker, false))(t); len(lanes) != 1 || lanes[0].ID != shared {
		t.Errorf("another process sees lanes %+v", lanes)
	}
	b.exec(`update worker set expires_at = now() - interval '1 s' where id = $1`, int64(runner))
	must(b.Reap(t.Context()))(t)
	list := must(b.Tasks(t.Context(), postgres.Filter{State: "cancelled"}))(t)
	if len(list) != 3 || list[0].Error.Code != string(gantry.CodeRunnerGone) {
		t.Errorf("cancelled %+v", list)
	}
	if n := b.count(`select count(*) from task_hot`); n != 0 {
		t.Errorf("%d tasks are left", n)
	}
}

func TestPromote(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(2)
	tasks := b.claim(b.worker, 2)
	if _, next, err := b.Promote(t.Context(), 10); err != nil || next >= 0 {
		t.Errorf("next at %s (%v) without a delayed task", next, err)
	}
	for i, after := range []time.Duration{0, time.Hour} {
		b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: tasks[i].Lease, Change: gantry.Park, After: after}})
	}
	lanes, next, err := b.Promote(t.Context(), 10)
	if err != nil || len(lanes) != 1 || next < 50*time.Minute {
		t.Errorf("promoted lanes %v, next in %s (%v)", lanes, next, err)
	}
	if got := b.claim(b.worker, 9); len(got) != 1 || got[0].Task != tasks[0].Task {
		t.Errorf("claimed %+v", got)
	}
}

// TestRecordIsAppendOnly tries to change the record as the application and as the owner.
func TestRecordIsAppendOnly(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	b.commit(b.worker, &gantry.Write{Intent: &gantry.Intent{ID: b.ids.New(), Lease: task.Lease, Limiter: b.limiter, Pipeline: b.pipeline}},
		advance(task, gantry.Extracting))
	for _, role := range []string{"gantry_app", "none"} {
		for _, q := range []string{`update task_event set code = 'x'`, `delete from task_event`, `update call_intent set try = 9`, `delete from call_intent`} {
			c := must(b.Pool().Acquire(t.Context()))(t)
			if _, err := c.Exec(t.Context(), `set role `+role); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Exec(t.Context(), q); err == nil {
				t.Errorf("as %s: %s was allowed", role, q)
			}
			c.Exec(t.Context(), `set role gantry_app`)
			c.Release()
		}
	}
	var role string
	if err := b.Pool().QueryRow(t.Context(), `select current_user`).Scan(&role); err != nil || role != "gantry_app" {
		t.Errorf("the store works as %s (%v), not as gantry_app", role, err)
	}
}
