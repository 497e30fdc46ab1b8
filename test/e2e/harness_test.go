// Package e2e runs the built program as its users do, as processes on a Postgres that keeps what it
// acknowledges, and holds it to its promises. harness_test.go builds the binary, starts processes,
// model_test.go plays the inference service, audit_test.go reads the database; kill_test.go kills and
// freezes processes, shards_test.go and frames_test.go do so to tasks that are divided; limits_test.go
// counts what several of them send at once; hosts_test.go and ward_test.go have two machines share one installation.
package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// binary is the program, built once for all tests of the package.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gantry-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "gantry")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/gantry").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build gantry: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// installation is one database and one home; several processes may share it.
type installation struct {
	dsn, home, key string
}

// install makes an installation with a durable database of its own.
func install(t *testing.T) installation {
	t.Helper()
	return installation{dsn: postgrestest.Durable(t), home: folder(t), key: strings.Repeat("5c", 32)}
}

// folder makes a folder that any user may enter; it is removed when the test ends.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gantry-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (i installation) command(args ...string) *exec.Cmd {
	return exec.Command(binary, append([]string{"--home", i.home, "--database-url", i.dsn, "--key", i.key}, args...)...)
}

// output runs a command that has to succeed and gives what it printed.
func (i installation) output(t *testing.T, args ...string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := i.command(args...)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("gantry %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes()
}

// taskRow is what is read of a task in a listing.
type taskRow struct {
	ID    string `json:"id"`
	State string `json:"state"`
	Phase string `json:"phase"`
	Error *struct {
		Code, Kind, Message string
	} `json:"error"`
}

// tasks lists all tasks as the command line does.
func (i installation) tasks(t *testing.T) []taskRow {
	t.Helper()
	return decode[taskRow](t, i.output(t, "task", "ls", "--json", "--limit", "0"))
}

func decode[T any](t *testing.T, b []byte) []T {
	t.Helper()
	var list []T
	if err := json.Unmarshal(b, &list); err != nil {
		t.Fatalf("decode listing: %v", err)
	}
	return list
}

// process is one gantry under way. What it writes is shown if the test fails.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{} // closed when it has ended
	err  error         // of its end
}

// start begins a command that goes on until it is told to stop; it is killed when the test ends.
func (i installation) start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{name: args[0], cmd: i.command(args...), log: &lockedBuffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s %d wrote:\n%s", p.name, p.cmd.Process.Pid, p.log.tail(4000))
		}
	})
	return p
}

// serve starts `gantry serve` and returns when it watches its sources.
func (i installation) serve(t *testing.T, pipeline string, flags ...string) *process {
	t.Helper()
	p := i.start(t, append([]string{"serve", "--pipelines", pipeline, "--listen", "127.0.0.1:0"}, flags...)...)
	eventually(t, 20*time.Second, "gantry serve to begin", func() bool {
		if p.ended() {
			t.Fatalf("gantry serve ended: %v\n%s", p.err, p.log.tail(4000))
		}
		return strings.Contains(p.log.tail(1<<20), "health on http://")
	})
	return p
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends a signal to a process that has not ended.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %s: %v", p.name, err)
	}
}

// kill ends the process as a lost machine would, and waits for its end.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// stop asks the process to end and wants it to do so in order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	select {
	case <-p.done:
		if p.err != nil {
			t.Errorf("gantry %s ended with %v\n%s", p.name, p.err, p.log.tail(4000))
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("gantry %s does not stop", p.name)
	}
}

// lockedBuffer keeps what a process writes.
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

// eventually looks every two milliseconds whether something has come about. The processes under
// test run on the real clock, so there is nothing else to wait for.
func eventually(t *testing.T, within time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", within, what)
		}
	}
}

// drop lays the PNG files from number first to before number end into a folder. All are different,
// and the same in every run.
func drop(t *testing.T, dir string, first, end int) {
	t.Helper()
	for i := first; i < end; i++ {
		sum := sha256.Sum256(fmt.Appendf(nil, "input %d", i))
		lay(t, filepath.Join(dir, fmt.Sprintf("scan-%04d.png", i)), picture(sum[:]))
	}
}

// lay writes a file that appears whole: one that grows counts as settled, as it is, where the disk keeps its
// writer waiting for longer than the source does.
func lay(t *testing.T, path string, body []byte) {
	t.Helper()
	growing := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(growing, body, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(growing, path); err != nil {
		t.Fatal(err)
	}
}

// tree gives the SHA-256 of every file below a folder by its path.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files[filepath.ToSlash(rel)] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
