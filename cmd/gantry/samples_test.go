package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSamples writes every sample and says where.
func TestSamples(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "in")
	code, out, errs := typed(t, "samples", dir)
	list := strings.Fields(out)
	if code != exitOK || len(list) != 8 || errs != "" {
		t.Fatalf("%d\n%s%s", code, out, errs)
	}
	for _, p := range list {
		if info, err := os.Stat(p); err != nil || info.Size() == 0 || filepath.Dir(p) != dir {
			t.Errorf("%s: %v", p, err)
		}
	}
	if code, _, errs := typed(t, "samples", list[0]); code != exitFailed || !strings.Contains(errs, "write samples") {
		t.Errorf("into a file: %d %s", code, errs)
	}
}
