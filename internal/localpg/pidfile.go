package localpg

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// postmaster is what postmaster.pid says: one value a line (PostgreSQL source, miscadmin.h,
// LOCK_FILE_LINE_*). While the server starts, the later lines are empty or missing.
type postmaster struct {
	pid       int
	port      string
	socketDir string
	ready     bool
}

// presence says what a lock file of Postgres stands for.
type presence uint8

const (
	absent  presence = iota // no file
	torn                    // a file without a process id: being written, or the machine went down
	dead                    // names a process that is gone
	foreign                 // names a living process that is not a server on this data directory
	alive                   // names a server on this data directory
)

// maxPidfile is far more than Postgres writes.
const maxPidfile = 8 << 10

// readPidfile reads postmaster.pid, or the lock file beside the socket, which begins alike.
func readPidfile(path, data string) (postmaster, presence, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return postmaster{}, absent, nil
	}
	if err != nil {
		return postmaster{}, absent, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPidfile))
	if err != nil {
		return postmaster{}, absent, err
	}
	pm, ok := parsePidfile(string(b))
	if !ok {
		return postmaster{}, torn, nil
	}
	if errors.Is(unix.Kill(pm.pid, 0), unix.ESRCH) {
		return pm, dead, nil
	}
	if !mayServe(pm.pid, data) {
		return pm, foreign, nil
	}
	return pm, alive, nil
}

func parsePidfile(s string) (postmaster, bool) {
	lines := strings.Split(s, "\n")
	at := func(i int) string {
		if i < len(lines)-1 { // the last one has no line end yet
			return strings.TrimSpace(lines[i])
		}
		return ""
	}
	pid, err := strconv.ParseInt(at(0), 10, 32)
	if err != nil || pid <= 1 {
		return postmaster{}, false
	}
	return postmaster{pid: int(pid), port: at(3), socketDir: at(4), ready: at(7) == "ready"}, true
}

// commandServes judges a process by its command line: is it a Postgres server that may have this
// data directory open? In doubt the answer is yes: taking a stranger for the server ends in a
// clear error, the reverse could start two servers on one data directory.
func commandServes(argv []string, data string) bool {
	if len(argv) == 0 {
		return false
	}
	// The children of a server call themselves "postgres: …"; no lock file names those.
	name := filepath.Base(argv[0])
	if name != "postgres" && name != "postmaster" {
		return false
	}
	want, err := os.Stat(data)
	if err != nil {
		return true
	}
	for i, a := range argv {
		dir, found := strings.CutPrefix(a, "-D")
		if !found {
			continue
		}
		if dir == "" && i+1 < len(argv) {
			dir = argv[i+1]
		}
		if !filepath.IsAbs(dir) {
			return true
		}
		if got, err := os.Stat(dir); err == nil {
			return os.SameFile(want, got)
		}
	}
	return true
}

// tornGrace is how long a lock file may stay without a process id. Postgres writes it right
// after creating it.
const tornGrace = 500 * time.Millisecond

// clearStale removes a lock file that would keep a new server from starting although no server
// runs: one that names a stranger (process ids come round again, at once in containers), or
// nobody. A file that names a dead process is left to Postgres, which first makes sure that no
// orphan of the old server still has the shared memory.
func clearStale(path, data string, pause func(time.Duration) error) error {
	_, is, err := readPidfile(path, data)
	if err == nil && is == torn {
		if err := pause(tornGrace); err != nil {
			return err
		}
		_, is, err = readPidfile(path, data)
	}
	if err != nil {
		return err
	}
	if is == torn || is == foreign {
		return os.Remove(path)
	}
	return nil
}
