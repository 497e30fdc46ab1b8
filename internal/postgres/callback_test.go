package postgres_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// planned is a task with n parts of one stage, which a process holds.
func (b *bed) planned(n int) gantry.Task {
	b.t.Helper()
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	w := &gantry.Write{Lease: task.Lease}
	for i := range n {
		w.Plan = append(w.Plan, gantry.Part{PartKey: gantry.PartKey{Ordinal: int32(i)}, First: gantry.ItemID(i), Count: 1, DueIn: -1})
	}
	b.commit(b.worker, w)
	return task
}

// out is a part that has gone out.
func out(limiter int32, ordinal int32, lasts time.Duration) gantry.Part {
	return gantry.Part{PartKey: gantry.PartKey{Ordinal: ordinal}, Status: gantry.PartOut, Submits: 1, DueIn: -1,
		Out: gantry.Outstanding{Ticket: "t", Limiter: limiter, For: lasts.Microseconds(), Left: time.Hour.Microseconds(), Token: gantry.Digest{1}}}
}

func (b *bed) received(task gantry.Task, ordinal int32, try int16, status gantry.CallbackStatus) *gantry.Received {
	return &gantry.Received{Submission: gantry.Submission{Task: task.Task, PartKey: gantry.PartKey{Ordinal: ordinal}, Try: try}, ID: b.ids.New(),
		Status: status, Size: 2, SHA: gantry.Digest{7}, Body: []byte("{}"), Header: http.Header{"Content-Type": {"application/json"}}}
}

func (b *bed) take(x *gantry.Received, want gantry.Verdict) {
	b.t.Helper()
	if v := must(b.TakeCallback(context.Background(), x))(b.t); v != want {
		b.t.Errorf("the verdict is %s, want %s", v, want)
	}
}

// TestPartsGoOut keeps a ticket with its times, lets a poll prolong it up to its deadline, and forgets all of it with the
// part's end.
func TestPartsGoOut(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(2)
	p := out(b.limiter, 0, time.Minute)
	p.DueIn = time.Second.Microseconds()
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{p}})
	got := must(b.Parts(t.Context(), task.Task, 0))(t)[0]
	near := func(got int64, want time.Duration) bool {
		return got <= want.Microseconds() && got > (want-20*time.Second).Microseconds()
	}
	if got.Status != gantry.PartOut || got.Submits != 1 || got.Out.Ticket != "t" || got.Out.Limiter != b.limiter || got.Out.Token != p.Out.Token ||
		!near(got.DueIn, time.Second) || !near(got.Out.For, time.Minute) || !near(got.Out.Left, time.Hour) {
		t.Errorf("went out as %+v", got)
	}
	p.Out.For, p.Out.Left = 0, 0 // asked in vain: it was no sign of life
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{p}})
	if got := must(b.Parts(t.Context(), task.Task, 0))(t)[0]; !near(got.Out.For, time.Minute) || !near(got.Out.Left, time.Hour) {
		t.Errorf("asked for in vain, its times are %+v", got.Out)
	}
	p.Out.For = (5 * time.Hour).Microseconds()
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{p}})
	if got := must(b.Parts(t.Context(), task.Task, 0))(t)[0]; !near(got.Out.For, time.Hour) {
		t.Errorf("a sign of life lasts beyond the deadline: %+v", got.Out)
	}
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{p.Ended(gantry.PartOK)}})
	got = must(b.Parts(t.Context(), task.Task, 0))(t)[0]
	want := gantry.Part{PartKey: p.PartKey, Status: gantry.PartOK, Attempt: 1, Submits: 1, First: 0, Count: 1, DueIn: -1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ended (-want +got):\n%s", diff)
	}
}

