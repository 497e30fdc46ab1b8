package localpg

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// server starts, watches and stops the Postgres of one place. All of its methods are called
// under the main lock.
type server struct {
	place  place
	binDir string
	noSync bool
	users  *os.File // held shared
	log    func(string, ...any)
	child  *os.Process     // the server that this Open started, if any
	exited <-chan struct{} // closes at its end
}

var (
	errGone        = errors.New("server ended before it was ready")
	errUnreachable = errors.New("server runs, but its socket is gone")
	errUnsafe      = errors.New("server runs without fsync")
)

const (
	database  = "gantry"
	role      = "postgres"
	gonePause = 100 * time.Millisecond // between tries when a server went away under us
	goneTries = 100
)

// ensure gives the DSN of a server that answers: one that runs, else a new one. A server may
// vanish while we wait for it (it was being stopped when its stopper died), or a new one may not
// start because orphans of the last one still end; both pass, so they are tried again.
func (s *server) ensure(ctx context.Context) (string, error) {
	for try := 1; ; try++ {
		_, is, err := readPidfile(s.pidfile(), s.place.data)
		if err != nil {
			return "", err
		}
		var exited <-chan struct{}
		from := s.logSize()
		if is != alive {
			if exited, err = s.start(ctx); err != nil {
				return "", err
			}
		}
		dsn, err := s.waitReady(ctx, exited)
		switch {
		case err == nil:
			return dsn, nil
		case errors.Is(err, errUnreachable), errors.Is(err, errUnsafe):
			if err := s.replace(ctx, err); err != nil {
				return "", err
			}
		case !errors.Is(err, errGone):
			return "", err
		case try == goneTries || exited != nil && !s.passing(from):
			return "", fmt.Errorf("%w; its log %s ends:\n%s", err, s.place.log, s.logTail(from))
		}
		if err := sleep(ctx, gonePause); err != nil {
			return "", err
		}
	}
}

func (s *server) pidfile() string { return filepath.Join(s.place.data, "postmaster.pid") }

// passing tells whether a start that failed may succeed soon: another server won the race for
// the data directory, or orphans of the last one hold its memory.
func (s *server) passing(from int64) bool {
	_, is, err := readPidfile(s.pidfile(), s.place.data)
	return err == nil && is == alive || strings.Contains(s.logTail(from), "shared memory block")
}

// replace stops a server that nobody can or should use, if nobody uses it.
func (s *server) replace(ctx context.Context, why error) error {
	if yes, err := alone(s.users); err != nil {
		return err
	} else if !yes {
		return fmt.Errorf("%w, and other processes use it: end them first", why)
	}
	s.log("postgres: %v, starting it anew", why)
	return s.stop(ctx)
}

// start makes the data directory if there is none and starts a detached server. The channel
// closes when that server ends while this process lives.
func (s *server) start(ctx context.Context) (<-chan struct{}, error) {
	bin, err := s.prepare(ctx)
	if err != nil {
		return nil, err
	}
	socket, err := s.place.socketDir(os.Getenv)
	if err != nil {
		return nil, err
	}
	pause := func(d time.Duration) error { return sleep(ctx, d) }
	for _, f := range []string{s.pidfile(), filepath.Join(socket, ".s.PGSQL."+port+".lock")} {
		if err := clearStale(f, s.place.data, pause); err != nil {
			return nil, err
		}
	}
	log, err := s.openLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := keepFiles(); err != nil {
		return nil, err
	}
	cmd := s.command(context.WithoutCancel(ctx), bin, "postgres", s.settings(ctx, bin, socket)...)
	cmd.SysProcAttr.Setsid = true
	cmd.Stdout, cmd.Stderr = log, log
	s.log("postgres: starting version %d on %s", bin.Major, s.place.data)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	exited := make(chan struct{})
	s.child, s.exited = cmd.Process, exited
	go reap(cmd, exited)
	return exited, nil
}

// reap waits for a server, only so that it does not stay as a zombie; its end is seen elsewhere.
func reap(cmd *exec.Cmd, exited chan<- struct{}) {
	cmd.Wait()
	close(exited)
}

