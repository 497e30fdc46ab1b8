package localpg

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestMakePlaceNamesOneHomeOnce(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	p, err := makePlace(filepath.Join(base, "home"))
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(filepath.Join(base, "home"), link); err != nil {
		t.Fatal(err)
	}
	q, err := makePlace(link)
	if err != nil || p != q {
		t.Errorf("by a link: %+v, want %+v (%v)", q, p, err)
	}
}

// The socket's path is short whatever the home and the session say.
func TestSocketDir(t *testing.T) {
	t.Parallel()
	self := account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	run := newBase(t)
	deep := filepath.Join(run, strings.Repeat("d", 80))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	p := place{home: "/home/" + strings.Repeat("h", 200), owner: self}
	for _, c := range []struct{ name, runtime, want string }{
		{"session", run, run + "/gantry-"},
		{"no session", "", "/tmp/gantry-"},
		{"relative", "run", "/tmp/gantry-"},
		{"missing", run + "/none", "/tmp/gantry-"},
		{"too long", deep, "/tmp/gantry-"},
		{"a list to Postgres", run + "/a,b", "/tmp/gantry-"},
	} {
		dir, err := p.socketDir(func(string) string { return c.runtime })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
		fi, err := os.Stat(dir)
		if err != nil || !strings.HasPrefix(dir, c.want) || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %s %v", c.name, dir, err)
		}
		if n := len(dir + "/.s.PGSQL." + port); n > maxSocketPath() {
			t.Errorf("%s: %d bytes", c.name, n)
		}
	}
	p.owner.root = true
	if dir, err := p.socketDir(func(string) string { return run }); strings.HasPrefix(dir, run) {
		t.Errorf("root's session directory is closed to the server: %s %v", dir, err)
	}
	a, _ := p.socketDir(os.Getenv)
	b, _ := place{home: "/other", owner: p.owner}.socketDir(os.Getenv)
	defer os.Remove(b)
	if a == b {
		t.Error("two homes share a socket")
	}
}

// Whoever makes the directory first could answer in the server's name.
func TestSocketDirHijack(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	p := place{owner: account{uid: uint32(os.Geteuid()) + 1}}
	for name, make := range map[string]func(path string) error{
		"other owner": func(path string) error { return os.Mkdir(path, 0o700) },
		"file":        func(path string) error { return os.WriteFile(path, nil, 0o700) },
		"link":        func(path string) error { return os.Symlink(base, path) },
	} {
		path := filepath.Join(base, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if err := p.ownSocketDir(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.owner.uid--
	if err := p.ownSocketDir(filepath.Join(base, "link")); err == nil {
		t.Error("followed a symbolic link of the right owner")
	}
	lax := filepath.Join(base, "lax")
	if err := os.Mkdir(lax, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(lax, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := p.ownSocketDir(lax); err != nil {
		t.Fatal(err)
	}
	if fi, _ := os.Stat(lax); fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", fi.Mode())
	}
}

func TestCanEnter(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	inner := filepath.Join(base, "closed/inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Fatal(err)
	}
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	for _, c := range []struct {
		mode fs.FileMode
		who  account
		ok   bool
	}{
		{0o700, account{uid: uid, gid: gid}, true},
		{0o700, account{uid: uid + 1, gid: gid + 1}, false},
		{0o701, account{uid: uid + 1, gid: gid + 1}, true},
		{0o701, account{uid: uid + 1, gid: gid}, false}, // the group's bits decide for the group
		{0o710, account{uid: uid + 1, gid: gid}, true},
		{0o077, account{uid: uid, gid: gid}, false},
	} {
		if err := os.Chmod(filepath.Dir(inner), c.mode); err != nil {
			t.Fatal(err)
		}
		err := c.who.canEnter(filepath.Dir(inner))
		if (err == nil) != c.ok {
			t.Errorf("mode %o, %+v: %v", c.mode, c.who, err)
		}
		if err != nil && !strings.Contains(err.Error(), "closed") {
			t.Errorf("message does not name the directory: %v", err)
		}
	}
	if err := os.Chmod(filepath.Dir(inner), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestServant(t *testing.T) {
	t.Parallel()
	accounts := map[string]*user.User{}
	lookup := func(name string) (*user.User, error) {
		if u := accounts[name]; u != nil {
			return u, nil
		}
		return nil, user.UnknownUserError(name)
	}
	if a, err := servant(lookup); err == nil {
		t.Errorf("no account: %+v", a)
	}
	accounts["nobody"] = &user.User{Uid: "-2", Gid: "-2"}
	if a, err := servant(lookup); err != nil || a != (account{4294967294, 4294967294, true}) {
		t.Errorf("nobody of macOS: %+v %v", a, err)
	}
	accounts["postgres"] = &user.User{Uid: "101", Gid: "104"}
	if a, err := servant(lookup); err != nil || a != (account{101, 104, true}) {
		t.Errorf("postgres: %+v %v", a, err)
	}
	accounts["postgres"] = &user.User{Uid: "0", Gid: "0"}
	if a, err := servant(lookup); err != nil || a.uid == 0 {
		t.Errorf("postgres is root: %+v %v", a, err)
	}
}

func TestCredential(t *testing.T) {
	t.Parallel()
	if c := (account{uid: 5, gid: 6}).credential(); c != nil {
		t.Errorf("an ordinary user changes to %+v", c)
	}
	c := account{uid: 5, gid: 6, root: true}.credential()
	if c == nil || c.Uid != 5 || c.Gid != 6 || len(c.Groups) != 0 || c.NoSetGroups {
		t.Errorf("root changes to %+v", c)
	}
}

// Not parallel: the umask belongs to the process.
func TestMkdirAllIgnoresTheUmask(t *testing.T) {
	base := newBase(t)
	old := syscall.Umask(0o077)
	err := mkdirAll(filepath.Join(base, "a/b"), 0o755)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"a", "a/b"} {
		if fi, err := os.Stat(filepath.Join(base, d)); err != nil || fi.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v %v", d, fi.Mode(), err)
		}
	}
	write(t, filepath.Join(base, "file"), "", 0o600)
	if err := mkdirAll(filepath.Join(base, "file/x"), 0o755); err == nil {
		t.Error("made a directory below a file")
	}
	if err := mkdirAll(base, 0o700); err != nil {
		t.Fatal(err)
	}
	if fi, _ := os.Stat(base); fi.Mode().Perm() != 0o755 {
		t.Errorf("changed what was there: %v", fi.Mode())
	}
}

// Two processes make a home at once: the one that comes second may see it before its mode is set.
func TestHomeInTheMaking(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	home := filepath.Join(base, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	pause := func() {
		if err := os.Chmod(home, 0o755); err != nil {
			t.Error(err)
		}
	}
	if _, err := layout(home, pause); err != nil {
		t.Error(err)
	}
}

// A home that the server's account cannot enter is refused by name, before anything is made there.
func TestClosedHome(t *testing.T) {
	t.Parallel()
	a, err := servant(user.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	base := newBase(t)
	closed := filepath.Join(base, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	err = a.canEnter(filepath.Join(closed))
	if err == nil || !strings.Contains(err.Error(), "GANTRY_HOME") {
		t.Errorf("canEnter: %v", err)
	}
	if os.Geteuid() == 0 {
		if _, err := Open(t.Context(), Options{Home: filepath.Join(closed, "home")}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open: %v", err)
		}
		if left, _ := os.ReadDir(closed); len(left) != 0 {
			t.Errorf("made %v", left)
		}
	}
}
