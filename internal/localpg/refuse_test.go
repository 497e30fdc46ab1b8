package localpg

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Open that ends early, by the caller's wish, leaves no server and no lock behind.
func TestOpenCancelled(t *testing.T) {
	t.Parallel()
	home, base := newUsedHome(t), newBase(t)
	real, err := FindBinaries(dataOf(home))
	if err != nil {
		t.Fatal(err)
	}
	mark := newMark(t, base)
	bin := filepath.Join(base, "bin") // a server that never becomes ready
	write(t, filepath.Join(bin, "postgres"), "#!/bin/sh\ncase \"$*\" in *-k*) echo $$ > "+mark+".new && mv "+mark+".new "+mark+" && exec sleep 60;; esac\nexec "+real.Dir+"/postgres \"$@\"\n", 0o755)
	write(t, filepath.Join(bin, "initdb"), "#!/bin/sh\nexit 1\n", 0o755)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("changed my mind")
	done := make(chan error, 1)
	go func() {
		_, err := Open(ctx, Options{Home: home, NoSync: true, BinDir: bin})
		done <- err
	}()
	pid := awaitMark(t, mark)
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("Open: %v", err)
	}
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the server was left (%v)", err)
		unix.Kill(pid, unix.SIGKILL)
	}
	closeCluster(t, open(t, home))
}

func TestOpenWaitsForTheLock(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	lock, err := lockFile(t.Context(), filepath.Join(home, "postgres/lock"), syscall.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockEvery)
	defer cancel()
	if _, err := Open(ctx, Options{Home: home}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open under another's lock: %v", err)
	}
}

// A server without fsync, left by a killed test, must not serve someone who wants durability.
func TestServerWithoutSyncIsReplaced(t *testing.T) {
	t.Parallel()
	home := newUsedHome(t)
	fast := open(t, home)
	if _, err := Open(t.Context(), Options{Home: home}); !errors.Is(err, errUnsafe) {
		t.Fatalf("durable Open of a cluster in unsafe use: %v", err)
	}
	fast.users.Close() // as if killed
	c, err := Open(t.Context(), Options{Home: home})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if v := query[string](t, c.DSN(), "show fsync"); v != "on" {
		t.Errorf("fsync is %s", v)
	}
}
