package localpg

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

func TestDefaultHome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  map[string]string
		euid int
		want string
	}{
		{map[string]string{"GANTRY_HOME": "/srv/g", "HOME": "/h"}, 0, "/srv/g"},
		{map[string]string{"HOME": "/root", "XDG_DATA_HOME": "/root/d"}, 0, "/var/lib/gantry"},
		{map[string]string{"HOME": "/h", "XDG_DATA_HOME": "/d"}, 7, "/d/gantry"},
		{map[string]string{"HOME": "/h", "XDG_DATA_HOME": "relative"}, 7, "/h/.local/share/gantry"},
	} {
		if got := defaultHome(func(k string) string { return c.env[k] }, c.euid); got != c.want {
			t.Errorf("%v: %s, want %s", c.env, got, c.want)
		}
	}
}

// A cold start makes a durable cluster with our settings; what is written survives a full stop.
func TestOpenColdAndWarm(t *testing.T) {
	t.Parallel()
	home := newHome(t)
	c, err := Open(t.Context(), Options{Home: home})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	got := map[string]string{}
	for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes", "listen_addresses", "max_connections",
		"shared_buffers", "max_wal_size", "autovacuum_naptime", "server_encoding", "lc_collate", "unix_socket_permissions",
		"log_statement", "log_min_error_statement", "log_error_verbosity", "log_parameter_max_length_on_error"} {
		got[name] = query[string](t, c.DSN(), "select current_setting($1)", name)
	}
	want := map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": "", "max_connections": "200",
		"shared_buffers": "128MB", "max_wal_size": "4GB", "autovacuum_naptime": "10s", "server_encoding": "UTF8", "lc_collate": "C", "unix_socket_permissions": "0700",
		"log_statement": "none", "log_min_error_statement": "panic", "log_error_verbosity": "terse", "log_parameter_max_length_on_error": "0"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if db := query[string](t, c.DSN(), "select current_database() || ' ' || current_user"); db != "gantry postgres" {
		t.Errorf("connected as %s", db)
	}
	run(t, c.DSN(), "create table kept as select 42 as v")
	pm, _ := running(t, home)
	closeCluster(t, c)
	if _, is := running(t, home); is {
		t.Fatal("the last leaver left the server running")
	}
	if _, err := os.Stat(pm.socketDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket directory after the stop: %v", err)
	}
	again := open(t, home)
	if v := query[int](t, again.DSN(), "select v from kept"); v != 42 {
		t.Errorf("read %d after a restart", v)
	}
}

// The log must not hold values: they may be of patients.
func TestLogHoldsNoValues(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	c := open(t, home)
	conn, err := pgx.Connect(t.Context(), c.DSN())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	const secret = "DOE^JANE"
	if _, err := conn.Exec(t.Context(), "create table p (name text primary key check (name <> 'x'))"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second breaks the key, whose DETAIL quotes the value
		conn.Exec(t.Context(), "insert into p values ($1)", secret)
	}
	conn.Exec(t.Context(), "select '"+secret+"'::int")             // quoted by the message itself
	conn.Exec(t.Context(), "select from '"+secret+"'")             // quoted by the parser
	conn.Exec(t.Context(), "do $$begin raise '"+secret+"'; end$$") // and by ourselves
	log, err := os.ReadFile(filepath.Join(home, "postgres/log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "ready to accept connections") {
		t.Error("the log misses the server's own messages")
	}
	for _, line := range strings.Split(string(log), "\n") {
		if strings.Contains(line, "DOE") {
			t.Errorf("value in the log: %s", line)
		}
	}
}

func TestSecondProcessAttachesAndLastLeaverStops(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	a := open(t, home)
	before, _ := running(t, home)
	b := startChild(t, home, nil)
	if dsn := b.dsn(t); dsn != a.DSN() {
		t.Errorf("other process got %s, want %s", dsn, a.DSN())
	}
	if now, is := running(t, home); !is || now.pid != before.pid {
		t.Errorf("server %d became %d", before.pid, now.pid)
	}
	closeCluster(t, a)
	closeCluster(t, a) // a second Close is nothing
	if n := query[int](t, a.DSN(), "select 1"); n != 1 {
		t.Error("the server left with its first user")
	}
	b.close(t)
	if _, is := running(t, home); is {
		t.Error("the last leaver, who did not start the server, left it running")
	}
}

func TestSurvivesKilledOpener(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	a := startChild(t, home, nil)
	dsn := a.dsn(t)
	run(t, dsn, "create table t as select 1 as v")
	before, _ := running(t, home)
	if sid, err := unix.Getsid(before.pid); err != nil || sid != before.pid {
		t.Errorf("the server is in session %d (%v): a ^C or a hang-up would reach it", sid, err)
	}
	a.kill()
	if v := query[int](t, dsn, "select v from t"); v != 1 {
		t.Error("the server died with its opener")
	}
	b := open(t, home)
	if now, is := running(t, home); !is || now.pid != before.pid {
		t.Errorf("server %d became %d: not attached", before.pid, now.pid)
	}
	closeCluster(t, b) // the killed one's lock is gone, so this is the last
	if _, is := running(t, home); is {
		t.Error("the last clean leaver left it running")
	}
}

// The detached server holds nothing of what its opener inherited: a script that reads a pipe to
// its end must not wait for a server that stays.
func TestServerInheritsNoFiles(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	a := startChild(t, home, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{w} })
	w.Close()
	a.dsn(t)
	a.kill()
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read of a pipe whose writer died: %v", err)
	}
	if _, is := running(t, home); !is {
		t.Error("no server that could have held it")
	}
}

