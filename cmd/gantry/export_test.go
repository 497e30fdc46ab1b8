package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/models"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
	"github.com/gantry-imaging/gantry/internal/sample"
)

// ran takes samples through the first pipeline on a database of the test's own.
func ran(t *testing.T) (dsn string) {
	t.Helper()
	dsn = postgrestest.DSN(t)
	s := httptest.NewServer(models.Handler(models.Options{}))
	t.Cleanup(s.Close)
	src, err := os.ReadFile("../../pipelines/first-light.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "first-light.yaml")
	if err := os.WriteFile(file, bytes.ReplaceAll(src, []byte("http://"+modelsAddress), []byte(s.URL)), 0o644); err != nil {
		t.Fatal(err)
	}
	inputs, err := sample.Write(filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	code, out, errs := operated(t, dsn, append([]string{"run", "-f", file, "-o", filepath.Join(dir, "out")}, inputs...)...)
	if code != exitOK {
		t.Fatalf("%d\n%s%s", code, out, errs)
	}
	return dsn
}

// TestExport writes what call ls lists, to standard output and to a file, and leaves no half file behind.
func TestExport(t *testing.T) {
	dsn := ran(t)
	_, listed, _ := operated(t, dsn, "call", "ls", "--json", "--limit", "0", "--boundary", "processor")
	var want []map[string]any
	if err := json.Unmarshal([]byte(listed), &want); err != nil || len(want) < 4 {
		t.Fatalf("%d calls: %v", len(want), err)
	}
	// What export does not write it must not seem to write.
	if code, out, _ := operated(t, dsn, "call", "export", "--control"); code != exitUsage || out != "" {
		t.Errorf("export --control: %d\n%s", code, out)
	}
	code, out, errs := operated(t, dsn, "call", "export", "--boundary", "processor")
	lines, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if code != exitOK || err != nil || len(lines) != len(want)+1 || errs != "" {
		t.Fatalf("%d: %d lines of %d calls: %v\n%s", code, len(lines), len(want), err, errs)
	}
	for name := range want[0] {
		if !slices.Contains(lines[0], name) {
			t.Errorf("no column %s", name)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "calls.json")
	code, out, errs = operated(t, dsn, "call", "export", "--boundary", "processor", "--format", "json", "-o", file)
	b, err := os.ReadFile(file)
	var got []map[string]any
	if uerr := json.Unmarshal(b, &got); code != exitOK || err != nil || uerr != nil || len(got) != len(want) || got[0]["id"] != want[0]["id"] || out != "" || !strings.HasSuffix(errs, "calls.json\n") {
		t.Errorf("%d: %d of %d calls: %v %v\n%s%s", code, len(got), len(want), err, uerr, out, errs)
	}
	if code, _, errs := operated(t, dsn, "call", "export", "--task", "zzzz", "-o", filepath.Join(dir, "none.csv")); code != exitFailed || !strings.Contains(errs, "no task") {
		t.Errorf("%d %s", code, errs)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left are %v, %v", left, err)
	}
}
