package localpg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Binaries is a directory with postgres and initdb of one major version.
type Binaries struct {
	Dir   string
	Major int
}

// ErrNoBinaries says that this machine has no Postgres to start, and the three ways out.
var ErrNoBinaries = errors.New("no Postgres binaries (version 15 or later) found: install them (`apt-get install postgresql`, `brew install postgresql@18`), " +
	"or run `gantry postgres fetch`, or name a database with --database-url or GANTRY_DATABASE_URL")

// minMajor is the oldest version that the store's SQL works on.
const minMajor = 15

// FindBinaries looks for Postgres on this machine: $GANTRY_POSTGRES_BIN, PATH, the places where
// packages install it, then what Fetch stored. Binaries of the major version that made dataDir are
// taken; a dataDir that does not exist yet takes the first. When there are only others the error
// names them; when there are none it is ErrNoBinaries.
func FindBinaries(dataDir string) (Binaries, error) {
	major, err := dataMajor(dataDir)
	if err != nil {
		return Binaries{}, err
	}
	return systemFinder().find("", dataDir, major)
}

// finder is where to look: globs in order of preference, of each the highest version first.
type finder struct {
	getenv func(string) string
	globs  []string
}

func systemFinder() finder {
	f := finder{getenv: os.Getenv, globs: []string{
		"/usr/lib/postgresql/*/bin", // Debian, Ubuntu
		"/usr/pgsql-*/bin",          // RPMs of the project
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
		"/usr/libexec/postgresql*", // Alpine
	}}
	for _, c := range []string{defaultCache(os.Getenv, os.Geteuid()), rootCache} {
		f.globs = append(f.globs, filepath.Join(c, "*-"+runtime.GOOS+"-"+runtime.GOARCH, "bin"))
	}
	return f
}

// find takes the first binaries of this major version, or for major 0 the first that serve.
func (f finder) find(binDir, dataDir string, major int) (Binaries, error) {
	dirs, err := f.dirs(binDir)
	if err != nil {
		return Binaries{}, err
	}
	var others []string
	for _, dir := range dirs {
		m, err := binMajor(dir)
		if err != nil {
			if dir == binDir || dir == f.getenv("GANTRY_POSTGRES_BIN") {
				return Binaries{}, err
			}
			continue
		}
		if m == major || major == 0 && m >= minMajor {
			return Binaries{Dir: dir, Major: m}, nil
		}
		others = append(others, fmt.Sprintf("%d (%s)", m, dir))
	}
	switch {
	case len(others) == 0:
		return Binaries{}, ErrNoBinaries
	case major == 0:
		return Binaries{}, fmt.Errorf("%w; too old: %s", ErrNoBinaries, strings.Join(others, ", "))
	}
	return Binaries{}, fmt.Errorf("data directory %s was made by Postgres %d, but only other versions are here: %s; it is left untouched: install Postgres %d, or name another home or database",
		dataDir, major, strings.Join(others, ", "), major)
}

// dirs lists the candidates, best first, each once.
func (f finder) dirs(binDir string) ([]string, error) {
	for _, d := range []string{binDir, f.getenv("GANTRY_POSTGRES_BIN")} {
		if d == "" {
			continue
		}
		if !filepath.IsAbs(d) || !hasBinaries(d) {
			return nil, fmt.Errorf("%s is not the absolute path of a directory with postgres and initdb", d)
		}
		return []string{d}, nil
	}
	var all []string
	for _, d := range filepath.SplitList(f.getenv("PATH")) {
		if real, err := filepath.EvalSymlinks(filepath.Join(d, "postgres")); err == nil && filepath.IsAbs(real) {
			all = append(all, filepath.Dir(real))
		}
	}
	for _, g := range f.globs {
		found, err := filepath.Glob(g)
		if err != nil {
			return nil, err
		}
		slices.SortStableFunc(found, func(a, b string) int { return cmp.Compare(globVersion(g, b), globVersion(g, a)) })
		all = append(all, found...)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(d string) bool {
		was := seen[d]
		seen[d] = true
		return was || !hasBinaries(d)
	}), nil
}

// globVersion is the first number of the path element that the glob left open:
// /usr/lib/postgresql/15/bin is 15 under /usr/lib/postgresql/*/bin.
func globVersion(glob, path string) int {
	wild, elems := strings.Split(glob, "/"), strings.Split(path, "/")
	i := slices.IndexFunc(wild, func(s string) bool { return strings.Contains(s, "*") })
	if i < 0 || i >= len(elems) {
		return 0
	}
	n, _ := strconv.Atoi(regexp.MustCompile(`\d+`).FindString(elems[i]))
	return n
}

func hasBinaries(dir string) bool {
	for _, name := range []string{"postgres", "initdb"} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

// binMajor asks the program: "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "… 19beta1".
func binMajor(dir string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", filepath.Join(dir, "postgres"), err)
	}
	m := regexp.MustCompile(`^postgres \(PostgreSQL\) (\d{1,3})\D`).FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("ask %s for its version: not the answer of a Postgres", filepath.Join(dir, "postgres"))
	}
	return strconv.Atoi(string(m[1]))
}
