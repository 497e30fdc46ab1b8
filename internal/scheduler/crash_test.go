package scheduler_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// What the test tells the processes that it starts: they are this test's own binary.
const (
	envDSN    = "CRASH_TEST_DSN"
	envPoison = "CRASH_TEST_POISON" // the public id of the task whose effect kills its process
	envDiary  = "CRASH_TEST_DIARY"  // a file that every death is written down in
	envRule   = "CRASH_TEST_RULE"   // off: deaths are forgotten
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(envDSN); dsn != "" {
		if err := crashWorker(dsn); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// forgetful is a store without the crash rule.
type forgetful struct{ *postgres.Store }

// Reap rescues tasks whatever happened to them before.
func (f forgetful) Reap(ctx context.Context) ([]int32, error) {
	if _, err := f.Pool().Exec(ctx, `update task_hot set crashes = 0 where crashes > 0`); err != nil {
		return nil, err
	}
	return f.Store.Reap(ctx)
}

// crashWorker is a process that works until it is killed, or kills itself by a task.
func crashWorker(dsn string) error {
	st, err := postgres.Open(context.Background(), dsn)
	if err != nil {
		return err
	}
	var store scheduler.Store = st
	if os.Getenv(envRule) == "off" {
		store = forgetful{st}
	}
	var running atomic.Int32
	step := func(ctx context.Context, t gantry.Task) gantry.Transition {
		running.Add(1)
		defer running.Add(-1)
		time.Sleep(40 * time.Millisecond)
		if t.State == gantry.Extracting && t.PublicID == os.Getenv(envPoison) {
			die(t, running.Load()-1)
		}
		tr := gantry.Transition{Lease: t.Lease, From: t.State, To: t.State + 1, Within: time.Minute}
		if tr.To.Final() {
			tr.Change = gantry.End
		}
		return tr
	}
	return scheduler.Run(context.Background(), store, scheduler.Options{Tasks: 8, TTL: 900 * time.Millisecond},
		func(context.Context, *scheduler.Session) (scheduler.Begin, error) {
			return func(gantry.Task) (scheduler.Step, func()) { return step, func() {} }, nil
		})
}

func die(t gantry.Task, beside int32) {
	f, err := os.OpenFile(os.Getenv(envDiary), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		fmt.Fprintf(f, "%d %d\n", t.Crashes, beside)
		f.Close()
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// ward is a database with good tasks and one that kills whatever works on it.
type ward struct {
	*postgres.Store
	t             *testing.T
	dsn, diary    string
	poison        string
	tasks, deaths int
}

func newWard(t *testing.T, good int) *ward {
	t.Helper()
	w := &ward{t: t, dsn: postgrestest.DSN(t), diary: filepath.Join(t.TempDir(), "deaths"), tasks: good + 1}
	ctx := t.Context()
	var err error
	fatal := func(what string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	w.Store, err = postgres.Open(ctx, w.dsn)
	fatal("open")
	t.Cleanup(w.Close)
	version, err := w.EnsurePipeline(ctx, &gantry.Pipeline{Name: "p", Version: gantry.Digest{1}, Resolved: []byte(`{}`)})
	fatal("pipeline")
	limiter, err := w.EnsureLimiter(ctx, "pipeline:p", gantry.LimiterSpec{MaxUnits: -1}, true)
	fatal("limiter")
	lane, err := w.EnsureLane(ctx, "p", "in", limiter, 0)
	fatal("lane")
	ids, err := w.ArrivalIDs(ctx, w.tasks)
	fatal("arrivals")
	var list []gantry.Admission
	for i, id := range ids {
		mac := gantry.MAC([]byte("k"), fmt.Sprint(i))
		list = append(list, gantry.Admission{Arrival: gantry.Arrival{ID: id, Source: "p/in", RefMAC: mac, Version: "v"},
			PublicID: gantry.PublicID([]byte("k"), fmt.Sprint(i)), Pipeline: version, Lane: lane, Priority: 5, Within: time.Hour})
	}
	w.poison = list[good/3].PublicID
	_, err = w.Enqueue(ctx, list)
	fatal("enqueue")
	return w
}

// run keeps three processes going, each replaced when it dies, until enough says so.
func (w *ward) run(rule string, enough func() bool) {
	w.t.Helper()
	died := make(chan int, 8)
	var live [3]*exec.Cmd
	begin := func(i int) {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), envDSN+"="+w.dsn, envPoison+"="+w.poison, envDiary+"="+w.diary, envRule+"="+rule)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			w.t.Fatal(err)
		}
		live[i] = c
		go func() { _ = c.Wait(); died <- i }()
	}
	for i := range live {
		begin(i)
	}
	defer func() {
		for _, c := range live {
			_ = c.Process.Kill()
		}
		for range live {
			<-died
		}
	}()
	for until := time.Now().Add(time.Minute); !enough(); {
		select {
		case i := <-died:
			w.deaths++
			begin(i)
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(until) {
			w.t.Fatalf("after a minute and %d deaths it is not over", w.deaths)
		}
	}
}

func (w *ward) count(q string, args ...any) (n int) {
	w.t.Helper()
	if err := w.Pool().QueryRow(w.t.Context(), q, args...).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// diaryLines are the deaths: how many came before, and how many tasks ran beside.
func (w *ward) diaryLines() (list [][2]int) {
	f, err := os.Open(w.diary)
	if err != nil {
		return nil
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var x [2]int
		if _, err := fmt.Sscan(s.Text(), &x[0], &x[1]); err != nil {
			w.t.Fatalf("%q: %v", s.Text(), err)
		}
		list = append(list, x)
	}
	return list
}

// TestCrashRule has a task among thirty others that kills every process that works on it. It fails with the fifth
// death, from the third on it dies alone, and all others are done.
func TestCrashRule(t *testing.T) {
	t.Parallel()
	w := newWard(t, 30)
	w.run("on", func() bool { return w.count(`select count(*) from task where final_state is null`) == 0 })
	if n := w.count(`select count(*) from task where final_state = 5`); n != 30 {
		t.Errorf("%d good tasks are done", n)
	}
	list, err := w.Tasks(t.Context(), postgres.Filter{Task: w.poison})
	if err != nil || len(list) != 1 || list[0].State != "failed" || list[0].Error.Code != "crashed" || list[0].Error.Kind != "permanent" {
		t.Fatalf("%+v %v", list, err)
	}
	deaths := w.diaryLines()
	if len(deaths) != gantry.CrashesToFail {
		t.Errorf("%d processes died: %v", len(deaths), deaths)
	}
	for i, d := range deaths {
		if d[0] != i || d[0] >= gantry.CrashesToBeAlone && d[1] > 0 {
			t.Errorf("death %d came after %d, beside %d tasks", i+1, d[0], d[1])
		}
	}
	events, err := w.Events(t.Context(), list[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	rescued := 0
	for _, e := range events {
		if e.Change == "rescued" {
			rescued++
		}
	}
	if end := events[len(events)-1]; rescued != gantry.CrashesToFail || end.To != "failed" || end.Change != "end" || end.Code != "crashed" {
		t.Errorf("%d rescues, then %+v", rescued, end)
	}
	if n := w.count(`select count(*) from task_hot`); n != 0 {
		t.Errorf("%d tasks are left", n)
	}
}

// TestCrashRuleControl: without the rule the task goes on killing, and nothing ends it.
func TestCrashRuleControl(t *testing.T) {
	t.Parallel()
	w := newWard(t, 6)
	w.run("off", func() bool { return len(w.diaryLines()) >= gantry.CrashesToFail+2 })
	if n := w.count(`select count(*) from task where public_id = $1 and final_state is null`, w.poison); n != 1 {
		t.Error("it ended")
	}
}
