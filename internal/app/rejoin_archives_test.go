package app_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/media"
)

// leaf is a file in an archive, at any depth.
type leaf struct{ name, sum string }

// leavesOf lists the files of an archive in their order, those of archives in it in their place.
func leavesOf(t *testing.T, name string, b []byte) (out []leaf) {
	t.Helper()
	budget := func() *media.Budget {
		return media.NewBudget(media.Limits{Depth: 5, MaxBytes: 1 << 30, MaxEntries: 1 << 20, MaxRatio: 1 << 20})
	}
	kind, err := media.DetectAt(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if kind == gantry.MediaGZIP || kind == gantry.MediaZSTD {
		var plain bytes.Buffer
		if _, err := media.Decompress(t.Context(), kind, bytes.NewReader(b), &plain, 1, budget()); err != nil {
			t.Fatal(err)
		}
		kind, b = gantry.MediaTAR, plain.Bytes()
	}
	if kind != gantry.MediaZIP && kind != gantry.MediaTAR {
		return []leaf{{name, digest(b)}}
	}
	a, err := media.OpenArchive(kind, bytes.NewReader(b), int64(len(b)), 1, budget())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range a.Entries() {
		r, err := a.Open(e.Ordinal)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, leavesOf(t, name+"/"+a.RawName(e.Ordinal), body)...)
	}
	return out
}

// TestRejoinArchivesCorpus takes every sound archive of the corpus apart and together again under a service
// that answers what it was sent: each file is in its place, under its name, with its bytes. In the place of
// one that is of no kind that is taken stands why.
func TestRejoinArchivesCorpus(t *testing.T) {
	root := os.Getenv("GANTRY_CORPUS")
	if root == "" {
		t.Skip("GANTRY_CORPUS names no folder with the corpus; TestRejoinArchive covers the same ground with generated files")
	}
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(root, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var entries []struct{ Path, Kind, Expect string }
	if err := json.Unmarshal(b, &entries); err != nil {
		t.Fatal(err)
	}
	s := serve(t, mirror(nil))
	r := newRig(t, nil)
	src := strings.Replace(rejoined(s.URL), "extract: {frames: png, window: stored, video: png}", "extract: {archives: [zip, tar, tar.gz, tar.zst]}", 1)
	archives, missing := 0, 0
	for _, e := range entries {
		if e.Kind != "archive" || e.Expect == "reject" || slices.Contains([]string{".7z", ".bz2", ".xz"}, filepath.Ext(e.Path)) {
			continue
		}
		archives++
		path := filepath.Join(root, filepath.FromSlash(e.Path))
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o := r.one(src, path)
		mustBeDone(t, o)
		again, err := os.ReadFile(firstOf(t, filepath.Join(r.out, o.ID, "same", "rejoined.*")))
		if err != nil {
			t.Fatal(err)
		}
		was, is := leavesOf(t, "", body), leavesOf(t, "", again)
		if len(was) != len(is) {
			t.Errorf("%s: %d files of %d", e.Path, len(is), len(was))
			continue
		}
		for i := range was {
			switch {
			case is[i] == was[i]:
			case is[i].name == was[i].name+".missing":
				missing++
			default:
				t.Errorf("%s: file %d is another than it was", e.Path, i)
			}
		}
	}
	t.Logf("%d archives, %d files of kinds that are not taken", archives, missing)
	if archives < 8 || missing > 20 {
		t.Errorf("%d archives; %d files are missing in them", archives, missing)
	}
}
