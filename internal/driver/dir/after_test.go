package dir

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// tidying is a source with one file that was announced.
func tidying(t *testing.T, name string, set func(*SourceConfig, string)) (s *source, folder, mark string) {
	t.Helper()
	folder = t.TempDir()
	c := SourceConfig{Path: filepath.Join(folder, "in"), Settle: time.Millisecond}
	if err := os.MkdirAll(filepath.Join(c.Path, filepath.Dir(name)), 0o700); err != nil {
		t.Fatal(err)
	}
	set(&c, folder)
	open, err := NewSource(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	s = open.(*source)
	return s, folder, s.dropped(t, name, "bytes")
}

// dropped writes a file and gives the mark of what is announced.
func (s *source) dropped(t *testing.T, name, body string) (mark string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.path, name), []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := s.Watch(ctx, func(_ context.Context, o gantry.Object) error {
		mark = s.Mark(o)
		cancel()
		return nil
	})
	if err != nil || mark == "" {
		t.Fatal(err)
	}
	return mark
}

func wantFiles(t *testing.T, folder string, want map[string]string) {
	t.Helper()
	got, err := files(folder, false)
	hidden, herr := files(folder, true)
	for name, body := range hidden {
		got[name] = body
	}
	plain := map[string]string{}
	for name, body := range got {
		plain[name] = string(body)
	}
	if diff := cmp.Diff(want, plain); diff != "" || err != nil || herr != nil {
		t.Errorf("%v %v\n%s", err, herr, diff)
	}
}

// TestTidy moves and deletes, twice each: the second time there is nothing left to do.
func TestTidy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  func(*SourceConfig, string)
		want map[string]string
	}{
		"move":        {func(c *SourceConfig, f string) { c.After, c.MoveTo = "move", filepath.Join(f, "done", "deep") }, map[string]string{"done/deep/sub/a.dcm": "bytes"}},
		"move hidden": {func(c *SourceConfig, f string) { c.After, c.MoveTo = "move", filepath.Join(f, "in", ".done") }, map[string]string{"in/.done/sub/a.dcm": "bytes"}},
		"delete":      {func(c *SourceConfig, _ string) { c.After = "delete" }, map[string]string{}},
	} {
		s, folder, mark := tidying(t, "sub/a.dcm", c.set)
		if op, ok := s.After(gantry.Done); !ok || !strings.HasPrefix(name, op.String()) {
			t.Errorf("%s: %v", name, op)
		}
		if _, ok := s.After(gantry.Failed); ok {
			t.Errorf("%s: what failed does not stay", name)
		}
		for i := range 2 {
			if err := s.Tidy(t.Context(), mark, gantry.Done, nil); i == 0 && err != nil || i == 1 && gantry.CodeOf(err) != gantry.CodeSourceGone {
				t.Errorf("%s, %d: %v", name, i, err)
			}
		}
		wantFiles(t, folder, c.want)
	}
}

