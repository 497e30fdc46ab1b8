package main

import (
	"errors"
	"image"
	_ "image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/sample"
)

// TestPicked spreads six frames over a loop, from the first to the last.
func TestPicked(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][]int{1: {0}, 6: {0, 1, 2, 3, 4, 5}, 7: {0, 1, 2, 3, 4, 6}, 30: {0, 5, 11, 17, 23, 29}} {
		var got []int
		for i := range n {
			if picked(i, n) {
				got = append(got, i)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("of %d: %s", n, d)
		}
	}
}

// TestFrames draws frames of a DICOM file and of a video.
func TestFrames(t *testing.T) {
	t.Parallel()
	d := &demo{in: t.TempDir(), page: filepath.Join(t.TempDir(), "index.html")}
	paths, err := sample.WriteLoops(d.in)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		frames, err := d.frames(t.Context(), path, 30)
		if err != nil {
			t.Fatal(err)
		}
		var numbers []int
		seen := map[string]bool{}
		for _, x := range frames {
			numbers, seen[x.Picture] = append(numbers, x.Number), true
			f, err := os.Open(filepath.Join(filepath.Dir(d.page), x.Picture))
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := image.DecodeConfig(f)
			f.Close()
			if err != nil || c.Width > stripSide || 3*c.Width != 4*c.Height {
				t.Errorf("%s: %d x %d, %v", filepath.Base(path), c.Width, c.Height, err)
			}
		}
		if diff := cmp.Diff([]int{1, 6, 12, 18, 24, 30}, numbers); diff != "" || len(seen) != 6 {
			t.Errorf("%s, %d pictures: %s", filepath.Base(path), len(seen), diff)
		}
	}
}

// TestFramesRefused shows nothing of a file that is none of its kind, or is not there.
func TestFramesRefused(t *testing.T) {
	t.Parallel()
	d := &demo{page: filepath.Join(t.TempDir(), "index.html")}
	for _, name := range []string{"a.dcm", "a.mkv", "none.dcm", "none.mkv"} {
		path := filepath.Join(t.TempDir(), name)
		if name[0] == 'a' {
			if err := os.WriteFile(path, []byte("neither of them"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if frames, err := d.frames(t.Context(), path, 3); err == nil || len(frames) > 0 {
			t.Errorf("%s: %v", name, frames)
		}
	}
	full := errors.New("full")
	path := filepath.Join(t.TempDir(), "loop.dcm")
	if err := os.WriteFile(path, sample.Ultrasound(3, 16, 12), 0o600); err != nil {
		t.Fatal(err)
	}
	all := func(int) bool { return true }
	if err := splitDICOM(t.Context(), path, all, func(int, []byte) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
}
