package app_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestHostileCorpus runs every hostile file, archive, video and image of the corpus, and of kinds that are
// not taken yet, through a pipeline that leaves files as they are and through one that takes frames out of
// them; that one is given all DICOM files too.
func TestHostileCorpus(t *testing.T) {
	root := os.Getenv("GANTRY_CORPUS")
	if root == "" {
		t.Skip("GANTRY_CORPUS names no folder with the corpus; TestHostileInputs and TestHostileFrames cover the same ground with generated files")
	}
	b, err := os.ReadFile(filepath.Join(root, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []verdict
	if err := json.Unmarshal(b, &entries); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		source func(url string) string
		judge  func(verdict, string) (hostile, bool)
		least  int
	}{
		{"whole", strict, verdict.whole, 100},
		{"in frames", framed, verdict.inFrames, 250},
	} {
		t.Run(c.name, func(t *testing.T) {
			var list []hostile
			for _, e := range entries {
				if x, ok := c.judge(e, filepath.Join(root, filepath.FromSlash(e.Path))); ok {
					list = append(list, x)
				}
			}
			if len(list) < c.least {
				t.Fatalf("the corpus has %d of these files only", len(list))
			}
			ordeal(t, c.source, list)
		})
	}
}

// verdict is one line of the corpus's manifest.
type verdict struct {
	Path, Kind, Expect, Reason string
	Also                       []string
	Frames                     int
	Syntax                     string         `json:"transfer_syntax"`
	EntriesExpect              map[string]int `json:"entries_expect"`
}

// whole says how the task of a file is to end where files go out as they are; ok is false for files that
// are left out.
func (v verdict) whole(path string) (x hostile, ok bool) {
	switch {
	case v.Kind == "video":
		return hostile{path: path, want: []string{string(gantry.CodeUnsupportedFormat)}}, true
	case v.Kind != "nifti" && v.Kind != "archive" && v.Kind != "image" && !strings.HasPrefix(v.Path, "dicom/hostile/"):
		return hostile{}, false
	}
	return v.said(path), true
}

// inFrames says it where frames go out.
func (v verdict) inFrames(path string) (x hostile, ok bool) {
	switch {
	case v.Expect != "reject" && v.Kind == "dicom" && !decoded(v.Syntax):
		return hostile{path: path, want: []string{"unsupported_transfer_syntax", string(gantry.CodeUnsupportedFormat)}}, true
	case slices.Contains([]string{"video", "nifti", "archive", "image", "dicom", "dicomdir"}, v.Kind):
		x = v.said(path)
		if v.Kind == "video" || v.Kind == "dicom" {
			x.items = max(1, v.Frames) // what has no pixels goes out as it is
		}
		return x, true
	}
	return hostile{}, false
}

// decoded tells whether frames are taken out of files in a transfer syntax (docs/dicom.md).
func decoded(syntax string) bool {
	switch strings.TrimPrefix(syntax, "1.2.840.10008.1.2") {
	case "", ".1", ".2", ".1.99", ".5", ".4.50", ".4.57", ".4.70":
		return true
	}
	return false
}

// said is what the manifest says, of the kinds that are taken.
func (v verdict) said(path string) hostile {
	x := hostile{path: path}
	untaken := v.Kind == "nifti" || v.Kind == "archive" && slices.Contains([]string{".7z", ".bz2", ".xz"}, filepath.Ext(v.Path))
	if untaken || v.EntriesExpect["reject"] > 0 { // an archive of all kinds has some that are not taken
		x.want = []string{string(gantry.CodeUnsupportedFormat)}
		return x
	}
	codes := append([]string{v.Reason}, v.Also...)
	switch v.Expect {
	case "reject":
		x.want = codes
	case "accept_with_warning":
		x.remark = codes
	}
	return x
}