func TestTwoOpensAtOnceMakeOneCluster(t *testing.T) {
	t.Parallel()
	home := newHome(t)
	var inits, starts atomic.Int32
	count := func(format string, args ...any) {
		if strings.Contains(format, "initdb") {
			inits.Add(1)
		}
		if strings.Contains(format, "starting version") {
			starts.Add(1)
		}
	}
	other := startChild(t, home, nil)
	var wg sync.WaitGroup
	clusters := make([]*Cluster, 3)
	for i := range clusters {
		wg.Go(func() {
			c, err := Open(t.Context(), Options{Home: home, NoSync: true, Log: count})
			if err != nil {
				t.Error(err)
				return
			}
			clusters[i] = c
		})
	}
	wg.Wait()
	dsn := other.dsn(t)
	for _, c := range clusters {
		if c == nil {
			t.FailNow()
		}
		if c.DSN() != dsn {
			t.Errorf("two clusters: %s and %s", c.DSN(), dsn)
		}
		defer c.Close()
	}
	if inits.Load() > 1 || starts.Load() > 1 {
		t.Errorf("%d initdb, %d starts in this process", inits.Load(), starts.Load())
	}
	log, _ := os.ReadFile(filepath.Join(home, "postgres/log"))
	if n := strings.Count(string(log), "starting PostgreSQL"); n != 1 {
		t.Errorf("%d servers were started", n)
	}
}

// A leaver that stops the server and a newcomer meet: the newcomer always gets a living server.
func TestOpenDuringClose(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	c := open(t, home)
	for range 12 {
		closed := make(chan error, 1)
		go func(c *Cluster) { closed <- c.Close() }(c)
		next, err := Open(t.Context(), Options{Home: home, NoSync: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		if v := query[int](t, next.DSN(), "select 1"); v != 1 {
			t.Fatal("no living server")
		}
		c = next
	}
	closeCluster(t, c)
}

// An ordinary user needs no root, and its own home. When the tests run as root, the child runs as
// nobody; otherwise it runs as they do.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	home := filepath.Join(base, "user/home")
	if err := mkdirAll(filepath.Dir(home), 0o755); err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(base, "child")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", self, exe).CombinedOutput(); err != nil {
		t.Fatalf("copy the program: %v %s", err, out)
	}
	if err := os.Chmod(exe, 0o755); err != nil {
		t.Fatal(err)
	}
	uid := uint32(os.Geteuid())
	c := startChild(t, home, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args, cmd.Dir = exe, []string{exe}, "/"
		if uid != 0 {
			return
		}
		uid = 65534
		if err := os.Chown(filepath.Dir(home), int(uid), int(uid)); err != nil {
			t.Fatal(err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	})
	dsn := c.dsn(t)
	if v := query[int](t, dsn, "select 1"); v != 1 {
		t.Error("no answer")
	}
	pm, is := running(t, home)
	if !is {
		t.Fatal("no server")
	}
	for _, path := range []string{dataOf(home), pm.socketDir} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st := fi.Sys().(*syscall.Stat_t); st.Uid != uid || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: uid %d, mode %v; want uid %d, 0700", path, st.Uid, fi.Mode(), uid)
		}
	}
	c.close(t)
	if _, is := running(t, home); is {
		t.Error("left running")
	}
}

// As root, the server and everything it reads belong to another account.
func TestServerNeverRunsAsRoot(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	open(t, home)
	pm, _ := running(t, home)
	for _, path := range []string{dataOf(home), filepath.Join(pm.socketDir, ".s.PGSQL."+pm.port)} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Sys().(*syscall.Stat_t).Uid == 0 {
			t.Errorf("%s belongs to root", path)
		}
	}
}

func TestCloseWaitIsBounded(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	c := open(t, home)
	lock, err := lockFile(t.Context(), filepath.Join(home, "postgres/lock"), syscall.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("leave under another's lock: %v", err)
	}
	lock.Close()
	closeCluster(t, open(t, home)) // attaches and, the lock of c being gone, stops
	if _, is := running(t, home); is {
		t.Error("left running")
	}
}
