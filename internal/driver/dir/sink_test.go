package dir

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/drivertest"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// crashVariable names the folder that a child process delivers into until it is killed.
const crashVariable = "GANTRY_DIR_TEST_CRASH"

func TestMain(m *testing.M) {
	if folder := os.Getenv(crashVariable); folder != "" {
		deliverForEver(folder)
	}
	os.Exit(m.Run())
}

func openSink(t *testing.T, folder string) gantry.Sink {
	t.Helper()
	s, err := NewSink(t.Context(), SinkConfig{Path: folder}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// files lists a folder's files with their bytes: the hidden ones or the others.
func files(folder string, hidden bool) (map[string][]byte, error) {
	all := map[string][]byte{}
	err := filepath.WalkDir(folder, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".") != hidden {
			return err
		}
		rel, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		all[filepath.ToSlash(rel)], err = os.ReadFile(file)
		return err
	})
	return all, err
}

// wantNoDrafts fails a test that leaves drafts behind.
func wantNoDrafts(t *testing.T, folder string) {
	t.Helper()
	left, err := files(folder, true)
	if err != nil || len(left) != 0 {
		t.Errorf("%d drafts are left, %v", len(left), err)
	}
}

func TestSink(t *testing.T) {
	t.Parallel()
	drivertest.Sink(t, func(t *testing.T) drivertest.Shelf {
		folder := t.TempDir()
		t.Cleanup(func() { wantNoDrafts(t, folder) })
		return drivertest.Shelf{
			Sink: openSink(t, folder),
			List: func() (map[string][]byte, error) { return files(folder, false) },
		}
	})
}

func parcel(path, body string) gantry.Delivery {
	return gantry.Delivery{
		Path: path, Size: int64(len(body)), SHA: sha256.Sum256([]byte(body)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil },
	}
}

// want compares what lies in a folder for all to see.
func want(t *testing.T, folder string, want map[string]string) {
	t.Helper()
	got, err := files(folder, false)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for name, b := range got {
		texts[name] = string(b)
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("the folder holds (-want +got):\n%s", diff)
	}
}

func TestNewSinkMakesItsFolder(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	folder := filepath.Join(above, "a", "b", "c")
	for range 2 {
		openSink(t, folder)
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		t.Fatal(err)
	}
	file := filepath.Join(above, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewSink(t.Context(), SinkConfig{Path: file}, nil); gantry.CodeOf(err) != CodeNotAFolder {
		t.Errorf("a file for a folder: %v", err)
	}
	if _, err := NewSink(t.Context(), SinkConfig{Path: filepath.Join(file, "below")}, nil); err == nil {
		t.Error("a folder below a file was made")
	}
	if _, err := NewSink(t.Context(), SinkConfig{}, nil); gantry.KindOf(err) != gantry.Illegal {
		t.Errorf("no path: %v", err)
	}
	if got := (SinkConfig{Path: "/out/"}).Target().Key(); got != "dir:/out" {
		t.Errorf("target %q", got)
	}
}

func TestDeliverIntoAFolderThatWentAway(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "out")
	s := openSink(t, folder)
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	if err := s.Deliver(t.Context(), parcel("a", "x")); gantry.KindOf(err) != gantry.Unavailable || gantry.CodeOf(err) != CodeFolderMissing {
		t.Errorf("%v", err)
	}
}

// Size and digest are compared where they are known.
func TestDeliverWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := openSink(t, folder)
	out := parcel("a", "x")
	out.Size, out.SHA = -1, gantry.Digest{}
	for range 2 {
		if err := s.Deliver(t.Context(), out); err != nil {
			t.Fatal(err)
		}
	}
	other := parcel("a", "y")
	other.Size, other.SHA = -1, gantry.Digest{}
	if err := s.Deliver(t.Context(), other); gantry.CodeOf(err) != gantry.CodeConflict {
		t.Errorf("other bytes: %v", err)
	}
	for _, size := range []int64{0, 2} {
		short := parcel("b", "x")
		short.Size, short.SHA = size, gantry.Digest{}
		if err := s.Deliver(t.Context(), short); gantry.CodeOf(err) != CodeSizeMismatch {
			t.Errorf("one byte instead of %d: %v", size, err)
		}
	}
	want(t, folder, map[string]string{"a": "x"})
	wantNoDrafts(t, folder)
}

// The errors of what is read are no errors of the folder, whatever they look like.
func TestDeliverTellsReadingFromWriting(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	out := parcel("a", "x")
	out.Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("x"), brokenReader{syscall.ENOSPC})), nil
	}
	if err := openSink(t, folder).Deliver(t.Context(), out); err != syscall.ENOSPC {
		t.Errorf("%v (%s)", err, gantry.CodeOf(err))
	}
	wantNoDrafts(t, folder)
}

