package localpg

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// port is in the socket's file name only; no TCP port is opened.
const port = "5432"

// place is one home's layout and the account its server runs as.
type place struct {
	home, dir, data, lock, users, log string
	owner                             account
}

// account is a Unix account. root marks that this process is root and must change to it,
// because Postgres refuses to run as root.
type account struct {
	uid, gid uint32
	root     bool
}

// makePlace creates Home/postgres and finds out who shall own the data directory. For root the
// account must be able to enter every directory on the way.
func makePlace(home string) (place, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return place{}, err
	}
	pause := func() { time.Sleep(10 * time.Millisecond) }
	if _, err := layout(home, pause); err != nil { // before anything is made in the wrong place
		return place{}, err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o755
	}
	if err := mkdirAll(filepath.Join(home, "postgres"), mode); err != nil {
		return place{}, err
	}
	// One home, one name: the socket's directory and postmaster.pid depend on it.
	if home, err = filepath.EvalSymlinks(home); err != nil {
		return place{}, err
	}
	return layout(home, pause)
}

// layout names the files of a home. A directory that is closed to the server's account is looked
// at again a few times: another process may be between making it and setting its mode.
func layout(home string, pause func()) (place, error) {
	dir := filepath.Join(home, "postgres")
	at := func(name string) string { return filepath.Join(dir, name) }
	p := place{home: home, dir: dir, data: at("data"), log: at("log"), lock: at("lock"), users: at("users")}
	var err error
	if p.owner, err = ownerOf(p.data); err != nil || !p.owner.root {
		return p, err
	}
	for range 5 {
		if err = p.owner.canEnter(p.dir); err == nil {
			return p, nil
		}
		pause()
	}
	return p, err
}

// mkdirAll is os.MkdirAll, except that what it creates gets this mode whatever the umask says.
func mkdirAll(path string, mode fs.FileMode) error {
	if fi, err := os.Stat(path); err == nil {
		if !fi.IsDir() {
			return fmt.Errorf("%s is not a directory", path)
		}
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := mkdirAll(parent, mode); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, mode); errors.Is(err, fs.ErrExist) {
		return nil // another process made it just now, and is about to set its mode
	} else if err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// ownerOf says which account runs the server on a data directory. For root it is the owner of
// an existing directory (the account "postgres" may have been added since), else postgres, else
// nobody.
func ownerOf(data string) (account, error) {
	self := account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	fi, err := os.Stat(data)
	if errors.Is(err, fs.ErrNotExist) {
		if self.uid == 0 {
			return servant(user.Lookup)
		}
		return self, nil
	}
	if err != nil {
		return account{}, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	switch {
	case self.uid != 0 && st.Uid != self.uid:
		return account{}, fmt.Errorf("data directory %s belongs to uid %d, this is uid %d", data, st.Uid, self.uid)
	case self.uid != 0:
		return self, nil
	case st.Uid == 0:
		return account{}, fmt.Errorf("data directory %s belongs to root, and Postgres does not run as root", data)
	}
	return account{uid: st.Uid, gid: st.Gid, root: true}, nil
}

// servant is the account that root runs the server as.
func servant(lookup func(string) (*user.User, error)) (account, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseInt(u.Uid, 10, 64) // macOS writes nobody as -2
		gid, err2 := strconv.ParseInt(u.Gid, 10, 64)
		if err1 == nil && err2 == nil && uid != 0 {
			return account{uid: uint32(uid), gid: uint32(gid), root: true}, nil
		}
	}
	return account{}, errors.New("a Postgres server does not run as root, and there is no account postgres or nobody: run gantry as another user")
}

// credential makes a child process run as the account: nil means as this process.
func (a account) credential() *syscall.Credential {
	if !a.root {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// canEnter reports the first directory on the way to dir that the account may not enter.
func (a account) canEnter(dir string) error {
	for d := dir; ; d = filepath.Dir(d) {
		fi, err := os.Stat(d)
		if errors.Is(err, fs.ErrNotExist) {
			continue // we make it, and enterable
		}
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		bit := fs.FileMode(0o001)
		switch {
		case st.Uid == a.uid:
			bit = 0o100
		case st.Gid == a.gid:
			bit = 0o010
		}
		if fi.Mode()&bit == 0 {
			return fmt.Errorf("%s cannot be entered by uid %d, and Postgres does not run as root: choose another place (GANTRY_HOME, --home)", d, a.uid)
		}
		if d == filepath.Dir(d) {
			return nil
		}
	}
}

// socketDir makes the private directory of the server's Unix socket. It is short, because a
// socket's path has at most 107 bytes (103 on macOS), and a function of the home, so that two
// homes never meet.
func (p place) socketDir(getenv func(string) string) (string, error) {
	sum := sha256.Sum256([]byte(p.home))
	id := fmt.Sprintf("%x", sum[:6])
	dir := fmt.Sprintf("/tmp/gantry-%d-%s", p.owner.uid, id)
	if run := getenv("XDG_RUNTIME_DIR"); !p.owner.root && filepath.IsAbs(run) {
		d := filepath.Join(run, "gantry-"+id)
		if len(d)+len("/.s.PGSQL."+port) <= maxSocketPath() && !strings.ContainsAny(d, `,"`) {
			if fi, err := os.Stat(run); err == nil && fi.IsDir() {
				dir = d
			}
		}
	}
	return dir, p.ownSocketDir(dir)
}

func maxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

// ownSocketDir creates dir for the owner alone. Whoever owns it answers in the server's name, so a
// directory (or symbolic link) that someone else left under this name is refused.
func (p place) ownSocketDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err == nil {
		if p.owner.root {
			return os.Lchown(dir, int(p.owner.uid), int(p.owner.gid))
		}
		return nil
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st := fi.Sys().(*syscall.Stat_t); !fi.IsDir() || st.Uid != p.owner.uid {
		return fmt.Errorf("socket directory %s is not a directory of uid %d: remove it", dir, p.owner.uid)
	}
	if fi.Mode().Perm() != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}
