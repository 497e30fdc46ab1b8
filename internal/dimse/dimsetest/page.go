package dimsetest

import (
	"os"
	"strings"
	"testing"
)

// Block holds a block of a page of documentation to what the code says, or writes it there. It stands between the lines
// "<!-- NAME: … -->" and "<!-- end of NAME -->".
func Block(t testing.TB, page, name, want string, write bool) {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	from, to := strings.Index(text, "<!-- "+name+": "), strings.Index(text, "<!-- end of "+name+" -->")
	if from < 0 || to < from {
		t.Fatalf("%s has no block %s", page, name)
	}
	from += strings.Index(text[from:], "\n") + 1
	want = "\n" + strings.TrimSpace(want) + "\n\n"
	switch {
	case text[from:to] == want:
	case !write:
		t.Errorf("%s is stale in block %s: go generate ./internal/dimse/... ./internal/driver/dicom", page, name)
	default:
		if err := os.WriteFile(page, []byte(text[:from]+want+text[to:]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