type brokenReader struct{ err error }

func (b brokenReader) Read([]byte) (int, error) { return 0, b.err }

// What never ends is given up with its context.
func TestDeliverEndsWithItsContext(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := parcel("a", "")
	out.Size, out.SHA = -1, gantry.Digest{}
	out.Open = func(context.Context) (io.ReadCloser, error) { return &endless{cancel: cancel}, nil }
	if err := openSink(t, folder).Deliver(ctx, out); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	wantNoDrafts(t, folder)
}

// endless cancels something at its first read, and fails after a thousand.
type endless struct {
	cancel func()
	reads  int
}

func (e *endless) Read(p []byte) (int, error) {
	e.cancel()
	if e.reads++; e.reads > 1000 {
		return 0, errors.New("still being read")
	}
	return copy(p, "more"), nil
}

func (e *endless) Close() error { return nil }

func TestDeliverDoesNotFollowOrReplaceOtherThings(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	folder := filepath.Join(above, "out")
	s := openSink(t, folder)
	err := errors.Join(
		os.WriteFile(filepath.Join(above, "precious"), []byte("precious"), 0o600),
		os.WriteFile(filepath.Join(folder, "there"), []byte("there"), 0o600),
		os.Symlink("there", filepath.Join(folder, "within")), // as long as what it leads to
		os.Symlink("../precious", filepath.Join(folder, "link")),
		os.Symlink("nowhere", filepath.Join(folder, "dangling")),
		os.Symlink("..", filepath.Join(folder, "up")),
		os.Mkdir(filepath.Join(folder, "folder"), 0o700),
		syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"within", "link", "dangling", "folder", "pipe"} {
		if err := s.Deliver(t.Context(), parcel(path, "there")); gantry.KindOf(err) != gantry.Permanent || gantry.CodeOf(err) != gantry.CodeConflict {
			t.Errorf("%s: %v (%s)", path, err, gantry.CodeOf(err))
		}
	}
	if err := s.Deliver(t.Context(), parcel("up/new", "x")); err == nil {
		t.Error("delivered through a link that leads out")
	}
	if _, err := os.Stat(filepath.Join(above, "new")); err == nil {
		t.Error("a file lies outside the folder")
	}
	wantNoDrafts(t, folder)
}

func TestDeliverLongNames(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := openSink(t, folder)
	name := strings.Repeat("n", 255)
	if err := s.Deliver(t.Context(), parcel(name, "x")); err != nil {
		t.Errorf("the longest name: %v", err)
	}
	for _, path := range []string{name + "n", name + "n/x"} {
		err := s.Deliver(t.Context(), parcel(path, "x"))
		if gantry.KindOf(err) != gantry.Permanent || gantry.CodeOf(err) != CodeNameTooLong || strings.Contains(err.Error(), "nnn") {
			t.Errorf("a longer one: %v (%s)", err, gantry.CodeOf(err))
		}
	}
	want(t, folder, map[string]string{name: "x"})
	wantNoDrafts(t, folder)
}

// A key of one's own leads each task to a folder of its own, and a source that it leads to would take the results.
func TestSinkKey(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s, err := NewSink(t.Context(), SinkConfig{Path: folder, Key: "{pipeline}/{task}/v{delivery}/{path}"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]byte{}
	for n := range int16(2) {
		body := []byte{'a' + byte(n)}
		out := gantry.Delivery{Size: 1, SHA: sha256.Sum256(body), About: gantry.About{Pipeline: "echo", Task: "t", Delivery: n, Below: "find/1.json"},
			Open: func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(strings.NewReader(string(body))), nil
			}}
		out.Path = out.About.Path()
		want["echo/t/v"+string('0'+rune(n))+"/find/1.json"] = body
		for range 2 {
			if err := s.Deliver(t.Context(), out); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := files(folder, false)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if found := (SinkConfig{Path: "/x", Key: "{path}"}).Check(); len(found) != 1 || found[0].Key != "key" {
		t.Errorf("%v", found)
	}
	for key, want := range map[string]bool{"in/{task}/{path}": true, "{pipeline}/{task}/{path}": true, "out/{task}/{path}": false, "": false} {
		if got := gantry.TakesResults(SourceConfig{Path: "/x/in"}, SinkConfig{Path: "/x", Key: key}, ""); got != want {
			t.Errorf("%q: %v", key, got)
		}
	}
	if gantry.TakesResults(SourceConfig{Path: "/y"}, SinkConfig{Path: "/x", Key: "{pipeline}/{task}/{path}"}, "") {
		t.Error("a folder elsewhere")
	}
}
