package app_test

import (
	"context"
	"fmt"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// TestPollPath submits, polls and collects the pictures of an archive.
func TestPollPath(t *testing.T) {
	t.Parallel()
	y := newYard(t, 300*time.Millisecond, "poll: 100ms, deadline: 1m", "concurrency: 16")
	y.serve("")
	y.put("a.zip", pictures(t, 6))
	task := y.done(20 * time.Second)
	y.holdOps(map[string]int{"submit ok": 6, "collect ok": 6})
	for _, j := range y.all() {
		if j.submits != 1 || j.callback != "" {
			t.Errorf("%d submits, callback %q", j.submits, j.callback)
		}
	}
	for _, c := range y.calls(postgres.Filter{}) {
		if c.Operation == "collect" && (c.Status != 200 || c.ResponseBytes == 0 || c.ResponseSHA256 == "") {
			t.Errorf("collected without a trace: %+v", c)
		}
	}
	if m, _ := manifestOf(t, y.out, task.ID); len(m.Outputs) != 6 {
		t.Errorf("%d outputs", len(m.Outputs))
	}
	if n := y.count(`select count(*) from part where out_limiter is not null or ticket is not null or due is not null`); n != 0 {
		t.Errorf("%d parts look as if they were out", n)
	}
}

// TestCallbackPath takes answers that the service sends on its own, twice, late, forged and for nobody.
func TestCallbackPath(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "callback: \"${env:FARM}\", deadline: 1m", "concurrency: 16")
	stop := y.serve(y.hook.URL)
	y.put("a.zip", pictures(t, 2))
	jobs := y.await(2)
	y.parked(1)
	y.said(jobs[0].callback, "another secret", gantry.CallbackDone, jobs[0].answer(), gantry.CallbackForged)
	other := strings.Map(func(r rune) rune { // another token of the same length
		if r == 'A' {
			return 'B'
		}
		return 'A'
	}, path.Base(jobs[0].callback))
	y.said(strings.TrimSuffix(jobs[0].callback, path.Base(jobs[0].callback))+other, farmSecret, gantry.CallbackDone, jobs[0].answer(), gantry.CallbackUnknown)
	y.said(jobs[0].callback, farmSecret, gantry.CallbackRunning, nil, gantry.CallbackAlive)
	y.answer(jobs[0], gantry.CallbackAccepted)
	y.answer(jobs[0], gantry.CallbackDuplicate)
	y.answer(jobs[1], gantry.CallbackAccepted)
	task := y.done(20 * time.Second)
	y.answer(jobs[1], gantry.CallbackDuplicate)
	stop()
	y.holdOps(map[string]int{"submit ok": 2, "callback ok": 2})
	for _, c := range y.calls(postgres.Filter{}) {
		if c.Operation == "callback" && (c.RequestBytes != 0 || c.ResponseSHA256 != digest(jobs[0].answer()) && c.ResponseSHA256 != digest(jobs[1].answer())) {
			t.Errorf("the record is not of what came: %+v", c)
		}
	}
	if m, _ := manifestOf(t, y.out, task.ID); len(m.Outputs) != 2 {
		t.Errorf("%d outputs", len(m.Outputs))
	}
	if n := y.count(`select count(*) from callback where verdict in (1, 3, 4) and (body is not null or location is not null)`); n != 0 {
		t.Errorf("%d bodies are kept that nobody reads", n)
	}
	if n := y.count(`select count(*) from callback`); n != 6 {
		t.Errorf("%d callbacks on record, want 6", n)
	}
}

// TestAnswerBeforeTheTicket takes a callback that comes while its submission is not answered yet.
func TestAnswerBeforeTheTicket(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "callback: \"${env:FARM}\", deadline: 1m", "concurrency: 4")
	y.taken = func(j *job) { y.answer(*j, gantry.CallbackAccepted) }
	y.serve(y.hook.URL)
	y.put("a.zip", pictures(t, 3))
	y.done(20 * time.Second)
	y.holdOps(map[string]int{"submit ok": 3, "callback ok": 3})
}

