// Package chaos lets real processes die, freeze and lose their database, at named points and at any moment, and
// holds what comes of it to a run that nothing disturbed. harness_test.go builds the program with the tag chaos
// and runs processes on a Postgres of the test's own, with fsync; field_test.go has the pipelines, what is dropped
// into them, and what must hold at the end; kill_test.go kills at every failpoint, abuse_test.go freezes processes
// and takes the database away, cut_test.go loses the answers to commits.
package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/localpg"
)

// lease is that of all processes: short, so that others take over soon.
const lease = time.Second

// program is gantry with failpoints, built once for all tests of the package.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gantry-chaos-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "gantry")
	if out, err := exec.Command("go", "build", "-tags", "chaos", "-o", program, "../../cmd/gantry").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build gantry: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// folder makes a folder that any user may enter; it is removed when the test ends.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gantry-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// cluster is a Postgres that a test may do to as it likes.
type cluster struct {
	home string
	dsn  string // of its first database
	n    int
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{home: folder(t)}
	c.open(t)
	return c
}

// open starts the server, or finds it running.
func (c *cluster) open(t *testing.T) {
	t.Helper()
	p, err := localpg.Open(t.Context(), localpg.Options{Home: c.home})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	c.dsn = p.DSN()
}

// crash ends the server at once, as pg_ctl stop -m immediate does: without a checkpoint, so that it has to
// recover.
func (c *cluster) crash(t *testing.T) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(c.home, "postgres", "*", "postmaster.pid"))
	if len(files) != 1 {
		t.Fatalf("server files %v", files)
	}
	b, err := os.ReadFile(files[0])
	var pid int
	if _, serr := fmt.Sscan(string(b), &pid); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the end of the server", func() bool { return syscall.Kill(pid, 0) != nil })
}

// installation is a database, a home and a deployment key, which several processes share.
type installation struct {
	dsn, home string
	db        *pgx.Conn
}

// install makes an installation with a new database.
func (c *cluster) install(t *testing.T) *installation {
	t.Helper()
	c.n++
	i := &installation{home: folder(t), dsn: strings.Replace(c.dsn, "/gantry?", fmt.Sprintf("/chaos%d?", c.n), 1)}
	admin := connect(t, c.dsn)
	if _, err := admin.Exec(t.Context(), fmt.Sprintf("create database chaos%d", c.n)); err != nil {
		t.Fatal(err)
	}
	if out, err := i.command(nil, "migrate").CombinedOutput(); err != nil {
		t.Fatalf("migrate: %v\n%s", err, out)
	}
	i.db = connect(t, i.dsn)
	return i
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		_, err = db.Exec(t.Context(), `set search_path = gantry`)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close(context.WithoutCancel(t.Context())) })
	return db
}

func (i *installation) command(env []string, args ...string) *exec.Cmd {
	c := exec.Command(program, append([]string{"--home", i.home, "--database-url", i.dsn, "--key", strings.Repeat("5c", 32)}, args...)...)
	c.Env = append(append(os.Environ(), "TMPDIR="+i.home), env...)
	return c
}

func (i *installation) scan(t *testing.T, to any, query string, args ...any) {
	t.Helper()
	if err := i.db.QueryRow(t.Context(), query, args...).Scan(to); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (i *installation) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	i.scan(t, &n, query, args...)
	return n
}

// process is one gantry under way.
type process struct {
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{} // closed when it has ended
	at   time.Time     // of its end
}

// start begins a process, with GANTRY_FAIL and the like in env; it is killed when the test ends.
func (i *installation) start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{cmd: i.command(env, args...), log: &lockedBuffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.cmd.Wait(); p.at = time.Now(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %d wrote:\n%s", args[0], p.cmd.Process.Pid, p.log.tail(2000))
		}
	})
	return p
}

// killed tells whether the process ended by SIGKILL.
func (p *process) killed() bool {
	s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && s.Signaled() && s.Signal() == syscall.SIGKILL
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process as a lost machine would, and waits for its end.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop asks the process to end, and wants it to do so in order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		t.Fatalf("process %d does not stop\n%s", p.cmd.Process.Pid, p.log.tail(4000))
	}
	if !p.cmd.ProcessState.Success() {
		t.Errorf("process %d ended with %v\n%s", p.cmd.Process.Pid, p.cmd.ProcessState, p.log.tail(4000))
	}
}

// lockedBuffer keeps the end of what a process writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// tail gives the last n bytes.
func (l *lockedBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.b.Bytes()
	return string(b[max(0, len(b)-n):])
}

// eventually looks every few milliseconds whether something has come about. The processes under test run on
// the real clock, so there is nothing else to wait for.
func eventually(t *testing.T, within time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", within, what)
		}
	}
}
