package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// What a machine that went down, or a container that started anew, leaves in postmaster.pid never
// keeps a server from starting.
func TestStalePidfile(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	pidfile := filepath.Join(dataOf(home), "postmaster.pid")
	fi, err := os.Stat(dataOf(home))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		content string
	}{
		{"dead process", "4194301\n" + dataOf(home) + "\n1700000000\n5432\n/tmp\n\n 1 2\nready   \n"},
		{"stranger", strconv.Itoa(stranger(t)) + "\n" + dataOf(home) + "\n1700000000\n5432\n/tmp\n\n 1 2\nready   \n"},
		{"empty", ""},
		{"rubbish", "\x00\x00\x00\x00"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(t, pidfile, c.content, 0o600)
			if err := os.Chown(pidfile, int(ownerUID(fi)), -1); err != nil {
				t.Fatal(err)
			}
			cl := open(t, home)
			if v := query[int](t, cl.DSN(), "select 1"); v != 1 {
				t.Error("no answer")
			}
			closeCluster(t, cl)
		})
	}
}

// The lock file beside the socket goes stale in the same ways.
func TestStaleSocketLock(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	p, err := makePlace(home)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := p.socketDir(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ".s.PGSQL."+port+".lock"), fmt.Sprintf("%d\n%s\n", stranger(t), p.data), 0o600)
	closeCluster(t, open(t, home))
}

// A server that died is replaced, also while others still hold the cluster open.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	a := open(t, home)
	run(t, a.DSN(), "create table t as select 7 as v")
	run(t, a.DSN(), "checkpoint") // this cluster does not sync its commits
	pm, _ := running(t, home)
	endServer(t, pm.pid)
	b := open(t, home)
	if v := query[int](t, b.DSN(), "select v from t"); v != 7 {
		t.Errorf("read %d after recovery", v)
	}
	if v := query[int](t, a.DSN(), "select v from t"); v != 7 {
		t.Errorf("read %d by the old name", v)
	}
}

// The session's runtime directory may be removed under a server that outlives the session.
func TestLostSocket(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	a := open(t, home)
	pm, _ := running(t, home)
	if err := os.RemoveAll(pm.socketDir); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Home: home, NoSync: true}); !errors.Is(err, errUnreachable) {
		t.Fatalf("Open of an unreachable server in use: %v", err)
	}
	a.users.Close() // as if killed
	b := open(t, home)
	if now, is := running(t, home); !is || now.pid == pm.pid {
		t.Error("the unreachable server was not replaced")
	}
	if v := query[int](t, b.DSN(), "select 1"); v != 1 {
		t.Error("no answer")
	}
}

func TestOtherMajorIsRefusedAndUntouched(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	write(t, filepath.Join(dataOf(home), "PG_VERSION"), "99\n", 0o600)
	before := listing(t, dataOf(home))
	_, err := Open(t.Context(), Options{Home: home})
	if err == nil {
		t.Fatal("opened")
	}
	for _, word := range []string{"made by Postgres 99", "only other versions", "untouched", dataOf(home)} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("message misses %q: %v", word, err)
		}
	}
	if d := cmp.Diff(before, listing(t, dataOf(home))); d != "" {
		t.Errorf("data directory changed: %s", d)
	}
	if _, err := FindBinaries(dataOf(home)); err == nil {
		t.Error("FindBinaries gave binaries of another version")
	}
}

func TestForeignFilesAreNotOverwritten(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"no version": "thesis.txt", "odd version": "PG_VERSION"} {
		home := newHome(t)
		write(t, filepath.Join(dataOf(home), file), "precious", 0o644)
		chownToServer(t, dataOf(home))
		if _, err := Open(t.Context(), Options{Home: home}); err == nil || !strings.Contains(err.Error(), "untouched") {
			t.Errorf("%s: %v", name, err)
		}
		if b, _ := os.ReadFile(filepath.Join(dataOf(home), file)); string(b) != "precious" {
			t.Errorf("%s: overwritten", name)
		}
	}
}

