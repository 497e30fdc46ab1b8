package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/app"
	"github.com/gantry-imaging/gantry/internal/driver"
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
	gone atomic.Bool // the database was taken away

	drivers *driver.Register
	check   app.Signatures
}

// newYard makes one; async is what the pipeline says of how answers come, limits of the farm's.
func newYard(t testing.TB, work time.Duration, async, limits string) *yard {
	t.Helper()
	own, _ := t.(*testing.T)
	y := &yard{t: t, rig: &rig{t: own, dsn: postgrestest.DSN(t), out: t.TempDir(), log: &logBook{}}, farm: newFarm(t, work), hook: newHook(t), in: t.TempDir(),
		drivers: laterDrivers(), check: signatures}
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
	s := app.Settings{DatabaseURL: y.dsn, Home: filepath.Join(y.out, ".home"), Drivers: y.drivers, Log: y.log.logger(),
		Lookup:      func(string) (string, bool) { return farmSecret, true },
		CallbackURL: url, Signatures: y.check, TTL: 2 * time.Second}
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
	p, err := pipeline.Parse("test.yaml", []byte(y.text), y.drivers, a.Lookup)
	if err != nil {
		y.t.Fatal(err)
	}
	y.gone.Store(false)
	ctx, cancel := context.WithCancel(y.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Serve(ctx, []*gantry.Pipeline{p}) }()
	y.hook.let(a)
	y.until("it is ready", 20*time.Second, func() bool { return a.Ready(ctx) == nil })
	stop = sync.OnceFunc(func() {
		y.hook.let(nil)
		cancel()
		if err := <-ended; err != nil && !y.gone.Load() {
			y.t.Errorf("serve: %v", err)
		}
	})
	y.t.Cleanup(stop)
	return stop
}

// kill takes the database away from the installation for good, and then ends it: it can neither hand its tasks back nor
// resign, so that its lease runs out as that of a process that was killed.
func (y *yard) kill(stop func()) {
	y.t.Helper()
	y.gone.Store(true)
	y.Store.Close()
	stop()
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

// numbered gives n pictures that differ from those of another seed.
func numbered(seed, n int) (entries []entry) {
	for i := range n {
		entries = append(entries, entry{name: fmt.Sprintf("%d.png", i), body: noise(8, [32]byte{byte(seed), byte(i), 7}), stored: true})
	}
	return entries
}
