package main

import (
	"bytes"
	"encoding/json"
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