// An empty directory (a fresh volume) is as good as none.
func TestEmptyDataDirectory(t *testing.T) {
	t.Parallel()
	home := newHome(t)
	if err := mkdirAll(dataOf(home), 0o755); err != nil {
		t.Fatal(err)
	}
	chownToServer(t, dataOf(home))
	closeCluster(t, open(t, home))
}

// slowInit is a directory of binaries whose initdb writes half a data directory, says its process
// id in a file, and hangs.
func slowInit(t *testing.T, base string) (dir, mark string) {
	t.Helper()
	real, err := FindBinaries(filepath.Join(base, "none"))
	if err != nil {
		t.Fatal(err)
	}
	dir, mark = filepath.Join(base, "bin"), newMark(t, base)
	write(t, filepath.Join(dir, "postgres"), "#!/bin/sh\nexec "+real.Dir+"/postgres \"$@\"\n", 0o755)
	write(t, filepath.Join(dir, "initdb"), "#!/bin/sh\necho "+strconv.Itoa(real.Major)+" > \"$2/PG_VERSION\"\nmkdir \"$2/base\"\n"+
		"echo $$ > "+mark+".new && mv "+mark+".new "+mark+"\nexec sleep 60\n", 0o755)
	return dir, mark
}

func TestKilledInInitdb(t *testing.T) {
	t.Parallel()
	home, base := newHome(t), newBase(t)
	bin, mark := slowInit(t, base)
	c := startChild(t, home, nil)
	c.kill() // also at once: before, or in, anything
	c = startChild(t, home, withBinDir(bin))
	orphan := awaitMark(t, mark)
	defer unix.Kill(orphan, unix.SIGKILL)
	c.kill()
	if _, err := os.Stat(filepath.Join(dataOf(home), "PG_VERSION")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a half-made data directory has the real name: %v", err)
	}
	cl := open(t, home)
	if v := query[int](t, cl.DSN(), "select 1"); v != 1 {
		t.Error("no answer")
	}
	if left, _ := filepath.Glob(filepath.Join(home, "postgres", initPrefix+"*")); len(left) != 0 {
		t.Errorf("remains of initdb: %v", left)
	}
}

func TestInitdbCancelled(t *testing.T) {
	t.Parallel()
	home, base := newHome(t), newBase(t)
	bin, mark := slowInit(t, base)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Open(ctx, Options{Home: home, BinDir: bin})
		done <- err
	}()
	awaitMark(t, mark)
	cancel()
	if err := <-done; err == nil {
		t.Error("Open succeeded")
	}
	if left, _ := filepath.Glob(filepath.Join(home, "postgres", "data*")); len(left) != 0 {
		t.Errorf("remains: %v", left)
	}
}

// A server that cannot start says why: the end of its log is in the error.
func TestStartFails(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	conf := filepath.Join(dataOf(home), "postgresql.conf")
	write(t, conf, "shared_preload_libraries = 'no_such_library'\n", 0o600)
	_, err := Open(t.Context(), Options{Home: home, NoSync: true})
	if err == nil || !strings.Contains(err.Error(), "no_such_library") || !errors.Is(err, errGone) {
		t.Fatalf("Open: %v", err)
	}
	write(t, conf, "", 0o600)
	closeCluster(t, open(t, home)) // the failure left nothing that is in the way
}

func TestLogIsPutAside(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	log := filepath.Join(home, "postgres/log")
	write(t, log, "old\n", 0o600)
	if err := os.Truncate(log, maxLog+1); err != nil {
		t.Fatal(err)
	}
	closeCluster(t, open(t, home))
	if fi, err := os.Stat(log); err != nil || fi.Size() > maxLog {
		t.Errorf("log: %v %v", fi, err)
	}
	if fi, err := os.Stat(log + ".1"); err != nil || fi.Size() != maxLog+1 {
		t.Errorf("old log: %v", err)
	}
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "a": "a", "a\nb\nc\n": "b\nc"} {
		if got := lastLines(in, 2); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
