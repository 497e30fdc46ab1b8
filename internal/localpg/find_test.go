package localpg

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake is a directory of programs that only know their version.
func fake(t *testing.T, dir, version string) string {
	t.Helper()
	write(t, filepath.Join(dir, "postgres"), "#!/bin/sh\necho '"+version+"'\n", 0o755)
	write(t, filepath.Join(dir, "initdb"), "#!/bin/sh\nexit 1\n", 0o755)
	return dir
}

func env(kv ...string) func(string) string {
	return func(k string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == k {
				return kv[i+1]
			}
		}
		return ""
	}
}

// The machine that runs the tests must have Postgres: without it this fails, it does not skip.
func TestFindBinariesOnThisMachine(t *testing.T) {
	b, err := FindBinaries(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	if b.Major < minMajor || !hasBinaries(b.Dir) {
		t.Errorf("found %+v", b)
	}
}

// None of the tests that write programs is parallel: a program that another fork still has open
// for writing cannot be run.
func TestFindOrder(t *testing.T) {
	base := t.TempDir()
	at := func(s string) string { return filepath.Join(base, s) }
	for dir, v := range map[string]string{"pg/9/bin": "9.6.24", "pg/14/bin": "14.2", "pg/15/bin": "15.18 (Debian 15.18-0+deb12u1)", "pg/100/bin": "100beta1",
		"path/real": "17.1", "own": "16.3", "cache/18.4.0-beta.17-x64/bin": "18.4"} {
		fake(t, at(dir), "postgres (PostgreSQL) "+v)
	}
	if err := os.MkdirAll(at("usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(at("path/real/postgres"), at("usr/bin/postgres")); err != nil {
		t.Fatal(err)
	}
	write(t, at("half/postgres"), "#!/bin/sh\nexit 1\n", 0o755) // no initdb beside it
	globs := []string{at("none*/bin"), at("pg/*/bin"), at("cache/*/bin")}
	path := "relative:" + at("half") + ":" + at("usr/bin")
	for _, c := range []struct {
		name   string
		env    func(string) string
		binDir string
		major  int
		want   Binaries
	}{
		{"highest", env(), "", 0, Binaries{at("pg/100/bin"), 100}},
		{"PATH first", env("PATH", path), "", 0, Binaries{at("path/real"), 17}},
		{"the data's own", env("PATH", path), "", 15, Binaries{at("pg/15/bin"), 15}},
		{"the data's own, old", env("PATH", path), "", 14, Binaries{at("pg/14/bin"), 14}},
		{"from the cache", env("PATH", path), "", 18, Binaries{at("cache/18.4.0-beta.17-x64/bin"), 18}},
		{"by variable", env("PATH", path, "GANTRY_POSTGRES_BIN", at("own")), "", 0, Binaries{at("own"), 16}},
		{"by option", env("GANTRY_POSTGRES_BIN", at("own")), at("pg/15/bin"), 0, Binaries{at("pg/15/bin"), 15}},
	} {
		got, err := finder{getenv: c.env, globs: globs}.find(c.binDir, "/data", c.major)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v %v, want %+v", c.name, got, err, c.want)
		}
	}
}

func TestFindErrors(t *testing.T) {
	base := t.TempDir()
	old := fake(t, filepath.Join(base, "14/bin"), "postgres (PostgreSQL) 14.2")
	odd := fake(t, filepath.Join(base, "odd/bin"), "mysqld 8")
	glob := []string{filepath.Join(base, "*/bin")}
	none := finder{getenv: env(), globs: []string{filepath.Join(base, "none/*")}}
	for _, major := range []int{0, 15} {
		_, err := none.find("", "/data", major)
		if !errors.Is(err, ErrNoBinaries) {
			t.Errorf("major %d: %v", major, err)
		}
	}
	_, err := finder{getenv: env(), globs: glob}.find("", "/data", 0)
	if !errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), "too old: 14 ("+old+")") {
		t.Errorf("only old ones: %v", err)
	}
	_, err = finder{getenv: env(), globs: glob}.find("", "/data", 15)
	if err == nil || errors.Is(err, ErrNoBinaries) || !strings.Contains(err.Error(), "/data was made by Postgres 15") || !strings.Contains(err.Error(), "14 ("+old+")") {
		t.Errorf("other version: %v", err)
	}
	for name, f := range map[string]struct {
		f      finder
		binDir string
	}{
		"option without programs":   {none, base},
		"option with odd programs":  {none, odd},
		"variable without programs": {finder{getenv: env("GANTRY_POSTGRES_BIN", base)}, ""},
		"variable, odd programs":    {finder{getenv: env("GANTRY_POSTGRES_BIN", odd)}, ""},
		"relative":                  {none, "bin"},
	} {
		if b, err := f.f.find(f.binDir, "/data", 0); err == nil || errors.Is(err, ErrNoBinaries) {
			t.Errorf("%s: %+v %v", name, b, err)
		}
	}
}

// The one message names the three ways out.
func TestNoBinariesMessage(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"apt-get install postgresql", "brew install postgresql@18", "gantry postgres fetch", "--database-url", "GANTRY_DATABASE_URL"} {
		if !strings.Contains(ErrNoBinaries.Error(), way) {
			t.Errorf("message misses %q", way)
		}
	}
}

// Open reports it too, and makes no data directory.
func TestOpenWithoutBinaries(t *testing.T) {
	home := newHome(t)
	empty := t.TempDir()
	_, err := Open(t.Context(), Options{Home: home, BinDir: empty})
	if err == nil || !strings.Contains(err.Error(), empty) {
		t.Errorf("Open: %v", err)
	}
	if left, _ := filepath.Glob(dataOf(home) + "*"); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestGlobVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		glob, path string
		want       int
	}{
		{"/usr/lib/postgresql/*/bin", "/usr/lib/postgresql/15/bin", 15},
		{"/usr/pgsql-*/bin", "/usr/pgsql-16/bin", 16},
		{"/opt/postgresql@*/bin", "/opt/postgresql@18/bin", 18},
		{"/home/u2/c/*-linux-amd64/bin", "/home/u2/c/18.4.0-beta.17-linux-amd64/bin", 18},
		{"/V/*/bin", "/V/latest/bin", 0},
		{"/fixed", "/fixed", 0},
	} {
		if got := globVersion(c.glob, c.path); got != c.want {
			t.Errorf("%s: %d, want %d", c.path, got, c.want)
		}
	}
}
