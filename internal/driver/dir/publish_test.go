package dir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// leave makes a draft in a slot and gives it locked, as its writer has it.
func leave(t *testing.T, folder, path string, slot int) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(folder, draftName(path, slot)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString("half of"); err != nil {
		t.Fatal(err)
	}
	if err := lock(f); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestDeliverRemovesWhatCrashesLeft(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := openSink(t, folder)
	for slot := range slots {
		leave(t, folder, "a", slot).Close() // the lock goes, the file stays
	}
	other := leave(t, folder, "b", 0)
	other.Close()
	if err := s.Deliver(t.Context(), parcel("a", "whole")); err != nil {
		t.Fatal(err)
	}
	want(t, folder, map[string]string{"a": "whole"})
	if left, _ := files(folder, true); len(left) != 1 {
		t.Errorf("%d drafts are left, want the one of another path", len(left))
	}
	leave(t, folder, "a", 3).Close() // left between the link and the removal
	if err := s.Deliver(t.Context(), parcel("a", "whole")); err != nil {
		t.Fatal(err)
	}
	if left, _ := files(folder, true); len(left) != 1 {
		t.Errorf("%d drafts are left after a repeated delivery", len(left))
	}
}

func TestDeliverLeavesTheDraftsOfOthers(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := openSink(t, folder)
	for slot := range slots - 1 {
		leave(t, folder, "a", slot)
	}
	if err := s.Deliver(t.Context(), parcel("a", "whole")); err != nil {
		t.Fatal(err)
	}
	want(t, folder, map[string]string{"a": "whole"})
	if left, _ := files(folder, true); len(left) != slots-1 {
		t.Errorf("%d drafts of others are left, want %d", len(left), slots-1)
	}
	leave(t, folder, "a", slots-1)
	if err := s.Deliver(t.Context(), parcel("a", "whole")); gantry.KindOf(err) != gantry.Transient {
		t.Errorf("with every slot taken: %v", err)
	}
}

// A draft that somebody removed or replaced while it was written is not published: what lies under
// its name is not known to be whole.
func TestDeliverOnlyWhatItWrote(t *testing.T) {
	t.Parallel()
	for what, meddle := range map[string]func(temp string) error{
		"removed": os.Remove,
		"replaced": func(temp string) error {
			return errors.Join(os.Remove(temp), os.WriteFile(temp, []byte("half of"), 0o600))
		},
	} {
		folder := t.TempDir()
		out := parcel("a", "whole")
		open := out.Open
		out.Open = func(ctx context.Context) (io.ReadCloser, error) {
			if err := meddle(filepath.Join(folder, draftName("a", 0))); err != nil {
				t.Error(err)
			}
			return open(ctx)
		}
		if err := openSink(t, folder).Deliver(t.Context(), out); gantry.KindOf(err) != gantry.Transient || err == nil {
			t.Errorf("%s: %v", what, err)
		}
		want(t, folder, map[string]string{})
	}
}

// deliverForEver delivers a file that ends when the parent says so, which it never does. It is for a
// child process.
func deliverForEver(folder string) {
	s, err := NewSink(context.Background(), SinkConfig{Path: folder}, nil)
	if err == nil {
		out := parcel("task/a.dcm", "")
		out.Size = 1 << 40
		out.Open = func(context.Context) (io.ReadCloser, error) {
			fmt.Println("writing")
			return io.NopCloser(io.MultiReader(strings.NewReader("half of"), os.Stdin)), nil
		}
		err = s.Deliver(context.Background(), out)
	}
	fmt.Println("ended:", err)
	os.Exit(1)
}

// A process is killed in the middle of a delivery, by the kernel and for good.
func TestDeliverAfterAKill(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), crashVariable+"="+folder)
	said, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := child.StdinPipe(); err != nil { // open until the child is gone
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line := make([]byte, len("writing")); true {
		if _, err := io.ReadFull(said, line); err != nil || !bytes.Equal(line, []byte("writing")) {
			t.Fatalf("the child said %q, %v", line, err)
		}
	}
	s := openSink(t, folder)
	if err := s.Deliver(t.Context(), parcel("task/a.dcm", "first")); err != nil {
		t.Errorf("while the child writes: %v", err)
	}
	if left, _ := files(folder, true); len(left) != 1 {
		t.Errorf("%d drafts while the child lives, want its own", len(left))
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait()
	want(t, folder, map[string]string{"task/a.dcm": "first"})
	if err := s.Deliver(t.Context(), parcel("task/a.dcm", "first")); err != nil {
		t.Errorf("after the kill: %v", err)
	}
	want(t, folder, map[string]string{"task/a.dcm": "first"})
	wantNoDrafts(t, folder)
}
