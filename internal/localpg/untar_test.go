package localpg

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// arena is a directory to unpack into, with something beside it that must stay as it is.
func arena(t testing.TB) (dir string, check func()) {
	t.Helper()
	base := t.TempDir()
	dir = filepath.Join(base, "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	beside := filepath.Join(base, "beside")
	if err := os.WriteFile(beside, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, func() {
		t.Helper()
		all, err := os.ReadDir(base)
		if err != nil || len(all) != 2 {
			t.Errorf("written outside: %v %v", all, err)
		}
		if b, _ := os.ReadFile(beside); string(b) != "precious" {
			t.Errorf("overwritten outside: %q", b)
		}
	}
}

func TestUntarHostile(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("d/", 300)
	many := make([]entry, maxEntries+1)
	for i := range many {
		many[i] = entry{name: "package/x"}
	}
	list := func(s string) []entry {
		return []entry{{name: "package/native/lib/a.so.1", body: "a"}, {name: links, body: s}}
	}
	for name, entries := range map[string][]entry{
		"up":                  {{name: "package/native/../../../beside", body: "x"}},
		"up at once":          {{name: "../beside", body: "x"}},
		"absolute":            {{name: "/package/native/x", body: "x"}},
		"absolute after ours": {{name: "package/native//etc/x", body: "x"}},
		"dots inside":         {{name: "package/native/bin/./x", body: "x"}},
		"backslash":           {{name: `package/native/..\..\beside`, body: "x"}},
		"long":                {{name: native + long + "x", body: "x"}},
		"symbolic link out":   {{name: "package/native/out", kind: tar.TypeSymlink, link: "../.."}, {name: "package/native/out/beside", body: "x"}},
		"symbolic link":       {{name: "package/native/in", kind: tar.TypeSymlink, link: "bin"}},
		"hard link":           {{name: "package/native/h", kind: tar.TypeLink, link: "../beside"}},
		"link not kept":       {{name: "package/out", kind: tar.TypeSymlink, link: "/"}},
		"device":              {{name: "package/native/null", kind: tar.TypeChar}},
		"pipe":                {{name: "package/native/pipe", kind: tar.TypeFifo}},
		"twice":               {{name: "package/native/a", body: "1"}, {name: "package/native/a", body: "2"}},
		"file as directory":   {{name: "package/native/a", body: "1"}, {name: "package/native/a/b", body: "2"}},
		"too many":            many,
		"listed target out":   list(`[{"source":"native/lib/a.so.1","target":"native/../../beside2"}]`),
		"listed target root":  list(`[{"source":"native/lib/a.so.1","target":"/etc/x"}]`),
		"listed source out":   list(`[{"source":"native/../../beside","target":"native/lib/b"}]`),
		"listed source root":  list(`[{"source":"/etc/passwd","target":"native/lib/b"}]`),
		"listed source none":  list(`[{"source":"native/lib/none","target":"native/lib/b"}]`),
		"listed directory":    list(`[{"source":"native/lib","target":"native/lib/b"}]`),
		"listed link":         list(`[{"source":"native/lib/a.so.1","target":"native/lib/b"},{"source":"native/lib/b","target":"native/lib/c"}]`),
		"listed over a file":  list(`[{"source":"native/lib/a.so.1","target":"native/lib/a.so.1"}]`),
		"list too long":       list("[" + strings.Repeat(" ", maxLinkList) + "]"),
		"list of too many":    list("[" + strings.Repeat("{},", maxLinks) + "{}]"),
		"list is no JSON":     list("{"),
	} {
		dir, check := arena(t)
		if err := untar(bytes.NewReader(pack(t, entries...)), dir); err == nil {
			t.Errorf("%s: unpacked", name)
		}
		check()
	}
}

// Archives that end early, or are none.
func TestUntarDamaged(t *testing.T) {
	t.Parallel()
	whole := pack(t, binaries("18.4")...)
	for _, n := range []int{0, 1, 9, len(whole) / 2, len(whole) - 9} {
		dir, check := arena(t)
		if err := untar(bytes.NewReader(whole[:n]), dir); err == nil {
			t.Errorf("%d of %d bytes: unpacked", n, len(whole))
		}
		check()
	}
}

// A declared size is refused before a byte of it is read.
func TestUntarDeclaredSize(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if err := tar.NewWriter(zw).WriteHeader(&tar.Header{Name: "package/native/big", Typeflag: tar.TypeReg, Size: maxUnpacked + 1, Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	zw.Close()
	dir, _ := arena(t)
	if err := untar(&b, dir); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxUnpacked)) {
		t.Errorf("untar: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestCapped(t *testing.T) {
	t.Parallel()
	n, err := io.Copy(io.Discard, &capped{r: zeros{}, left: 100_000})
	if n != 100_000 || err == nil || !strings.Contains(err.Error(), "too much") {
		t.Errorf("read %d, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func FuzzUntar(f *testing.F) {
	f.Add(pack(f, binaries("18.4")...))
	f.Add(pack(f, entry{name: "package/native/out", kind: tar.TypeSymlink, link: "../.."}, entry{name: "package/native/out/beside", body: "x"}))
	f.Add(pack(f, entry{name: "package/native/../../beside", body: "x"}))
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, b []byte) {
		// What is fuzzed is the tar: a checksum would stop nearly all changes to the gzip.
		if zr, err := gzip.NewReader(bytes.NewReader(b)); err == nil {
			if plain, err := io.ReadAll(io.LimitReader(zr, 1<<20)); err == nil {
				b = plain
			}
		}
		var z bytes.Buffer
		zw := gzip.NewWriter(&z)
		zw.Write(b)
		zw.Close()
		dir, check := arena(t)
		untar(&z, dir)
		check()
	})
}
