package app_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
)

// TestManyTickets takes 1,000 tickets of one task through two restarts: few units, and more than there are parts.
func TestManyTickets(t *testing.T) {
	t.Parallel()
	const n = 1000
	for name, c := range map[string]struct {
		async, limits string
		work          time.Duration
	}{
		"polled, few units":       {"poll: 500ms, deadline: 5m", "concurrency: 64", 400 * time.Millisecond},
		"called back, many units": {"callback: \"${env:FARM}\", deadline: 5m", "concurrency: 1000", -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t, c.work, c.async, c.limits)
			y.text = strings.Replace(y.text, "stages:", "extract: {shard: 100000}\nstages:", 1)
			stop := y.serve(y.hook.URL)
			y.put("a.zip", pictures(t, n))
			answered := 0
			for _, part := range []int{n / 3, 2 * n / 3} {
				y.until(fmt.Sprintf("%d jobs", part), 120*time.Second, func() bool { return len(y.all()) >= part })
				if c.work < 0 {
					for _, j := range y.all()[answered:part] {
						y.answer(j, gantry.CallbackAccepted)
					}
					answered = part
				}
				restart(t, y, stop)
				stop = y.serve(y.hook.URL)
			}
			if c.work < 0 {
				y.until("all jobs", 120*time.Second, func() bool { return len(y.all()) == n })
				for _, j := range y.all()[answered:] {
					y.answer(j, gantry.CallbackAccepted)
				}
			}
			task := y.done(180 * time.Second)
			if m, _ := manifestOf(t, y.out, task.ID); len(m.Outputs) != n {
				t.Errorf("%d outputs", len(m.Outputs))
			}
			for _, j := range y.all() {
				if j.submits != 1 {
					t.Errorf("a part was submitted %d times", j.submits)
				}
			}
			if got := y.ops(); got["submit ok"] != n || got["collect ok"]+got["callback ok"] != n || len(got) != 2 {
				t.Errorf("recorded %v", got)
			}
			if y.most > 64 && c.work >= 0 {
				t.Errorf("%d jobs at once, of 64 that the limit allows", y.most)
			}
			steps := y.count(`select count(*) from task_event where change = 2`)
			t.Logf("parked %d times, %d polls, at most %d jobs at once", steps, y.polls, y.most)
			if steps > 300 {
				t.Errorf("the task was woken %d times for %d tickets", steps, n)
			}
		})
	}
}

// restart ends an installation, and leaves its task owned by a process that is dead.
func restart(t *testing.T, y *yard, stop func()) {
	t.Helper()
	pool := y.Store.Pool()
	stop()
	if _, err := pool.Exec(context.Background(), `with w as (insert into worker(host, pid, expires_at) values ('dead', 1, now() + interval '1 s') returning id)
		update task_hot set phase = 1, owner = w.id, run_at = null, seq = seq + 1 from w`); err != nil {
		t.Fatal(err)
	}
}

