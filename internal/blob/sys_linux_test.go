package blob

import (
	"bytes"
	"testing"
)

// TestBehind drops what was written of several buffers.
func TestBehind(t *testing.T) {
	t.Parallel()
	for n, want := range []string{"ab|cde|f", "b|cde|f", "cde|f", "de|f", "e|f", "f", ""} {
		got := bytes.Join(behind([][]byte{[]byte("ab"), []byte("cde"), []byte("f")}, n), []byte("|"))
		if string(got) != want {
			t.Errorf("after %d: %q, want %q", n, got, want)
		}
	}
}
