package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/pipeline"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// yard is an installation whose one processor is a farm, with a folder that tasks come from.
type yard struct {
	*rig
	*farm
	t    testing.TB // of the test or benchmark; the rig's own is nil in a benchmark
	hook *hook
	in   string
	text string
}

// newYard makes one; async is what the pipeline says of how answers come, limits of the farm's.
func newYard(t testing.TB, work time.Duration, async, limits string) *yard {
	t.Helper()
	own, _ := t.(*testing.T)
	y := &yard{t: t, rig: &rig{t: own, dsn: postgrestest.DSN(t), out: t.TempDir(), log: &logBook{}}, farm: newFarm(t, work), hook: newHook(t), in: t.TempDir()}
	y.text = head("yard") + fmt.Sprintf(`
sources: {inbox: {kind: dir, path: %q, settle: 1ms}}
sinks: {out: {kind: dir, path: %q}}
stages: [{name: score, call: farm}]
processors: {farm: {kind: later, url: %q, timeout: 10s, %s, limits: {%s}}}
`, y.in, y.out, y.URL, async, limits)
	return y
}

// open opens the installation as another process would.
func (y *yard) open(url string) *app.App {
	y.t.Helper()
	s := app.Settings{DatabaseURL: y.dsn, Home: filepath.Join(y.out, ".home"), Drivers: laterDrivers(), Log: y.log.logger(),
		Lookup:      func(string) (string, bool) { return farmSecret, true },
		CallbackURL: url, Signatures: signatures, TTL: 2 * time.Second}
	db, err := app.OpenDatabase(y.t.Context(), s)
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { db.Close() })
	a, err := app.New(s, db)
	if err != nil {
		y.t.Fatal(err)
	}
	y.t.Cleanup(func() { a.Close() })
	y.App = a
	return a
}

// serve runs the installation until stop is called.
func (y *yard) serve(url string) (stop func()) {
	y.t.Helper()
	a := y.open(url)
	p, err := pipeline.Parse("test.yaml", []byte(y.text), laterDrivers(), a.Lookup)
	if err != nil {
		y.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(y.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ctx, []*gantry.Pipeline{p}) }()
	y.hook.let(a)
	y.until("it is ready", 20*time.Second, func() bool { return a.Ready(ctx) == nil })
	stop = sync.OnceFunc(func() {
		y.hook.let(nil)
		cancel()
		if err := <-ended; err != nil {
			y.t.Errorf("serve: %v", err)
		}
	})
	y.t.Cleanup(stop)
	return stop
}

// put lays an input down, whole from the first moment.
func (y *yard) put(name string, body []byte) {
	y.t.Helper()
	if err := os.Rename(file(y.t, name, body), filepath.Join(y.in, name)); err != nil {
		y.t.Fatal(err)
	}
}

// until waits for something.
func (y *yard) until(what string, d time.Duration, holds func() bool) {
	y.t.Helper()
	for end := time.Now().Add(d); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			y.t.Fatalf("it did not come to: %s\n%s", what, y.log.text())
		}
	}
}

func (y *yard) count(q string, args ...any) (n int) {
	y.t.Helper()
	if err := y.Store.Pool().QueryRow(context.Background(), q, args...).Scan(&n); err != nil {
		y.t.Fatal(err)
	}
	return n
}

// ended waits until n tasks have ended, and lists them.
func (y *yard) ended(n int, d time.Duration) []postgres.TaskRow {
	y.t.Helper()
	y.until(fmt.Sprintf("%d tasks have ended", n), d, func() bool { return y.count(`select count(*) from task where final_state is not null`) == n })
	list, err := y.Store.Tasks(y.t.Context(), postgres.Filter{})
	if err != nil {
		y.t.Fatal(err)
	}
	return list
}

// done waits for one task that is done.
func (y *yard) done(d time.Duration) postgres.TaskRow {
	y.t.Helper()
	t := y.ended(1, d)[0]
	if t.State != "done" {
		y.t.Fatalf("it ended %s: %+v\n%s", t.State, t.Error, y.log.text())
	}
	return t
}

// ops counts the recorded calls of the processor by what they did and how they ended.
func (y *yard) ops() map[string]int {
	out := map[string]int{}
	for _, c := range y.calls(postgres.Filter{}) {
		out[c.Operation+" "+c.Outcome]++
	}
	return out
}

func (y *yard) holdOps(want map[string]int) {
	y.t.Helper()
	if diff := cmp.Diff(want, y.ops()); diff != "" {
		y.t.Errorf("recorded calls (-want +got):\n%s", diff)
	}
}

// parked waits until no process holds the tasks that have not ended.
func (y *yard) parked(n int) {
	y.t.Helper()
	y.until("tasks are parked", 20*time.Second, func() bool {
		return y.count(`select count(*) from task_hot where phase = 2`) == n && y.count(`select count(*) from task_hot`) == n
	})
}

// await waits for n submissions and for the tasks to be parked.
func (y *yard) await(n int) []job {
	y.t.Helper()
	y.until("the farm has its jobs", 20*time.Second, func() bool { return len(y.all()) == n && y.count(`select count(*) from part where status = 1`) == n })
	return y.all()
}

// answer sends the answer of a job and holds it to a verdict.
func (y *yard) answer(j job, want gantry.Verdict) {
	y.t.Helper()
	y.said(j.callback, farmSecret, gantry.CallbackDone, j.answer(), want)
}

func (y *yard) said(callback, secret string, status gantry.CallbackStatus, body []byte, want gantry.Verdict) {
	y.t.Helper()
	v, err := y.call(callback, secret, status, body)
	if err != nil || v != want {
		y.t.Errorf("the verdict is %s (%v), want %s", v, err, want)
	}
}

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
	y.said(jobs[0].callback[:len(jobs[0].callback)-1]+"_", farmSecret, gantry.CallbackDone, jobs[0].answer(), gantry.CallbackUnknown)
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
			// A process that is killed neither hands its tasks back nor resigns: its row stands until the lease runs out.
			kill(t, y, stop)
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

// kill takes the database away from an installation for longer than its lease.
func kill(t *testing.T, y *yard, stop func()) {
	t.Helper()
	pool := y.Store.Pool()
	stop()
	if _, err := pool.Exec(context.Background(), `with w as (insert into worker(host, pid, expires_at) values ('dead', 1, now() + interval '1 s') returning id)
		update task_hot set phase = 1, owner = w.id, run_at = null, seq = seq + 1 from w`); err != nil {
		t.Fatal(err)
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
}

// numbered gives n pictures that differ from those of another seed.
func numbered(seed, n int) (entries []entry) {
	for i := range n {
		entries = append(entries, entry{name: fmt.Sprintf("%d.png", i), body: noise(8, [32]byte{byte(seed), byte(i), 7}), stored: true})
	}
	return entries
}