// What changed or took the file's place is left alone.
func TestTidyLeavesNewer(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(string) error{
		"written to": func(file string) error { return os.WriteFile(file, []byte("other"), 0o600) },
		"replaced": func(file string) error {
			if err := os.WriteFile(file+".new", []byte("bytes"), 0o600); err != nil {
				return err
			}
			return os.Rename(file+".new", file)
		},
		"a link": func(file string) error {
			if err := os.Rename(file, file+".was"); err != nil {
				return err
			}
			return os.Symlink(file+".was", file)
		},
	} {
		s, folder, mark := tidying(t, "a.dcm", func(c *SourceConfig, _ string) { c.After = "delete" })
		time.Sleep(2 * time.Millisecond)
		if err := change(filepath.Join(folder, "in/a.dcm")); err != nil {
			t.Fatal(err)
		}
		if err := s.Tidy(t.Context(), mark, gantry.Done, nil); gantry.CodeOf(err) != gantry.CodeSourceGone {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(folder, "in/a.dcm")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A name that is taken is not replaced, and a move that a crash cut in half goes on.
func TestMoveBeside(t *testing.T) {
	t.Parallel()
	s, folder, mark := tidying(t, "a.dcm", func(c *SourceConfig, f string) { c.AfterFailed, c.FailedTo = "move", filepath.Join(f, "bad") })
	if err := os.Mkdir(filepath.Join(folder, "bad"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(folder, "in/a.dcm"), filepath.Join(folder, "bad/a.dcm")); err != nil { // half of it
		t.Fatal(err)
	}
	if err := s.Tidy(t.Context(), mark, gantry.Failed, nil); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, folder, map[string]string{"bad/a.dcm": "bytes"})
	mark = s.dropped(t, "a.dcm", "other")
	if err := s.Tidy(t.Context(), mark, gantry.Failed, nil); err != nil {
		t.Fatal(err)
	}
	got, err := files(filepath.Join(folder, "bad"), false)
	if err != nil || len(got) != 2 || string(got["a.dcm"]) != "bytes" {
		t.Errorf("%q %v", got, err)
	}
	for name, body := range got {
		if name != "a.dcm" && (string(body) != "other" || !strings.HasPrefix(name, "a~") || !strings.HasSuffix(name, ".dcm")) {
			t.Errorf("%s: %q", name, body)
		}
	}
}

// Another file system is not reached by a second name.
func TestMoveToOtherDisk(t *testing.T) {
	t.Parallel()
	other, err := os.MkdirTemp("/dev/shm", "gantry-test-")
	if err != nil {
		t.Fatal("there is no other file system to write to: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	s, folder, mark := tidying(t, "a.dcm", func(c *SourceConfig, _ string) { c.After, c.MoveTo = "move", other })
	if err := s.Tidy(t.Context(), mark, gantry.Done, nil); gantry.KindOf(err) != gantry.Permanent || gantry.CodeOf(err) != CodeOtherDisk {
		t.Errorf("%v", err)
	}
	wantFiles(t, folder, map[string]string{"in/a.dcm": "bytes"})
}

func TestAfterConfig(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  func(*SourceConfig)
		key  string
		text string
	}{
		"another word":       {func(c *SourceConfig) { c.After = "tag" }, "after", "neither"},
		"delete what failed": {func(c *SourceConfig) { c.AfterFailed = "delete" }, "after_failed", "never deleted"},
		"move to nowhere":    {func(c *SourceConfig) { c.After = "move" }, "after", "wants move_to"},
		"to without move":    {func(c *SourceConfig) { c.MoveTo = "/y" }, "move_to", "goes with"},
		"to where it is":     {func(c *SourceConfig) { c.After, c.MoveTo = "move", "/x/in" }, "move_to", "taken again"},
		"below it":           {func(c *SourceConfig) { c.After, c.MoveTo = "move", "/x/in/done" }, "move_to", "taken again"},
		"above it":           {func(c *SourceConfig) { c.AfterFailed, c.FailedTo = "move", "/x" }, "failed_to", "taken again"},
		"below it, hidden":   {func(c *SourceConfig) { c.After, c.MoveTo = "move", "/x/in/.done/y" }, "", ""},
		"beside it":          {func(c *SourceConfig) { c.After, c.MoveTo = "move", "/x/done" }, "", ""},
	} {
		conf := SourceConfig{Path: "/x/in"}
		c.set(&conf)
		found := conf.Check()
		if c.key == "" && len(found) == 0 {
			continue
		}
		if len(found) != 1 || found[0].Key != c.key || !strings.Contains(found[0].Text, c.text) {
			t.Errorf("%s: %v", name, found)
		}
	}
	for to, want := range map[string]bool{"/y": true, "/y/z": true, "/": true, "/y/.z": false, "/z": false} {
		if got := gantry.TakesMoved(SourceConfig{Path: "/y"}, SourceConfig{Path: "/x", MoveTo: to}, below(to)); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
}