// TestNoAnswer lets deadlines pass: the part is submitted again under the same key, an answer to the first try
// changes nothing, and at last the part fails.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "callback: \"${env:FARM}\", deadline: 1s", "concurrency: 4")
	stop := y.serve(y.hook.URL)
	y.put("a.png", noise(8, [32]byte{1}))
	y.until("a second try", 20*time.Second, func() bool { return len(y.all()) == 2 })
	jobs := y.all()
	if jobs[0].key != jobs[1].key || jobs[0].callback == jobs[1].callback || !jobs[0].dropped {
		t.Errorf("submitted again as another request, or not abandoned: %+v", jobs)
	}
	y.answer(jobs[0], gantry.CallbackLate)
	task := y.ended(1, 20*time.Second)[0]
	y.answer(y.all()[2], gantry.CallbackLate)
	stop()
	if task.State != "failed" || task.Error == nil || task.Error.Code != "no_answer" || task.Error.Kind != "timeout" {
		t.Errorf("it ended %s: %+v", task.State, task.Error)
	}
	y.holdOps(map[string]int{"submit ok": 3})
}

// TestHeartbeat keeps a part out for as long as signs of life come, and no longer.
func TestHeartbeat(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "callback: \"${env:FARM}\", heartbeat: 1500ms, deadline: 1m", "concurrency: 4")
	y.serve(y.hook.URL)
	y.put("a.png", noise(8, [32]byte{1}))
	job := y.await(1)[0]
	for range 8 {
		time.Sleep(600 * time.Millisecond)
		y.said(job.callback, farmSecret, gantry.CallbackRunning, nil, gantry.CallbackAlive)
	}
	if n := len(y.all()); n != 1 {
		t.Fatalf("%d jobs although the first gave signs of life", n)
	}
	y.until("a second try once they end", 20*time.Second, func() bool { return len(y.all()) == 2 })
	if n := y.count(`select count(*) from part where reason = 'no_heartbeat' or submits = 2`); n != 1 {
		t.Errorf("%d parts were given up for want of a heartbeat", n)
	}
	y.answer(y.all()[1], gantry.CallbackAccepted)
	y.done(20 * time.Second)
}

// TestJobFailed ends a part by what the service says of its job, polled or called back.
func TestJobFailed(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "callback: \"${env:FARM}\", deadline: 1m", "concurrency: 4")
	y.serve(y.hook.URL)
	y.put("a.png", noise(8, [32]byte{1}))
	y.said(y.await(1)[0].callback, farmSecret, gantry.CallbackFailed, []byte(`{}`), gantry.CallbackAccepted)
	task := y.ended(1, 20*time.Second)[0]
	if task.State != "failed" || task.Error.Code != "job_failed" || task.Error.Kind != "permanent" {
		t.Errorf("it ended %s: %+v", task.State, task.Error)
	}
	y.holdOps(map[string]int{"submit ok": 1, "callback failed": 1})
}

// TestJobLost submits again what the service does not know any more: a poll is answered by 404.
func TestJobLost(t *testing.T) {
	t.Parallel()
	y := newYard(t, 500*time.Millisecond, "poll: 100ms, deadline: 1m", "concurrency: 4")
	y.taken = func(j *job) { y.mu.Lock(); j.lost = j.id == "1"; y.mu.Unlock() }
	y.serve("")
	y.put("a.png", noise(8, [32]byte{1}))
	y.done(20 * time.Second)
	y.holdOps(map[string]int{"submit ok": 2, "collect ok": 1})
	if jobs := y.all(); jobs[0].key != jobs[1].key {
		t.Error("it was submitted again under another key")
	}
}