// TestVerdicts goes through a submission's life.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(4)
	commit := func(p gantry.Part) { b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{p}}) }
	b.take(b.received(task, 0, 2, gantry.CallbackDone), gantry.CallbackLate) // there is no second submission
	forged := b.received(task, 0, 1, gantry.CallbackDone)
	forged.Forged = true
	b.take(forged, gantry.CallbackForged)
	b.take(b.received(task, 0, 1, gantry.CallbackDone), gantry.CallbackAccepted) // before the 202
	commit(out(b.limiter, 0, time.Minute))
	b.take(b.received(task, 0, 1, gantry.CallbackFailed), gantry.CallbackDuplicate)

	commit(out(b.limiter, 1, time.Minute))
	b.take(b.received(task, 1, 1, gantry.CallbackRunning), gantry.CallbackAlive)
	commit(out(b.limiter, 2, -time.Second))
	b.take(b.received(task, 2, 1, gantry.CallbackDone), gantry.CallbackLate)
	b.take(b.received(task, 2, 1, gantry.CallbackRunning), gantry.CallbackLate)
	back := out(b.limiter, 2, 0)
	back.Status = gantry.PartPlanned
	commit(back)
	b.take(b.received(task, 2, 1, gantry.CallbackDone), gantry.CallbackLate)
	b.take(b.received(task, 2, 2, gantry.CallbackDone), gantry.CallbackAccepted)
	gone := b.received(task, 9, 1, gantry.CallbackDone)
	b.take(gone, gantry.CallbackLate)

	h := must(b.Answers(t.Context(), task.Task, 0, 0, 0))(t)
	var who []int32
	for _, a := range h.Answers {
		who = append(who, a.Ordinal)
		if a.Status != gantry.CallbackDone || string(a.Body) != "{}" || a.Header.Get("Content-Type") != "application/json" || a.Size != 2 || a.SHA != (gantry.Digest{7}) {
			t.Errorf("kept as %+v", a)
		}
	}
	if diff := cmp.Diff([]int32{0, 2}, who); diff != "" || h.Count != 2 {
		t.Errorf("%d answers (-want +got):\n%s", h.Count, diff)
	}
	commit(out(b.limiter, 0, 0).Ended(gantry.PartOK))
	if h := must(b.Answers(t.Context(), task.Task, 0, 0, 0))(t); len(h.Answers) != 1 || h.Count != 2 {
		t.Errorf("after one was taken in: %+v", h)
	}
	b.commit(b.worker, end(task, gantry.Done))
	b.take(b.received(task, 1, 1, gantry.CallbackDone), gantry.CallbackLate)
	if _, err := b.Answers(t.Context(), task.Task, 0, 0, 0); err == nil {
		t.Error("a task that has ended waits for answers")
	}
	for verdict, want := range []int{2, 1, 6, 1, 1} {
		if n := b.count(`select count(*) from callback where verdict = $1`, verdict); n != want {
			t.Errorf("%d callbacks are %s, want %d", n, gantry.Verdict(verdict), want)
		}
	}
	if n := b.count(`select count(*) from callback where verdict <> 0 and (body is not null or header is not null)`); n != 0 {
		t.Errorf("%d bodies are kept that nobody reads", n)
	}
}

// TestAwaited says beforehand what would be accepted.
func TestAwaited(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(1)
	ask := func(try int16) bool {
		p, awaited, err := b.Awaited(t.Context(), b.received(task, 0, try, "").Submission)
		if err != nil || p != b.pipeline {
			t.Fatalf("pipeline %d, %v", p, err)
		}
		return awaited
	}
	if !ask(1) || ask(2) {
		t.Error("a submission on its way is not awaited, or one that is not on its way is")
	}
	b.take(b.received(task, 0, 1, gantry.CallbackDone), gantry.CallbackAccepted)
	if ask(1) {
		t.Error("a second answer is awaited")
	}
	x := b.received(task, 0, 1, "").Submission
	x.Task = 99
	if _, _, err := b.Awaited(t.Context(), x); gantry.CodeOf(err) != postgres.CodeNoTask {
		t.Errorf("of nobody's task: %v", err)
	}
}

// TestAnswersOfOneMoment accepts one of many valid answers.
func TestAnswersOfOneMoment(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	task := b.planned(1)
	var mu sync.Mutex
	got := map[gantry.Verdict]int{}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			v, err := b.TakeCallback(t.Context(), b.received(task, 0, 1, gantry.CallbackDone))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[v]++
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[gantry.Verdict]int{gantry.CallbackAccepted: 1, gantry.CallbackDuplicate: 15}, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

// TestCallbackRowsStay holds the record of callbacks to what goes for all of the record.
func TestCallbackRowsStay(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.take(b.received(b.planned(1), 0, 1, gantry.CallbackDone), gantry.CallbackAccepted)
	for _, q := range []string{`update callback set verdict = 2`, `delete from callback`, `truncate callback`} {
		if _, err := b.Pool().Exec(t.Context(), q); err == nil || !strings.Contains(err.Error(), "append-only") && !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v", q, err)
		}
	}
}

