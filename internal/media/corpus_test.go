package media

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// file is one row of the corpus: a real or hostile file with the verdict that it must lead to.
type file struct {
	Path    string
	Kind    string
	Codec   string
	Expect  string
	Reason  gantry.Code
	Also    []gantry.Code
	Scope   string
	Entries *int
	Good    *int
	Frames  int
	Rows    int
	Columns int
}

// corpus reads the manifest of the folder that GANTRY_CORPUS names.
func corpus(t *testing.T) (dir string, files []file) {
	t.Helper()
	dir = os.Getenv("GANTRY_CORPUS")
	if dir == "" {
		t.Skip("GANTRY_CORPUS is not set: no corpus of real files to check against")
	}
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &files); err != nil {
		t.Fatal(err)
	}
	return dir, files
}

func TestCorpusArchives(t *testing.T) {
	t.Parallel()
	dir, files := corpus(t)
	n := 0
	for _, f := range files {
		if !strings.HasPrefix(f.Path, "archives/") || archiveKind(f.Path) == "" {
			continue
		}
		n++
		t.Run(f.Path, func(t *testing.T) {
			t.Parallel()
			checkArchive(t, filepath.Join(dir, f.Path), f)
		})
	}
	if n < 40 {
		t.Errorf("%d archives in the corpus, want 40 or more", n)
	}
}

// archiveKind is what an archive of the corpus must be detected as, by its name; "" for kinds that
// are not taken.
func archiveKind(path string) string {
	for suffix, kind := range map[string]string{
		".zip": gantry.MediaZIP, ".tar": gantry.MediaTAR, ".gz": gantry.MediaGZIP, ".zst": gantry.MediaZSTD,
	} {
		if strings.HasSuffix(path, suffix) {
			return kind
		}
	}
	return ""
}

func checkArchive(t *testing.T, path string, f file) {
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	info, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := DetectAt(r, info.Size()); err != nil || m != archiveKind(f.Path) {
		t.Errorf("detected %q and %v", m, err)
	}
	w, err := walk(r, info.Size(), 1, NewBudget(corpusLimits))
	codes := append([]gantry.Code{f.Reason}, f.Also...)
	if f.Expect == "reject" && f.Scope != "entry" {
		wantCode(t, err, codes...)
		return
	}
	wantCode(t, err)
	if f.Entries != nil && w.entries != *f.Entries {
		t.Errorf("%d entries, want %d", w.entries, *f.Entries)
	}
	if f.Good != nil && w.good != *f.Good {
		t.Errorf("%d good entries, want %d", w.good, *f.Good)
	}
	switch {
	case f.Expect == "accept" && len(w.refused)+len(w.warned) > 0:
		t.Errorf("refused %v, warned %v, want neither", w.refused, w.warned)
	case f.Expect == "accept_with_warning" && !slices.Equal(w.warned, codes):
		t.Errorf("warned %v, want %v", w.warned, codes)
	case f.Expect == "reject" && (len(w.refused) != 1 || !slices.Contains(codes, w.refused[0])):
		t.Errorf("refused %v, want one of %v", w.refused, codes)
	}
}

func TestCorpusDetect(t *testing.T) {
	t.Parallel()
	dir, files := corpus(t)
	seen := map[string]int{}
	for _, f := range files {
		if f.Kind == "archive" && archiveKind(f.Path) != "" {
			continue // TestCorpusArchives
		}
		b, err := os.ReadFile(filepath.Join(dir, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		got, err := DetectAt(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		switch {
		case strings.HasPrefix(f.Kind, "dicom") && f.Reason != "not_dicom" && f.Reason != gantry.CodeEmpty:
			want = gantry.MediaDICOM
		case f.Codec == "png":
			want = gantry.MediaPNG
		case f.Codec == "jpeg":
			want = gantry.MediaJPEG
		case strings.HasSuffix(f.Path, ".mp4"):
			want = gantry.MediaMP4
		case strings.HasSuffix(f.Path, ".avi"):
			want = gantry.MediaAVI
		case strings.HasSuffix(f.Path, ".gz"):
			want = gantry.MediaGZIP
		}
		seen[want]++
		if got != want {
			t.Errorf("%s: detected %q, want %q (%s %s)", f.Path, got, want, f.Expect, f.Reason)
		}
		if want == gantry.MediaPNG || want == gantry.MediaJPEG {
			reason := f.Reason
			if f.Expect != "reject" {
				reason = ""
			}
			wantCode(t, verifyAs(want, b), reason)
			if got := ExtensionMismatch(f.Path, got); got != (f.Reason == CodeExtensionMismatch) {
				t.Errorf("%s: extension mismatch %v", f.Path, got)
			}
		}
	}
	if seen[gantry.MediaDICOM] < 100 || seen[gantry.MediaPNG] < 3 || seen[gantry.MediaJPEG] < 4 || seen[gantry.MediaMP4] < 5 {
		t.Errorf("only %v in the corpus", seen)
	}
}
