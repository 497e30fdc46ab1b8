package app_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// exampleLine is a row of examples/README.md: a command line, and how many files it delivers of each input.
var exampleLine = regexp.MustCompile("(?m)^\\| `gantry run -f (pipelines/[a-z-]+\\.yaml) -o out ([^`]+)` \\| ([0-9, ]+) \\|")

// TestExamples runs the command lines of examples/README.md as they stand there, on what gantry samples writes.
func TestExamples(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	in := filepath.Join(t.TempDir(), "in")
	paths, err := sample.WriteAll(in)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		if !strings.Contains(string(text), "| `"+filepath.Base(p)+"` |") {
			t.Errorf("examples/README.md does not say what %s is", filepath.Base(p))
		}
	}
	s := httptest.NewServer(models.Handler(models.Options{}))
	t.Cleanup(s.Close)
	r := newRig(t, nil)
	tried := map[string]bool{}
	for _, line := range exampleLine.FindAllStringSubmatch(string(text), -1) {
		tried[line[1]] = true
		src, err := os.ReadFile("../../" + line[1])
		if err != nil {
			t.Error(err)
			continue
		}
		var inputs []string
		for _, name := range strings.Fields(line[2]) {
			inputs = append(inputs, filepath.Join(filepath.Dir(in), filepath.FromSlash(name)))
		}
		var files []string
		for _, o := range r.run(strings.ReplaceAll(string(src), "http://127.0.0.1:8095", s.URL), r.out, inputs...) {
			mustBeDone(t, o)
			files = append(files, strconv.Itoa(len(o.Outputs)))
			if line[1] == "pipelines/studies.yaml" && filepath.Base(o.Input) == "mixed.zip" {
				var m struct{ Children []any }
				readJSON(t, filepath.Join(r.out, o.ID, "_manifest.json"), &m)
				if len(m.Children) != 3 {
					t.Errorf("mixed.zip became %d tasks", len(m.Children))
				}
			}
		}
		if diff := cmp.Diff(line[3], strings.Join(files, ", ")); diff != "" {
			t.Errorf("%s on %s (-said +delivered):\n%s", line[1], line[2], diff)
		}
	}
	all, err := filepath.Glob("../../pipelines/*.yaml")
	if err != nil || len(all) < 8 {
		t.Fatalf("%d pipelines, %v", len(all), err)
	}
	// These have no results without a bucket or an archive: the demonstration's test runs the first, TestSeriesByPrefix the second, TestHospital
	// of the package e2e the third.
	apart := map[string]bool{"pipelines/bucket.yaml": true, "pipelines/series-by-prefix.yaml": true, "pipelines/pacs.yaml": true}
	for _, p := range all {
		if name := "pipelines/" + filepath.Base(p); !tried[name] && !apart[name] {
			t.Errorf("no line of examples/README.md runs %s", name)
		}
	}
}
