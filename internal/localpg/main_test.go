package localpg

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// childVar makes the test binary a second gantry process: it opens the home it names, says so,
// and closes when its standard input ends.
const childVar = "GANTRY_TEST_LOCALPG_CHILD"

func TestMain(m *testing.M) {
	if home := os.Getenv(childVar); home != "" {
		os.Exit(childMain(home))
	}
	parent, err := os.MkdirTemp("", "gantry-localpg-template-")
	if err == nil {
		err = os.Chmod(parent, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	templateHome = filepath.Join(parent, "home")
	code := m.Run()
	os.RemoveAll(parent)
	os.Exit(code)
}

func childMain(home string) int {
	c, err := Open(context.Background(), Options{Home: home, NoSync: true, BinDir: os.Getenv(childVar + "_BIN")})
	if err != nil {
		fmt.Printf("error %q\n", err)
		return 1
	}
	fmt.Printf("ready %s\n", c.DSN())
	io.Copy(io.Discard, os.Stdin)
	if err := c.Close(); err != nil {
		fmt.Printf("error %q\n", err)
		return 1
	}
	return 0
}

// child is another process that has the home open.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

func startChild(t *testing.T, home string, change func(*exec.Cmd)) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVar+"="+home)
	cmd.Stderr = os.Stderr
	if change != nil {
		change(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, stdin: stdin, out: bufio.NewReader(stdout)}
	t.Cleanup(func() { c.kill() })
	return c
}

// dsn waits until the child has the cluster open.
func (c *child) dsn(t *testing.T) string {
	t.Helper()
	line, err := c.out.ReadString('\n')
	dsn, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if !ok {
		t.Fatalf("child: %s %v", line, err)
	}
	return dsn
}

// close ends the child in the clean way.
func (c *child) close(t *testing.T) {
	t.Helper()
	c.stdin.Close()
	rest, _ := io.ReadAll(c.out)
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("child: %v %s", err, rest)
	}
}

// kill is kill -9.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	}
}

// newBase is a temporary directory that the server's account can enter. (The one of testing is
// closed to it, when the tests run as root.)
func newBase(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gantry-localpg-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newHome is an empty home; a server that a test leaves there is ended with the test.
func newHome(t *testing.T) string {
	t.Helper()
	home := filepath.Join(newBase(t), "home")
	t.Cleanup(func() {
		if pm, is := running(t, home); is {
			endServer(t, pm.pid)
			os.RemoveAll(pm.socketDir)
		}
	})
	return home
}

// templateHome is where template makes its cluster; TestMain removes it.
var templateHome string

// template is a data directory made once per run of the tests, if one needs it.
var template = sync.OnceValues(func() (string, error) {
	c, err := Open(context.Background(), Options{Home: templateHome, NoSync: true})
	if err != nil {
		return "", err
	}
	return templateHome, c.Close()
})

// newUsedHome is a home with a data directory that was shut down cleanly.
func newUsedHome(t *testing.T) string {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatal(err)
	}
	home := newHome(t)
	if err := mkdirAll(filepath.Join(home, "postgres"), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-Rp", filepath.Join(from, "postgres/data"), filepath.Join(home, "postgres/data")).CombinedOutput(); err != nil {
		t.Fatalf("copy the template: %v %s", err, out)
	}
	return home
}

func open(t *testing.T, home string) *Cluster {
	t.Helper()
	c, err := Open(t.Context(), Options{Home: home, NoSync: true, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func closeCluster(t *testing.T, c *Cluster) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func dataOf(home string) string { return filepath.Join(home, "postgres/data") }

// running tells whether a server runs on the home, by its own lock file.
func running(t *testing.T, home string) (postmaster, bool) {
	t.Helper()
	pm, is, err := readPidfile(filepath.Join(dataOf(home), "postmaster.pid"), dataOf(home))
	if err != nil {
		t.Fatal(err)
	}
	return pm, is == alive
}

// endServer kills a server and waits until it is gone.
func endServer(t *testing.T, pid int) {
	t.Helper()
	unix.Kill(pid, unix.SIGKILL)
	await(t, "the server's end", func() bool {
		unix.Wait4(pid, nil, unix.WNOHANG, nil)
		return !mayServe(pid, "/") || unix.Kill(pid, 0) != nil
	})
}

// await polls for what another process does.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for !done() {
		if sleep(ctx, 5*time.Millisecond) != nil {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// query asks for one value.
func query[T any](t *testing.T, dsn, sql string, args ...any) T {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var v T
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func run(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Fatal(err)
	}
}

// listing names every file below dir with its size and time.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil {
			all = append(all, fmt.Sprintf("%s %d %v", path, fi.Size(), fi.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := mkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

// stranger is a living process that is no Postgres, of the server's account, as a process id that
// came round again would be.
func stranger(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	if os.Geteuid() == 0 {
		a, err := ownerOf("/nonexistent")
		if err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential()}
		cmd.Dir = "/"
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

// chownToServer gives a path to the account that the server will run as.
func chownToServer(t *testing.T, path string) {
	t.Helper()
	a, err := ownerOf("/nonexistent")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
		t.Fatal(err)
	}
}

func ownerUID(fi fs.FileInfo) uint32 { return fi.Sys().(*syscall.Stat_t).Uid }

func withBinDir(dir string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, childVar+"_BIN="+dir) }
}

// newMark is the path of a file that a program of any account can write, to say its process id.
func newMark(t *testing.T, base string) string {
	t.Helper()
	dir := filepath.Join(base, "shared")
	if err := mkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "mark")
}

func awaitMark(t *testing.T, mark string) (pid int) {
	t.Helper()
	await(t, "a process to say its id", func() bool {
		b, err := os.ReadFile(mark)
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err == nil
	})
	return pid
}
