// Package localpg finds Postgres binaries on this machine and runs one private cluster per home
// directory, shared by every gantry process of that home. It is the default when nobody names a
// database: for trying out, for tests and for one small machine. Read localpg.go first, then
// place.go and lock.go (directories, locks), server.go, settings.go, initdb.go and pidfile.go (cluster),
// find.go (binaries), fetch.go and untar.go (a download that was asked for), sys_*.go.
package localpg

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say where the cluster lives and how it runs. The zero value serves.
type Options struct {
	// Home is the directory of this installation; everything lies below Home/postgres.
	// Empty means DefaultHome.
	Home string
	// BinDir holds postgres and initdb and replaces the search of FindBinaries.
	BinDir string
	// NoSync turns fsync, synchronous_commit and full_page_writes off: a crash of the machine
	// then loses the cluster. For tests only.
	NoSync bool
	// Log receives one line per step that takes time (initdb, start, stop). Nil means silence.
	Log func(format string, args ...any)
}

// Cluster is this process's use of a running cluster. Its methods are safe for concurrent use.
type Cluster struct {
	server *server
	users  *os.File
	dsn    string
	once   sync.Once
	err    error
}

// leaveWait bounds Close: another process may be in the middle of initdb, and a fast shutdown
// writes a checkpoint first.
const leaveWait = 2 * time.Minute

// DefaultHome is $GANTRY_HOME, else /var/lib/gantry for root, else $XDG_DATA_HOME/gantry, else
// ~/.local/share/gantry.
func DefaultHome() string { return defaultHome(os.Getenv, os.Geteuid()) }

func defaultHome(getenv func(string) string, euid int) string {
	if h := getenv("GANTRY_HOME"); h != "" {
		return h
	}
	if euid == 0 {
		return "/var/lib/gantry"
	}
	if d := getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "gantry")
	}
	return filepath.Join(getenv("HOME"), ".local/share/gantry")
}

// Open starts the cluster of a home, or attaches to the one that runs already, and returns when
// its database "gantry" answers. A home without a data directory gets one; an existing one is
// never wiped, and is refused when no binaries of its major version are found. The server is
// detached: it outlives this process, and after a crash the next Open attaches to it. The error
// wraps ErrNoBinaries when there is nothing to start.
func Open(ctx context.Context, o Options) (*Cluster, error) {
	if o.Home == "" {
		o.Home = DefaultHome()
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	p, err := makePlace(o.Home)
	if err != nil {
		return nil, fmt.Errorf("open local Postgres: %w", err)
	}
	lock, err := lockFile(ctx, p.lock, unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("open local Postgres: %w", err)
	}
	defer lock.Close() // closing drops the lock
	users, err := lockFile(ctx, p.users, unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("open local Postgres: %w", err)
	}
	s := &server{place: p, binDir: o.BinDir, noSync: o.NoSync, users: users, log: o.Log}
	dsn, err := s.ensure(ctx)
	if err != nil {
		s.giveUp()
		users.Close()
		return nil, fmt.Errorf("open local Postgres in %s: %w", p.dir, err)
	}
	return &Cluster{server: s, users: users, dsn: dsn}, nil
}

// DSN is the connection URL of the database "gantry": the superuser postgres over a Unix socket.
// It stays valid until Close.
func (c *Cluster) DSN() string { return c.dsn }

// Close ends this process's use of the cluster. The last clean leaver stops the server (fast
// shutdown); any other leaves it alone. Only the first call counts, later ones repeat its error.
func (c *Cluster) Close() error {
	c.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), leaveWait)
		defer cancel()
		if err := c.leave(ctx); err != nil {
			c.err = fmt.Errorf("close local Postgres in %s: %w", c.server.place.dir, err)
		}
	})
	return c.err
}

// leave holds the main lock from the question "am I the last?" to the end of the server, so that
// nobody opens a cluster that is being stopped.
func (c *Cluster) leave(ctx context.Context) error {
	lock, err := lockFile(ctx, c.server.place.lock, unix.LOCK_EX)
	if err != nil {
		c.users.Close()
		return err
	}
	defer lock.Close()
	defer c.users.Close()
	alone, err := tryLock(c.users, unix.LOCK_EX)
	if err != nil || !alone {
		return err
	}
	return c.server.stop(ctx)
}
