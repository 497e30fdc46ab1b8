package dir

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A folder tells nothing of its files but their bytes, as long as they are as they were announced.
func TestPeek(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "a.dcm")
	if err := os.WriteFile(file, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	src, err := NewSource(t.Context(), SourceConfig{Path: folder}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := src.(gantry.Described)
	o := gantry.Object{Ref: "a.dcm", Size: 10, Sequencer: stampOf(info).String()}
	if d, err := s.Describe(t.Context(), o, gantry.FactHead|gantry.FactTags); err != nil || d.ContentType != "" || d.Metadata != nil || d.Tags != nil {
		t.Errorf("%+v, %v", d, err)
	}
	r, err := s.Peek(t.Context(), o, 3, 4)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "3456" {
		t.Errorf("%q, %v", b, err)
	}
	r.Close()
	if _, err := s.Peek(t.Context(), o, 3, 8); gantry.KindOf(err) != gantry.Illegal {
		t.Errorf("beyond its end: %v", err)
	}
	if err := os.WriteFile(file, []byte("0123456789ab"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Peek(t.Context(), o, 3, 4); gantry.CodeOf(err) != gantry.CodeSourceGone {
		t.Errorf("it grew: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Peek(t.Context(), o, 3, 4); gantry.CodeOf(err) != gantry.CodeSourceGone {
		t.Errorf("it is gone: %v", err)
	}
}
