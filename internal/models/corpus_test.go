package models

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestCorpus sends every file of the corpus through both services: images are answered, and
// everything else, hostile files among it, is refused with a reason.
func TestCorpus(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("GANTRY_CORPUS")
	if dir == "" {
		t.Skip("GANTRY_CORPUS is not set: it names the folder with manifest.json")
	}
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Path, Kind, Expect string }
	if err := json.Unmarshal(b, &rows); err != nil {
		t.Fatal(err)
	}
	s := newService(Options{})
	taken, refused := map[string]int{}, map[gantry.Code]int{}
	for _, r := range rows {
		body, err := os.ReadFile(filepath.Join(dir, r.Path))
		if err != nil {
			t.Fatal(err)
		}
		if len(body) > 8<<20 {
			continue
		}
		var out bytes.Buffer
		if _, err := s.enhance(body, &out); err != nil {
			p := problemOf(err)
			refused[p.Code]++
			if p.Status != 415 && p.Status != 422 || r.Kind == "image" && filepath.Ext(r.Path) == ".png" {
				t.Errorf("%s: %d %v", r.Path, p.Status, err)
			}
			continue
		}
		taken[r.Kind]++
		if r.Expect == "reject" {
			t.Errorf("%s was taken", r.Path)
		}
		if m := decoded(t, out.Bytes()); m.Bounds().Empty() {
			t.Errorf("%s became an empty image", r.Path)
		}
		out.Reset()
		var q Quality
		if _, err := s.quality(body, &out); err != nil || json.Unmarshal(out.Bytes(), &q) != nil || q.Score < 0 || q.Score > 1 {
			t.Errorf("%s: %v %s", r.Path, err, out.Bytes())
		}
	}
	if taken["image"] < 3 || taken["dicom"] < 20 {
		t.Errorf("taken %v", taken)
	}
	t.Logf("taken %v, refused %v", taken, refused)
}
