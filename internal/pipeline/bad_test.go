package pipeline

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/driver/all"
)

// TestBad holds every file of pipelines/bad to the mistakes that its first lines announce, in
// their places and their words: one each, but in many.yaml.
func TestBad(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../pipelines/bad/*.yaml")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(src)) {
				if text, ok := strings.CutPrefix(line, "# want: "); ok {
					want = append(want, strings.TrimSpace(text))
				}
			}
			if many := filepath.Base(file) == "many.yaml"; len(want) == 0 || many != (len(want) > 1) {
				t.Fatalf("announces %d mistakes", len(want))
			}
			if diff := cmp.Diff(want, mistakes(t, string(src))); diff != "" {
				t.Errorf("-announced +found\n%s", diff)
			}
		})
	}
}

// TestBadPrints checks that the whole report of a file can be read, and holds no secret.
func TestBadPrints(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("../../pipelines/bad/*.yaml")
	for _, file := range files {
		_, err := Load(file, fake{}, variables())
		if err == nil {
			t.Errorf("%s is right", file)
			continue
		}
		text := err.Error()
		if strings.Contains(strings.TrimPrefix(text, file), "do-not-print") {
			t.Errorf("%s prints its secret:\n%s", file, text)
		}
		lines := strings.Split(text, "\n")
		if len(lines)%3 != 0 || !strings.HasPrefix(lines[0], file+":") || strings.TrimSpace(lines[2]) != "^" {
			t.Errorf("%s prints\n%s", file, text)
		}
	}
	if !slices.ContainsFunc(files, func(f string) bool { return strings.HasSuffix(f, "secret-literal.yaml") }) {
		t.Error("no file has a secret")
	}
}

// TestShipped reads the pipelines that ship.
func TestShipped(t *testing.T) {
	t.Parallel()
	shipped, err := LoadAll([]string{"../../pipelines"}, all.Drivers(), variables())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range shipped {
		if err := Servable(p); err != nil {
			t.Error(err)
		}
	}
	var names []string
	for _, p := range shipped {
		names = append(names, p.Name)
		roundTripOf(t, p, all.Drivers())
	}
	if diff := cmp.Diff([]string{"async", "batch", "bucket", "cumulative", "fanout", "first-light", "multiframe", "pacs", "series-by-prefix", "studies", "video"}, names); diff != "" {
		t.Error(diff)
	}
}
