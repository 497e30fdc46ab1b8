package dir

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// openSource makes a source of a folder whose pauses are short.
func openSource(t *testing.T, folder string) *source {
	t.Helper()
	s, err := NewSource(t.Context(), SourceConfig{Path: folder, Settle: 20 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	quick := s.(*source)
	quick.pause = 5 * time.Millisecond
	return quick
}

// put makes a file at once, and the folders above it.
func put(folder, name string, body []byte) error {
	file := filepath.Join(folder, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temp := file + ".tmp"
	return errors.Join(os.WriteFile(temp, body, 0o600), os.Rename(temp, file))
}

func inbox(t *testing.T, change func(*source)) drivertest.Inbox {
	folder := t.TempDir()
	s := openSource(t, folder)
	change(s)
	return drivertest.Inbox{
		Source: s,
		Put:    func(name string, body []byte) error { return put(folder, name, body) },
		Remove: func(name string) error { return os.Remove(filepath.Join(folder, filepath.FromSlash(name))) },
	}
}

// With what the system tells, which comes long before the next look at everything.
func TestSourceThatIsTold(t *testing.T) {
	t.Parallel()
	drivertest.Source(t, func(t *testing.T) drivertest.Inbox {
		return inbox(t, func(s *source) { s.rescan = time.Hour })
	})
}

// Without, as on a network share.
func TestSourceThatLooks(t *testing.T) {
	t.Parallel()
	drivertest.Source(t, func(t *testing.T) drivertest.Inbox {
		return inbox(t, func(s *source) {
			s.poll = 30 * time.Millisecond
			s.listen = func() (notes, error) { return notes{}, syscall.EMFILE }
		})
	})
}

func TestSourceConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []SourceConfig{{Path: "/in"}, {Path: "in", Pattern: "*.dcm", Settle: time.Hour}, {Path: "in", Pattern: "[0-9]?.zip"}} {
		if found := c.Check(); len(found) != 0 {
			t.Errorf("%+v: %v", c, found)
		}
	}
	for key, c := range map[string]SourceConfig{
		"path":    {},
		"pattern": {Path: "in", Pattern: "[a"},
		"settle":  {Path: "in", Settle: -1},
	} {
		if found := c.Check(); len(found) != 1 || found[0].Key != key {
			t.Errorf("%+v: %v, want a problem of %s", c, found, key)
		}
		if _, err := NewSource(t.Context(), c, nil); gantry.KindOf(err) != gantry.Illegal {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []SourceConfig{{Path: "in", Pattern: "a/*.dcm"}, {Path: "in", Settle: time.Hour + 1}} {
		if found := c.Check(); len(found) != 1 {
			t.Errorf("%+v: %v", c, found)
		}
	}
	if got := (SourceConfig{Path: "/data//in/"}).Target().Key(); got != "dir:/data/in" {
		t.Errorf("target %q", got)
	}
}

// Results that lie where a source looks would be inputs again.
func TestTakesOwnResults(t *testing.T) {
	t.Parallel()
	linked := t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(linked, "real"), 0o700), os.Symlink("real", filepath.Join(linked, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from SourceConfig
		to   any
		want bool
	}{
		{SourceConfig{Path: "/x"}, &SinkConfig{Path: "/x"}, true},
		{SourceConfig{Path: "/x/", Pattern: "*"}, &SinkConfig{Path: "/x/out/../out"}, true},
		{SourceConfig{Path: "/"}, &SinkConfig{Path: "/out"}, true},
		{SourceConfig{Path: "/x"}, &SinkConfig{Path: "/x-out"}, false},
		{SourceConfig{Path: "/x/in"}, &SinkConfig{Path: "/x"}, false},
		{SourceConfig{Path: "/x"}, &SinkConfig{Path: "/x/.out/a"}, false},
		{SourceConfig{Path: "/x"}, &SinkConfig{Path: "/x/a.part/a"}, false},
		{SourceConfig{Path: "/x", Pattern: "*.zip"}, &SinkConfig{Path: "/x/out"}, true}, // rejoined.zip
		{SourceConfig{Path: "/x", Pattern: "[!_]*"}, &SinkConfig{Path: "/x/out"}, true},
		{SourceConfig{Path: "/x", Pattern: "scan-*.zip"}, &SinkConfig{Path: "/x/out"}, false},
		{SourceConfig{Path: "/x"}, SourceConfig{Path: "/x"}, false},
		{SourceConfig{Path: "/x/abcdefghijklmnopqrstuvwxyz/score"}, &SinkConfig{Path: "/x"}, true},
		{SourceConfig{Path: "/x/abcdefghijklmnopqrstuvwxy/score"}, &SinkConfig{Path: "/x"}, false},
		{SourceConfig{Path: filepath.Join(linked, "link")}, &SinkConfig{Path: filepath.Join(linked, "real", "out")}, true},
		{SourceConfig{Path: filepath.Join(linked, "real")}, &SinkConfig{Path: filepath.Join(linked, "link")}, true},
		{SourceConfig{Path: filepath.Join(linked, "other")}, &SinkConfig{Path: filepath.Join(linked, "link")}, false},
	} {
		if got := gantry.TakesResults(c.from, c.to, ""); got != c.want {
			t.Errorf("%+v takes %+v: %t", c.from, c.to, got)
		}
	}
}

func TestNewSourceWantsAFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]gantry.Code{filepath.Join(folder, "none"): CodeFolderMissing, file: CodeNotAFolder} {
		if _, err := NewSource(t.Context(), SourceConfig{Path: path}, nil); gantry.CodeOf(err) != want {
			t.Errorf("%s: %v, want %s", filepath.Base(path), err, want)
		}
	}
	s := openSource(t, folder)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	err := s.Watch(t.Context(), func(context.Context, gantry.Object) error { return nil })
	if gantry.KindOf(err) != gantry.NotFound || gantry.CodeOf(err) != CodeFolderMissing {
		t.Errorf("Watch of a folder that went away: %v", err)
	}
	if _, err := s.Open(t.Context(), "a.dcm"); gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != CodeFolderMissing {
		t.Errorf("Open in a folder that went away: %v", err)
	}
}

func TestOpenStaysBelowTheFolder(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	folder := filepath.Join(above, "in")
	const name = "DOE^JANE"
	err := errors.Join(
		put(above, "secret", []byte("secret")), put(folder, "sub/"+name, []byte("x")),
		os.Symlink("../secret", filepath.Join(folder, "out")),
		os.Symlink(filepath.Join(above, "secret"), filepath.Join(folder, "absolute")),
		os.Symlink("sub/"+name, filepath.Join(folder, "within")),
		os.Symlink("..", filepath.Join(folder, "up")),
		syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	s := openSource(t, folder)
	for ref, want := range map[string]gantry.Kind{
		"../secret": gantry.Illegal, "": gantry.Illegal, "/etc/hostname": gantry.Illegal, "sub/../../secret": gantry.Illegal,
		"out": gantry.NotFound, "absolute": gantry.NotFound, "within": gantry.NotFound, "pipe": gantry.NotFound, "sub": gantry.NotFound,
		"none": gantry.NotFound, "sub/" + name + "/x": gantry.NotFound, ".": gantry.NotFound,
	} {
		r, err := s.Open(t.Context(), ref)
		if r != nil || gantry.KindOf(err) != want || want == gantry.NotFound && gantry.CodeOf(err) != gantry.CodeSourceGone {
			t.Errorf("%q: %v, %v (%s), want %s", ref, r, err, gantry.CodeOf(err), want)
		}
		if err != nil && strings.Contains(err.Error(), name) {
			t.Errorf("%q: the error names the file: %v", ref, err)
		}
	}
	if r, err := s.Open(t.Context(), "up/secret"); r != nil || err == nil {
		t.Errorf("a folder that leads out: %v, %v", r, err)
	}
	r, err := s.Open(t.Context(), "sub/"+name)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "x" {
		t.Errorf("read %q, %v", b, err)
	}
	r.Close()
	if _, err := r.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), name) {
		t.Errorf("the error of reading names the file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Open(ctx, "sub/"+name); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Open gave %v", err)
	}
}