// TestNoAddress refuses at the start what could never be answered, and polls where that is possible too.
func TestNoAddress(t *testing.T) {
	t.Parallel()
	y := newYard(t, 200*time.Millisecond, "callback: \"${env:FARM}\", deadline: 1m", "concurrency: 4")
	a := y.open("")
	p, err := pipeline.Parse("test.yaml", []byte(y.text), laterDrivers(), a.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Serve(t.Context(), []*gantry.Pipeline{p}); gantry.CodeOf(err) != app.CodeNoCallbackURL {
		t.Errorf("serve without an address for callbacks: %v", err)
	}
	if _, err := a.RunOnce(t.Context(), app.RunOptions{Pipeline: p}); gantry.CodeOf(err) != app.CodeNoCallbackURL {
		t.Errorf("run without an address for callbacks: %v", err)
	}
	y.text = strings.Replace(y.text, "deadline: 1m", "poll: 100ms, deadline: 1m", 1)
	y.serve("")
	y.put("a.png", noise(8, [32]byte{1}))
	y.done(20 * time.Second)
	if j := y.all()[0]; j.callback != "" {
		t.Errorf("the service was told to answer to %q", j.callback)
	}
	y.holdOps(map[string]int{"submit ok": 1, "collect ok": 1})
	if v, err := a.Callback(t.Context(), gantry.Submission{Task: 1, Try: 1}.Token([]byte("another key")), nil, gantry.CallbackDone, nil); err != nil || v != gantry.CallbackUnknown {
		t.Errorf("a token of another key: %s, %v", v, err)
	}
}

// TestRunLater takes inputs through a service that answers later in a process alone, and in place of it a mock.
func TestRunLater(t *testing.T) {
	t.Parallel()
	y := newYard(t, 200*time.Millisecond, "poll: 100ms, deadline: 1m", "concurrency: 4")
	y.open("")
	text := strings.Replace(y.text, "stages: [{name: score, call: farm}]", "stages: [{name: score, call: farm}, {name: again, mode: cumulative, each: task, call: farm}]\n"+
		"tests: [{name: mocked, input: "+file(t, "b.png", noise(8, [32]byte{2}))+", mock: {farm: {score: 1}}, expect: {state: done, calls: {farm: 2}}}]", 1)
	p, err := pipeline.Parse("test.yaml", []byte(text), laterDrivers(), y.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan string, 10)
	got, err := y.RunOnce(t.Context(), app.RunOptions{Pipeline: p, Inputs: []string{file(t, "a.zip", pictures(t, 3))}, Out: y.out, Called: func(name string) { called <- name }})
	if err != nil {
		t.Fatalf("%v\n%s", err, y.log.text())
	}
	mustBeDone(t, got[0])
	if len(called) != 4 {
		t.Errorf("told of %d calls, want 4", len(called))
	}
	y.holdOps(map[string]int{"submit ok": 4, "collect ok": 4})
	y.open("")
	result, err := y.RunTest(t.Context(), p, p.Tests[0])
	if err != nil || !result.OK {
		t.Errorf("mocked: %+v, %v", result, err)
	}
}

// TestFanoutOfBoth runs a service that answers later beside one that is called back, and keeps their answers apart.
func TestFanoutOfBoth(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "callback: \"${env:FARM}\", deadline: 1m", "concurrency: 8")
	y.text = strings.Replace(y.text, "{name: score, call: farm}", "{name: score, mode: fanout, call: [farm, polled]}", 1)
	other := newFarm(t, 300*time.Millisecond)
	y.text += fmt.Sprintf("  polled: {kind: later, url: %q, poll: 100ms, callback: \"${env:FARM}\", deadline: 1m}\n", other.URL)
	y.text = strings.Replace(y.text, "processors: {farm: ", "processors:\n  farm: ", 1)
	y.text = strings.Replace(y.text, "limits: {concurrency: 8}}}\n", "limits: {concurrency: 8}}\n", 1)
	y.serve(y.hook.URL)
	y.put("a.zip", pictures(t, 3))
	jobs := y.await2(3)
	y.until("the polled one has answered", 20*time.Second, func() bool { return y.ops()["collect ok"] == 3 })
	for _, j := range jobs {
		y.answer(j, gantry.CallbackAccepted)
	}
	y.done(20 * time.Second)
	y.holdOps(map[string]int{"submit ok": 6, "collect ok": 3, "callback ok": 3})
}

// await2 waits for n jobs of the farm alone.
func (y *yard) await2(n int) []job {
	y.t.Helper()
	y.until("the farm has its jobs", 20*time.Second, func() bool { return len(y.all()) == n })
	return y.all()
}

// TestCancelWhileOut breaks a task off that a process holds while parts are out.
func TestCancelWhileOut(t *testing.T) {
	t.Parallel()
	y := newYard(t, -1, "poll: 20ms, deadline: 10m", "concurrency: 4")
	y.serve("")
	y.put("a.zip", pictures(t, 9))
	y.until("four jobs", 20*time.Second, func() bool { return len(y.all()) == 4 })
	if err := y.Store.Cancel(context.Background(), 1, "somebody"); err != nil {
		t.Fatal(err)
	}
	if task := y.ended(1, 20*time.Second)[0]; task.State != "cancelled" {
		t.Errorf("it ended %s", task.State)
	}
	y.until("the jobs are dropped", 20*time.Second, func() bool {
		for _, j := range y.all() {
			if !j.dropped {
				return false
			}
		}
		return y.count(`select count(*) from part where out_limiter is not null`) == 0
	})
}
