package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// typed runs a command line and gives its exit code and what it printed.
func typed(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, console{&out, &errs})
	return code, out.String(), errs.String()
}

// TestCheck checks what ships, lists what its expressions know, and shows a mistake with its line.
func TestCheck(t *testing.T) {
	code, out, errs := typed(t, "check", "../../pipelines")
	if code != exitOK || strings.Count(out, "ok  ") < 4 || strings.Contains(out, "dicom.") || errs != "" {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	code, out, _ = typed(t, "check", "--vars", "../../pipelines/fanout.yaml")
	for _, want := range []string{"ok  fanout", "  stages.report.when\n", "stages.models.score[0].ok", "results.reporter", "dicom.<Keyword>"} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("%d: no %q in\n%s", code, want, out)
		}
	}
	code, out, _ = typed(t, "check", "../../pipelines/bad/when-keyword.yaml", "../../pipelines/bad/secret-literal.yaml")
	if code != exitUsage || !strings.Contains(out, "    when: 'dicom.Modalty == \"US\"'\n                 ^\n") || strings.Contains(out, "do-not-print") {
		t.Errorf("%d\n%s", code, out)
	}
}

// TestCheckFindsLoops refuses a pipeline that would take its own results.
func TestCheckFindsLoops(t *testing.T) {
	file := filepath.Join(t.TempDir(), "loop.yaml")
	for sink, want := range map[string]int{
		"{kind: dir, path: ./in/out}": exitUsage, "{kind: dir, path: ./in}": exitUsage, "{kind: dir, path: ./out}": exitOK,
		"{kind: http, url: 'http://127.0.0.1:1/x'}": exitOK,
	} {
		src := "gantry: v1\nname: loop\nstages:\n  - {name: a, call: b}\nprocessors:\n  b: {kind: http, url: 'http://127.0.0.1:1/b'}\n" +
			"sources:\n  inbox: {kind: dir, path: ./in}\nsinks:\n  results: " + sink + "\n"
		if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := typed(t, "check", file)
		if code != want || (code != exitOK) != strings.Contains(out+errs, `source "inbox" would take what sink "results" lays down`) {
			t.Errorf("%s: %d\n%s%s", sink, code, out, errs)
		}
	}
}

// TestSchemaAndDiagram prints both, and refuses a file that is wrong.
func TestSchemaAndDiagram(t *testing.T) {
	code, out, _ := typed(t, "schema")
	var schema map[string]any
	if err := json.Unmarshal([]byte(out), &schema); code != exitOK || err != nil || schema["$schema"] != "https://json-schema.org/draft/2020-12/schema" {
		t.Errorf("%d: %v", code, err)
	}
	code, out, _ = typed(t, "diagram", "-f", "../../pipelines/fanout.yaml")
	if code != exitOK || !strings.HasPrefix(out, "flowchart LR\n") || !strings.Contains(out, "models: fanout, each part") {
		t.Errorf("%d\n%s", code, out)
	}
	code, out, errs := typed(t, "diagram", "-f", "../../pipelines/bad/when-keyword.yaml")
	if code != exitUsage || out != "" || !strings.Contains(errs, "no DICOM keyword") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}