// command runs a Postgres program as the server's account, in a directory which that account can
// enter, with an environment in which nothing of the caller's PG* variables is left.
func (s *server) command(ctx context.Context, bin Binaries, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin.Dir, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.place.owner.credential()}
	return cmd
}

// waitReady waits until the server answers on the data directory of this place and has the
// database. Crash recovery may take long, so only ctx bounds it. exited is nil for a server that
// another process started.
func (s *server) waitReady(ctx context.Context, exited <-chan struct{}) (string, error) {
	var last error
	told := time.Now()
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		pm, is, err := readPidfile(s.pidfile(), s.place.data)
		switch {
		case err != nil:
			return "", err
		case is == alive && pm.socketDir != "":
			if again, err := s.probe(ctx, pm); err == nil {
				return dsn(pm, database), nil
			} else if !again {
				return "", err
			} else {
				last = err
			}
		case is != alive && exited == nil:
			return "", errGone
		}
		if time.Since(told) > 10*time.Second {
			s.log("postgres: waiting until it is ready (log: %s)", s.place.log)
			told = time.Now()
		}
		select {
		case <-exited:
			return "", errGone
		case <-ctx.Done():
			return "", errors.Join(context.Cause(ctx), last)
		case <-time.After(wait):
		}
	}
}

// probe asks the server one question and makes the database. again means: not yet.
func (s *server) probe(ctx context.Context, pm postmaster) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn(pm, "postgres"))
	if err != nil {
		var refused *pgconn.PgError
		if errors.As(err, &refused) {
			return refused.Code == "57P03", err // cannot_connect_now: starting up or shutting down
		}
		_, lost := os.Lstat(filepath.Join(pm.socketDir, ".s.PGSQL."+pm.port))
		if pm.ready && errors.Is(lost, fs.ErrNotExist) {
			return false, errUnreachable
		}
		return true, err
	}
	defer conn.Close(ctx)
	var data, fsync string
	var exists bool
	const q = `select current_setting('data_directory'), current_setting('fsync'), exists(select from pg_database where datname = $1)`
	if err := conn.QueryRow(ctx, q, database).Scan(&data, &fsync, &exists); err != nil {
		return true, err
	}
	if !sameDir(data, s.place.data) {
		return false, fmt.Errorf("the server at %s serves %s, not %s", pm.socketDir, data, s.place.data)
	}
	if fsync == "off" && !s.noSync {
		return false, errUnsafe
	}
	if !exists {
		err = create(ctx, conn)
	}
	return false, err
}

// create makes the database. Errors of clients are told to the clients alone, since their text may
// quote values; what the server's own processes report (a full disk) still goes to the log.
func create(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "alter role "+role+" set log_min_messages = log"); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, "create database "+database)
	return err
}

func sameDir(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

// dsn names the socket that the server itself wrote into postmaster.pid: the process that started
// it may have had another XDG_RUNTIME_DIR.
func dsn(pm postmaster, db string) string {
	q := url.Values{"host": {pm.socketDir}, "port": {pm.port}}
	return (&url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + db, RawQuery: q.Encode()}).String()
}

// stop asks for a fast shutdown and waits for its end. No server is no error.
func (s *server) stop(ctx context.Context) error {
	s.log("postgres: stopping")
	pm, is, err := readPidfile(s.pidfile(), s.place.data)
	if err != nil || is != alive {
		return err
	}
	if err := unix.Kill(pm.pid, unix.SIGINT); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("stop process %d: %w", pm.pid, err)
	}
	for {
		now, is, err := readPidfile(s.pidfile(), s.place.data)
		if err != nil {
			return err
		}
		if is != alive || now.pid != pm.pid {
			os.Remove(pm.socketDir) // only if it is empty, and made anew at every start
			return nil
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("process %d has not ended: %w", pm.pid, err)
		}
	}
}

// giveUp ends a server that this Open started in vain. It may not have written its
// postmaster.pid yet, so it is signalled as a child.
func (s *server) giveUp() {
	if s.child == nil {
		return
	}
	if yes, err := alone(s.users); err != nil || !yes {
		return
	}
	s.child.Signal(unix.SIGINT) // an error means that it has ended
	select {
	case <-s.exited:
	case <-time.After(leaveWait):
		s.log("postgres: process %d has not ended", s.child.Pid)
	}
}
