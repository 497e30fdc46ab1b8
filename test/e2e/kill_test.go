package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// files is how many inputs each run gets, kills how often the process dies in the disturbed one.
const (
	files   = 300
	kills   = 10
	portion = files / kills // dropped before each kill, so that there is always work to interrupt
	lease   = "2s"
)

// TestKilledAndFrozen drops the same files three times: on a quiet process, on one that is killed ten
// times, and on three of which one is frozen past its lease. Folders and service are the same, so
// the results have to be the same to the byte.
func TestKilledAndFrozen(t *testing.T) {
	y := newYard(t)
	var want map[string]string
	ok := t.Run("undisturbed", func(t *testing.T) { want = y.undisturbed(t) })
	if !ok {
		t.FailNow()
	}
	t.Run("killed", func(t *testing.T) { y.killed(t, want) })
	t.Run("frozen", func(t *testing.T) { y.frozen(t, want) })
}

// yard is what the runs share. The pipeline's version holds the paths and the service's address.
type yard struct {
	in, out, pipeline string
	model             *foreign
	dropped           int // files, in the disturbed run
}

func newYard(t *testing.T) *yard {
	t.Helper()
	dir := folder(t)
	y := &yard{in: filepath.Join(dir, "in"), out: filepath.Join(dir, "out"), pipeline: filepath.Join(dir, "p.yaml"), model: newForeign(t, 50*time.Millisecond)}
	// A dead process's units are held for the timeout: it paces the run of kills.
	text := fmt.Sprintf(`gantry: v1
name: kill
sources: {inbox: {kind: dir, path: %q, settle: 50ms}}
sinks: {results: {kind: dir, path: %q}}
stages: [{name: enhance, call: model}]
processors: {model: {kind: http, url: %q, timeout: 2s, limits: {concurrency: 8}}}
retry: {attempts: 5, initial: 100ms}
`, y.in, y.out, y.model.URL+"/v1/enhance")
	if err := os.WriteFile(y.pipeline, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return y
}

// clean empties the folders and the service's memory for another run.
func (y *yard) clean(t *testing.T) {
	t.Helper()
	for _, dir := range []string{y.in, y.out} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(y.in, 0o755); err != nil {
		t.Fatal(err)
	}
	y.model.forget()
}

func (y *yard) undisturbed(t *testing.T) map[string]string {
	y.clean(t)
	i := install(t)
	l := openLedger(t, i)
	p := i.serve(t, y.pipeline, "--lease", lease)
	drop(t, y.in, 0, files)
	l.finished(t, files)
	p.stop(t)
	got := tree(t, y.out)
	if len(got) != 2*files {
		t.Fatalf("%d files at the sink, want an image and a manifest for each of %d", len(got), files)
	}
	y.audit(t, l)
	i.proven(t)
	if n := len(y.model.seen()); n != files {
		t.Errorf("the service saw %d requests for %d parts", n, files)
	}
	if n := len(i.tasks(t)); n != files {
		t.Errorf("task ls gives %d tasks, want %d", n, files)
	}
	return got
}

// moment is a point in the work at which the process is killed.
type moment struct {
	name string
	is   func(*yard, *testing.T, *ledger) bool
}

// inFlight is the moment that wants half of the units in use.
const inFlight = "with calls in flight"

var moments = []moment{
	{"while files are taken in", func(y *yard, t *testing.T, l *ledger) bool {
		n := l.count(t, `select count(*) from arrival`)
		return n > y.dropped-portion && n < y.dropped
	}},
	{"while files are looked at", func(_ *yard, t *testing.T, l *ledger) bool {
		return l.count(t, `select count(*) from task_hot where state in (1, 2) and phase = 1`) > 0
	}},
	{inFlight, func(y *yard, _ *testing.T, _ *ledger) bool { return y.model.inFlight.Load() >= 4 }},
	{"just after an answer", (*yard).answersSoon},
	{"with outputs and no manifest", func(y *yard, t *testing.T, _ *ledger) bool { return y.unsealed(t) > 0 }},
	{"while a task responds", func(y *yard, t *testing.T, l *ledger) bool {
		return l.count(t, `select count(*) from task_hot where state = 4 and phase = 1`) > 0
	}},
}

// answersSoon returns true at the moment after the next answer.
func (y *yard) answersSoon(*testing.T, *ledger) bool {
	n := y.model.answered.Load()
	for range 200 {
		if y.model.answered.Load() > n {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// unsealed counts the tasks that have outputs at the sink and no manifest yet.
func (y *yard) unsealed(t *testing.T) int {
	t.Helper()
	n := 0
	images, err := filepath.Glob(filepath.Join(y.out, "*", "enhance", "*.png"))
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		if _, err := os.Lstat(filepath.Join(filepath.Dir(filepath.Dir(image)), "_manifest.json")); os.IsNotExist(err) {
			n++
		}
	}
	return n
}

// found is what a kill left behind.
type found struct {
	Taken    int    // files that are on record
	Done     int    // tasks that are done
	Owned    [5]int // tasks that the dead process held, by state
	Out      int64  // calls that the service was at work on
	Open     int    // calls to it on record without an outcome
	Unsealed int    // tasks with outputs and no manifest
}

func (f found) String() string {
	var b strings.Builder
	for s, n := range f.Owned {
		fmt.Fprintf(&b, "%s %d, ", gantry.State(s), n)
	}
	return fmt.Sprintf("taken in %d, done %d; held %scalls out %d, calls without outcome %d, without manifest %d", f.Taken, f.Done, b.String(), f.Out, f.Open, f.Unsealed)
}

// tally counts the kills that interrupted something of each kind.
type tally struct{ Intake, Early, Inferring, Responding, Out, Open, Unsealed int }

func (a *tally) add(f found, dropped int) {
	for n, did := range map[*int]bool{
		&a.Intake:     f.Taken < dropped,
		&a.Early:      f.Owned[gantry.Extracting]+f.Owned[gantry.Ingesting] > 0,
		&a.Inferring:  f.Owned[gantry.Inferring] > 0,
		&a.Responding: f.Owned[gantry.Responding] > 0,
		&a.Out:        f.Out > 0,
		&a.Open:       f.Open > 0,
		&a.Unsealed:   f.Unsealed > 0,
	} {
		if did {
			*n++
		}
	}
}

// more drops another portion of files.
func (y *yard) more(t *testing.T) {
	drop(t, y.in, y.dropped, y.dropped+portion)
	y.dropped += portion
}

func (y *yard) killed(t *testing.T, want map[string]string) {
	y.clean(t)
	i := install(t)
	l := openLedger(t, i)
	p := i.serve(t, y.pipeline, "--lease", lease)
	var all tally
	for n := range kills {
		m, base := moments[n%len(moments)], y.model.answered.Load()
		fresh := n%len(moments) < 2 // it needs files that were dropped just now
		if m.name == inFlight {     // units of a dead process are held as long as its calls may run
			eventually(t, 20*time.Second, "units to be free again", func() bool {
				living := l.worker(t, p)
				return living > 0 && l.count(t, `select count(*) from limit_grant where worker <> $1 and units > 0 and (held_until is null or held_until > now())`, living) == 0
			})
		}
		if !fresh {
			y.more(t)
		}
		if n > 0 && n%len(moments) > 0 {
			eventually(t, 20*time.Second, "progress since the last kill", func() bool { return y.model.answered.Load() >= base+portion/2 })
		}
		if fresh {
			y.more(t)
		}
		eventually(t, 20*time.Second, "a moment "+m.name, func() bool { return m.is(y, t, l) })
		out := y.model.inFlight.Load()
		p.kill()
		f := y.found(t, l, out)
		t.Logf("kill %2d %-29s %s", n+1, m.name+":", f)
		all.add(f, y.dropped)
		y.sound(t, want)
		p = i.serve(t, y.pipeline, "--lease", lease)
	}
	t.Logf("of %d kills fell: %+v", kills, all)
	if all.Intake < 1 || all.Early < 1 || all.Inferring < 3 || all.Responding < 2 || all.Out < 3 || all.Open < 3 || all.Unsealed < 1 {
		t.Errorf("the kills missed what they should interrupt: %+v", all)
	}
	l.finished(t, files)
	p.stop(t)
	if diff := cmp.Diff(want, tree(t, y.out)); diff != "" {
		t.Errorf("the sink is not as without kills (-without +with):\n%s", diff)
	}
	y.audit(t, l)
	i.proven(t)
}

// sound holds what lies at the sink to what has to come: nothing else, nothing partial under its true
// name, and no manifest before the outputs that it names.
func (y *yard) sound(t *testing.T, want map[string]string) {
	t.Helper()
	got := tree(t, y.out)
	for name, sha := range got {
		if !strings.HasPrefix(filepath.Base(name), ".gantry-") && want[name] != sha {
			t.Errorf("%s lies at the sink with other bytes than without kills", name)
		}
	}
	for name := range want {
		if _, sealed := got[filepath.Dir(filepath.Dir(name))+"/_manifest.json"]; sealed && got[name] == "" {
			t.Errorf("%s is not there and its task's manifest is", name)
		}
	}
}

// found looks at what a process that was just killed left, once its last statements have ended.
func (y *yard) found(t *testing.T, l *ledger, out int64) found {
	t.Helper()
	eventually(t, 5*time.Second, "the dead process's connections to end", func() bool {
		return l.count(t, connectionsSQL) <= l.before
	})
	f := found{Out: out, Unsealed: y.unsealed(t), Taken: l.count(t, `select count(*) from arrival`),
		Done: l.count(t, `select count(*) from task where final_state = 5`)}
	for s := range f.Owned {
		f.Owned[s] = l.count(t, `select count(*) from task_hot where phase = 1 and state = $1`, s)
	}
	f.Open = l.count(t, `select count(*) from call_intent i left join call_outcome o using (task_id, id)
		where o.id is null and i.boundary = 1 and i.worker = (select max(id) from worker)`)
	return f
}

func (y *yard) frozen(t *testing.T, want map[string]string) {
	y.clean(t)
	i := install(t)
	l := openLedger(t, i)
	served := i.serve(t, y.pipeline, "--lease", lease)
	workers := []*process{i.start(t, "worker", "--lease", lease), i.start(t, "worker", "--lease", lease)}
	for _, p := range workers {
		eventually(t, 10*time.Second, "a worker to register", func() bool { return l.worker(t, p) > 0 })
	}
	frozen, id := workers[0], l.worker(t, workers[0])
	drop(t, y.in, 0, files-50)
	y.freeze(t, l, frozen, id)
	eventually(t, 15*time.Second, "the frozen worker's lease to run out", func() bool {
		return l.count(t, `select count(*) from worker where id = $1`, id) == 0
	})
	rescued := l.count(t, `select count(*) from task_event where change = 9 and worker = $1`, id)
	eventually(t, 15*time.Second, "another process to finish a rescued task", func() bool {
		return l.count(t, `select count(*) from task_event e join task t on t.id = e.task_id where e.change = 9 and e.worker = $1 and t.final_state = 5`, id) > 0
	})
	frozen.signal(t, syscall.SIGCONT)
	eventually(t, 10*time.Second, "the thawed worker to begin a new lease", func() bool { return l.worker(t, frozen) > id })
	drop(t, y.in, files-50, files)
	l.finished(t, files)
	for _, p := range append(workers, served) {
		p.stop(t)
	}
	t.Logf("rescued %d tasks; the frozen worker's calls ended as %s", rescued, l.text(t, `select coalesce(string_agg(r || ' ' || n, ', '), 'none') from (
		select coalesce((array['ok','failed','not_sent','fenced'])[o.result + 1], 'lost') as r, count(*) as n
		from call_intent i left join call_outcome o using (task_id, id) where i.worker = $1 and i.boundary = 1 group by 1) x`, id))
	if rescued == 0 {
		t.Error("no task was rescued: the freeze missed the work")
	}
	if diff := cmp.Diff(want, tree(t, y.out)); diff != "" {
		t.Errorf("the sink is not as without the freeze (-without +with):\n%s", diff)
	}
	y.audit(t, l)
	i.proven(t)
}

// freeze stops the process while the service is at work on a call of it.
func (y *yard) freeze(t *testing.T, l *ledger, p *process, id int64) {
	t.Helper()
	holds := func() int {
		var tasks []string
		for _, s := range y.model.seen() {
			if s.End.IsZero() {
				tasks = append(tasks, taskOf(s.Key))
			}
		}
		return l.count(t, `select count(*) from task_hot h join task t using (id) where h.owner = $1 and t.public_id = any($2)`, id, tasks)
	}
	eventually(t, 15*time.Second, "the worker to hold calls", func() bool { return holds() >= 2 })
	p.signal(t, syscall.SIGSTOP)
	n := l.count(t, `select count(*) from call_intent i left join call_outcome o using (task_id, id)
		where o.id is null and i.boundary = 1 and i.worker = $1`, id)
	if n == 0 {
		t.Fatal("the worker had no call open when it was frozen")
	}
	t.Logf("frozen with %d tasks held and %d calls without outcome", l.count(t, `select count(*) from task_hot where owner = $1`, id), n)
}

func taskOf(key string) string {
	task, _, _ := strings.Cut(key, "/")
	return task
}