// TestKilledWhileOut ends sessions without a word while tickets are out. What follows goes on from the rows
// alone: nothing is submitted twice.
func TestKilledWhileOut(t *testing.T) {
	t.Parallel()
	for name, async := range map[string]string{"poll": "poll: 200ms, deadline: 1m", "callback": "callback: \"${env:FARM}\", deadline: 1m"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t, -1, async, "concurrency: 16")
			stop := y.serve(y.hook.URL)
			y.put("a.zip", pictures(t, 5))
			jobs := y.await(5)
			y.kill(stop)
			for _, j := range y.order {
				y.finish(j)
			}
			y.serve(y.hook.URL)
			if name == "callback" {
				for _, j := range jobs {
					y.answer(j, gantry.CallbackAccepted)
				}
			}
			y.done(30 * time.Second)
			for _, j := range y.all() {
				if j.submits != 1 {
					t.Errorf("a part was submitted %d times", j.submits)
				}
			}
			if got := y.ops(); got["submit ok"] != 5 || got["collect ok"]+got["callback ok"] != 5 {
				t.Errorf("recorded %v", got)
			}
		})
	}
}

// TestTicketLost loses the lease between the 202 and its commit: the ticket is lost, and the part is submitted
// again under the same key, for the same job.
func TestTicketLost(t *testing.T) {
	t.Parallel()
	y := newYard(t, 300*time.Millisecond, "poll: 100ms, deadline: 1m", "concurrency: 4")
	var once sync.Once
	y.taken = func(*job) {
		once.Do(func() { // as the reaper of another process would
			if _, err := y.Store.Pool().Exec(context.Background(), `update task_hot set phase = 0, owner = null, seq = seq + 1`); err != nil {
				t.Error(err)
			}
		})
	}
	y.serve("")
	y.put("a.png", noise(8, [32]byte{1}))
	y.done(20 * time.Second)
	if jobs := y.all(); len(jobs) != 1 || jobs[0].submits != 2 {
		t.Errorf("jobs %+v, want one that was submitted twice", jobs)
	}
	y.holdOps(map[string]int{"submit fenced": 1, "submit ok": 1, "collect ok": 1})
}

// TestAbandoned tells the service of tickets whose task an operator cancelled while it was parked.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "callback: \"${env:FARM}\", deadline: 10m", "concurrency: 4")
	y.serve(y.hook.URL)
	y.put("a.zip", pictures(t, 2))
	jobs := y.await(2)
	y.parked(1)
	if err := y.Store.Cancel(t.Context(), 1, "somebody"); err != nil {
		t.Fatal(err)
	}
	y.until("both jobs are dropped", 20*time.Second, func() bool {
		all := y.all()
		return all[0].dropped && all[1].dropped && y.count(`select count(*) from part where out_limiter is not null`) == 0
	})
	y.answer(jobs[0], gantry.CallbackLate)
}

// TestUnitsOfTickets never lets the service have more jobs at once than the limit says, over two processes, and
// uses the limit whole.
func TestUnitsOfTickets(t *testing.T) {
	t.Parallel()
	y := newYard(t, 400*time.Millisecond, "poll: 50ms, deadline: 1m", "concurrency: 6")
	y.serve("")
	y.serve("")
	for i := range 4 {
		y.put(fmt.Sprintf("%d.zip", i), packed(t, numbered(i, 12)...))
	}
	for _, task := range y.ended(4, 60*time.Second) {
		if task.State != "done" {
			t.Errorf("it ended %s: %+v", task.State, task.Error)
		}
	}
	if y.most != 6 {
		t.Errorf("%d jobs at once, of 6 that the limit allows", y.most)
	}
	if n := len(y.all()); n != 48 {
		t.Errorf("%d jobs for 48 parts", n)
	}
	if use, err := audit.Limits(t.Context(), y.Store, "", time.Time{}, func(b audit.Breach) error { t.Errorf("%+v", b); return nil }); err != nil || len(use) == 0 {
		t.Errorf("%+v: %v", use, err)
	}
}
