package blob

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestMain is also the entry of the children that some tests start: see runChild.
func TestMain(m *testing.M) {
	if what := os.Getenv(childVar); what != "" {
		os.Exit(runChild(what, os.Getenv(childDirVar)))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/gantry-imaging/gantry/internal/localpg.reap")) // Postgres stays for others
}

var testKey = bytes.Repeat([]byte("k"), 32)

// testOptions are those of a small store; changes come after.
func testOptions(dir string) Options {
	return Options{Dir: dir, Worker: 7, Key: testKey, SegmentSize: 1 << 20, Database: "one"}
}

func openTest(t testing.TB, o Options, change ...func(*env)) *Dir {
	t.Helper()
	e := systemEnv()
	for _, c := range change {
		c(&e)
	}
	d, err := open(t.Context(), o, e)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// body makes n bytes that no other seed makes.
func body(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24), 1}).Read(b)
	return b
}

func stage(t testing.TB, d *Dir, b []byte, size int64) gantry.Staged {
	t.Helper()
	s, err := d.Stage(t.Context(), bytes.NewReader(b), size, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func commit(t testing.TB, d *Dir, b []byte) string {
	t.Helper()
	where, err := stage(t, d, b, int64(len(b))).Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return where
}

func readBack(t testing.TB, d *Dir, where string) []byte {
	t.Helper()
	b, err := d.Open(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := io.ReadAll(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// wantErr checks an error's kind and code.
func wantErr(t testing.TB, err error, kind gantry.Kind, code gantry.Code) {
	t.Helper()
	if err == nil || gantry.KindOf(err) != kind || gantry.CodeOf(err) != code {
		t.Fatalf("got error %v (%v, %s), want %v, %s", err, gantry.KindOf(err), gantry.CodeOf(err), kind, code)
	}
}

// temps lists the temporary files of a store.
func temps(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), tempPrefix) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