// race parks a task at the moment at which an answer comes, in either order, with park as the statement of
// transitions. It says whether the task is due at once.
func (b *bed) race(parkFirst bool, park func(ctx context.Context, task gantry.Task)) bool {
	b.t.Helper()
	b.worker = b.register(time.Minute)
	task := b.planned(1)
	if parkFirst {
		park(b.t.Context(), task)
		b.take(b.received(task, 0, 1, gantry.CallbackDone), gantry.CallbackAccepted)
	} else {
		tx := must(b.Pool().Begin(b.t.Context()))(b.t)
		defer tx.Rollback(context.Background())
		if _, err := tx.Exec(b.t.Context(), `update task_hot set answers = answers + 1 where id = $1`, int64(task.Task)); err != nil {
			b.t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { defer close(done); park(b.t.Context(), task) }()
		waitFor(b.t.(*testing.T), b.waits)
		if err := tx.Commit(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
		<-done
	}
	return b.count(`select count(*) from task_hot where id = $1 and phase = 2 and run_at <= now() + interval '1 s'`, int64(task.Task)) == 1
}

// waits tells whether somebody waits for a lock in this database.
func (b *bed) waits() bool {
	return b.count(`select count(distinct pid) from pg_locks where not granted and pid in
		(select pid from pg_locks where database = (select oid from pg_database where datname = current_database()))`) > 0
}

// TestParkHearsAnswers parks a task while its answer is being committed. The control, which reads the count in
// a statement of its own before, misses it.
func TestParkHearsAnswers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	park := func(_ context.Context, task gantry.Task) {
		b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: task.Lease, From: task.State, To: task.State, Change: gantry.Park,
			After: time.Hour, Heard: 1}})
	}
	if !b.race(true, park) {
		t.Error("an answer that comes after the park does not wake the task")
	}
	if !b.race(false, park) {
		t.Error("an answer that comes during the park is missed")
	}
	before := func(ctx context.Context, task gantry.Task) {
		err := pgx.BeginFunc(ctx, b.Pool(), func(tx pgx.Tx) error {
			var n int
			if err := tx.QueryRow(ctx, `select answers from task_hot where id = $1`, int64(task.Task)).Scan(&n); err != nil || n != 0 {
				return err
			}
			_, err := tx.Exec(ctx, `update task_hot set phase = 2, owner = null, run_at = now() + interval '1 hour', seq = seq + 1 where id = $1`, int64(task.Task))
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if b.race(false, before) {
		t.Error("the control did not miss the answer; it proves nothing")
	}
}

// TestParkIsQuiet parks a task that has heard all answers, and one that waits for none, for as long as it asked.
func TestParkIsQuiet(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, heard := range []int32{2, 0} {
		task := b.planned(1)
		b.take(b.received(task, 0, 1, gantry.CallbackDone), gantry.CallbackAccepted)
		b.commit(b.worker, &gantry.Write{Transition: &gantry.Transition{Lease: task.Lease, From: task.State, To: task.State, Change: gantry.Park,
			After: time.Hour, Heard: heard}})
		if n := b.count(`select count(*) from task_hot where id = $1 and phase = 2 and run_at > now() + interval '50 min'`, int64(task.Task)); n != 1 {
			t.Errorf("heard %d: it is run again before its time", heard)
		}
	}
}

// TestOutPartsHoldUnits counts the parts that are out against the limit of their target, until their time is up or
// they come back. Without the sum of them it would be passed.
func TestOutPartsHoldUnits(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	limiter := must(b.EnsureLimiter(t.Context(), "http://h:1", gantry.LimiterSpec{MaxUnits: 8}, true))(t)
	task := b.planned(6)
	grant := func(want, units int) {
		t.Helper()
		if n := must(b.Grant(t.Context(), b.worker, limiter, want, 0))(t); n != units {
			t.Errorf("%d units of 8, want %d", n, units)
		}
	}
	grant(20, 8)
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(limiter, 0, time.Minute), out(limiter, 1, time.Minute), out(limiter, 2, time.Minute),
		out(limiter, 3, -time.Second), out(b.limiter, 4, time.Minute)}})
	grant(20, 5)
	var blind int // the control
	if err := b.Pool().QueryRow(t.Context(), postgres.GrantWithoutOut(), limiter, int64(b.worker), 20, 0).Scan(&blind); err != nil || blind+3 <= 8 {
		t.Errorf("a grant that is blind to what is out gives %d (%v); the control proves nothing", blind, err)
	}
	grant(20, 5)
	if n := must(b.Share(t.Context(), b.worker, limiter, 20))(t); n != 5 {
		t.Errorf("a share of %d, want 5", n)
	}
	other := b.register(time.Minute)
	if n := must(b.Grant(t.Context(), other, limiter, 8, 0))(t); n != 0 {
		t.Errorf("%d units for another process while all are given out", n)
	}
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{out(limiter, 0, 0).Ended(gantry.PartOK)}})
	if n := b.count(`select 8 - sum(units) - (select count(*) from part where out_limiter = $1 and out_until > now()) from limit_grant where limiter = $1`, limiter); n != 1 {
		t.Errorf("%d units are free, want the one that came back", n)
	}
	if n := must(b.Grant(t.Context(), other, limiter, 8, 0))(t); n != 1 {
		t.Errorf("%d units for another process, want the one that came back", n)
	}
}
