package chaos

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// abuse is a run of three processes to which things happen while work comes in.
type abuse struct {
	t         *testing.T
	f         *field
	c         *cluster
	i         *installation
	processes []*process
	dropped   int
}

// more keeps some work there.
func (a *abuse) more() {
	a.t.Helper()
	a.f.mark(a.t, a.i)
	if a.i.count(a.t, `select count(*) from task_hot h join task t using (id) where t.parent is null`) < 24 &&
		a.i.count(a.t, `select count(*) from task where parent is null`) > (a.dropped-8)*len(modes) {
		a.f.drop(a.t, a.dropped, a.dropped+4)
		a.dropped += 4
	}
}

// alive wants all processes to have survived.
func (a *abuse) alive(what string) {
	a.t.Helper()
	for _, p := range a.processes {
		if p.ended() {
			a.t.Fatalf("process %d ended %s: %v\n%s", p.cmd.Process.Pid, what, p.cmd.ProcessState, p.log.tail(3000))
		}
	}
}

// goesOn waits until more tasks are done than before.
func (a *abuse) goesOn(what string) time.Duration {
	a.t.Helper()
	begun := time.Now()
	const doneSQL = `select count(*) from task where final_state = 5`
	before := a.i.count(a.t, doneSQL)
	eventually(a.t, 30*time.Second, "work to go on "+what, func() bool { a.more(); return a.i.count(a.t, doneSQL) > before })
	return time.Since(begun)
}

// TestFrozenAndWithoutDatabase freezes a process past its lease, ends sessions of the database at random, and
// crashes the database, twice, under load. No process may end of it, and the results are those of a run to which
// nothing happened.
func TestFrozenAndWithoutDatabase(t *testing.T) {
	f, c := newField(t), newCluster(t)
	f.clean(t)
	a := &abuse{t: t, f: f, c: c, i: c.install(t)}
	a.processes = []*process{f.serve(t, a.i), f.worker(t, a.i), f.worker(t, a.i)}
	a.goesOn("at first")
	a.freeze(a.processes[1])
	a.terminate(4 * time.Second)
	for range 2 {
		a.crash()
	}
	f.drained(t, a.i, a.dropped, time.Minute)
	a.alive("at the end")
	for _, p := range a.processes {
		p.stop(t)
	}
	f.sound(t, a.i)
	got := f.tree(t)
	same(t, f.undisturbed(t, c, a.dropped), got)
}

// freeze stops a process that holds tasks until others have them, and lets it go on: what it still writes is refused.
func (a *abuse) freeze(p *process) {
	a.t.Helper()
	id := a.i.count(a.t, `select max(id) from worker where pid = $1`, p.cmd.Process.Pid)
	eventually(a.t, 20*time.Second, "the process to hold tasks and have calls out", func() bool {
		a.more()
		return a.i.count(a.t, `select count(*) from call_intent i left join call_outcome o using (task_id, id) join task_hot h on h.id = i.task_id and h.seq = i.seq
			where o.id is null and i.worker = $1 and h.owner = $1`, id) > 0
	})
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		a.t.Fatal(err)
	}
	const rescuedSQL = `select count(*) from task_event where change = 9 and worker = $1`
	eventually(a.t, 20*time.Second, "others to rescue its tasks", func() bool { return a.i.count(a.t, rescuedSQL, id) > 0 })
	a.goesOn("while one is frozen")
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		a.t.Fatal(err)
	}
	eventually(a.t, 20*time.Second, "it to begin a new lease", func() bool {
		return a.i.count(a.t, `select coalesce(max(id), 0) from worker where pid = $1`, p.cmd.Process.Pid) > id
	})
	a.t.Logf("frozen: %d tasks were rescued, %d outcomes came too late", a.i.count(a.t, rescuedSQL, id),
		a.i.count(a.t, `select count(*) from call_intent i join call_outcome o using (task_id, id) where i.worker = $1 and o.result = 3`, id))
	if n := a.i.count(a.t, `select count(*) from task_event e where e.worker = $1 and e.change <> 9 and e.seq > (select min(seq) from task_event r
		where r.task_id = e.task_id and r.change = 9 and r.worker = $1)`, id); n > 0 {
		a.t.Errorf("the frozen process moved %d tasks that were rescued from it", n)
	}
}

// terminate ends a random session of the processes every 200 ms.
func (a *abuse) terminate(long time.Duration) {
	a.t.Helper()
	n := 0
	for until := time.Now().Add(long); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
		n += a.i.count(a.t, `select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity
			where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend' order by random() limit 1) x`)
		a.more()
	}
	a.alive("when sessions were terminated")
	took := a.goesOn("after sessions were terminated")
	a.t.Logf("%d sessions were terminated; a task was done %s after", n, took.Round(time.Millisecond))
	if n == 0 {
		a.t.Error("no session was terminated")
	}
}

// crash ends the server at once and starts it again.
func (a *abuse) crash() {
	a.t.Helper()
	a.c.crash(a.t)
	down := time.Now()
	time.Sleep(lease) // every lease runs out
	a.c.open(a.t)
	up := time.Now()
	a.i.db = connect(a.t, a.i.dsn)
	took := a.goesOn("after the crash of the database")
	a.alive("when the database was away")
	a.t.Logf("the database was away for %s; a task was done %s after", up.Sub(down).Round(time.Millisecond), took.Round(time.Millisecond))
	eventually(a.t, 20*time.Second, "a process to find that its lease ran out: else the crash was too short to matter", func() bool {
		return strings.Contains(a.processes[0].log.tail(1<<20), "begin again")
	})
}
