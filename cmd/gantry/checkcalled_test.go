package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckSaysWhoListens: where services and archives answer by calling us, it is said that a process has to serve there.
func TestCheckSaysWhoListens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "called.yaml")
	for sink, notes := range map[string]int{`{kind: dicom, host: h, aet: PACS, commit: true, listen: ":11113"}`: 2, "{kind: dicom, host: h, aet: PACS}": 1} {
		src := "gantry: v1\nname: called\nstages: [{name: a, call: r}]\nprocessors: {r: {kind: dicom, host: h, aet: REPORTER, calling: US, await: {modality: SR}}}\n" +
			"sources: {in: {kind: dir, path: ./in}}\nsinks: {pacs: " + sink + "}\n"
		if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errs := typed(t, "check", file)
		if code != exitOK || strings.Count(out, "gantry worker does not") != notes || !strings.Contains(out, "note  processor r answers US at :11112: gantry serve") {
			t.Errorf("%s: %d\n%s%s", sink, code, out, errs)
		}
	}
}
