package localpg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParsePidfile(t *testing.T) {
	t.Parallel()
	full := "4711\n/srv/data\n1700000000\n5432\n/tmp/g\n\n  1234  5\nready   \n"
	for _, c := range []struct {
		name, in string
		want     postmaster
		ok       bool
	}{
		{"ready", full, postmaster{4711, "5432", "/tmp/g", true}, true},
		{"starting", strings.Replace(full, "ready   ", "starting", 1), postmaster{4711, "5432", "/tmp/g", false}, true},
		{"no socket yet", "4711\n/srv/data\n1700000000\n5432\n\n", postmaster{4711, "5432", "", false}, true},
		{"half a line", "4711\n/srv/data\n1700000000\n5432\n/tm", postmaster{4711, "5432", "", false}, true},
		{"half a number", "47", postmaster{}, false},
		{"empty", "", postmaster{}, false},
		{"zeros", "\x00\x00\x00", postmaster{}, false},
		{"init", "1\n/x\n", postmaster{}, false},              // never signal process 1,
		{"group", "-4711\n/x\n", postmaster{}, false},         // nor a group,
		{"everyone", "-1\n/x\n", postmaster{}, false},         // nor everyone,
		{"own group", "0\n/x\n", postmaster{}, false},         // nor ourselves
		{"overflow", "4294967297\n/x\n", postmaster{}, false}, // nor what a number wraps to
	} {
		got, ok := parsePidfile(c.in)
		if ok != c.ok || got != c.want && c.ok {
			t.Errorf("%s: %+v %v, want %+v %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestReadPidfileLimit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "postmaster.pid")
	write(t, path, strings.Repeat("9", 1<<20), 0o600)
	if _, is, err := readPidfile(path, "/"); err != nil || is != torn {
		t.Errorf("a megabyte of digits: %v %v", is, err)
	}
	if _, is, err := readPidfile(path+".none", "/"); err != nil || is != absent {
		t.Errorf("no file: %v %v", is, err)
	}
}

func TestCommandServes(t *testing.T) {
	t.Parallel()
	data, other := t.TempDir(), t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want bool
		argv []string
	}{
		{true, []string{"/usr/lib/postgresql/15/bin/postgres", "-D", data, "-h", ""}},
		{true, []string{"postmaster", "-D" + data}},
		{true, []string{"postgres", "-D", link}},
		{false, []string{"postgres", "-D", other}},
		{false, []string{"postgres: checkpointer "}},
		{false, []string{"sleep", "60"}},
		{false, []string{"vim", "-D", data}},
		{false, nil},
		// In doubt it may be ours: the environment or another directory decides.
		{true, []string{"postgres"}},
		{true, []string{"postgres", "-D", "relative"}},
		{true, []string{"postgres", "-D", "/gone/" + data}},
	} {
		if got := commandServes(c.argv, data); got != c.want {
			t.Errorf("%q: %v", c.argv, got)
		}
	}
}

// A file that is only being written is not removed: the grace sees it become whole.
func TestClearStaleWaitsForTheWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "postmaster.pid")
	write(t, path, "", 0o600)
	asked := 0
	pause := func(time.Duration) error {
		asked++
		return os.WriteFile(path, []byte("4194301\n/x\n"), 0o600)
	}
	if err := clearStale(path, "/", pause); err != nil || asked != 1 {
		t.Fatalf("clearStale: %v, %d pauses", err, asked)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("removed a file that names a process")
	}
}

func FuzzParsePidfile(f *testing.F) {
	f.Add("4711\n/srv/data\n1700000000\n5432\n/tmp/g\n\n  1234  5\nready   \n")
	f.Add("-1\n")
	f.Fuzz(func(t *testing.T, s string) {
		if pm, ok := parsePidfile(s); ok && pm.pid <= 1 {
			t.Errorf("process id %d could be signalled", pm.pid)
		}
	})
}
