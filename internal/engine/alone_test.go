package engine

import (
	"crypto/sha256"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestFirstRead finds an item's digest, or leaves it to whoever takes that of the request.
func TestFirstRead(t *testing.T) {
	t.Parallel()
	const text = "bytes of an item"
	for name, c := range map[string]struct {
		alone bool
		want  gantry.ItemMark
	}{
		"among others": {want: gantry.ItemMark{SHA: sha256.Sum256([]byte(text)), Size: int64(len(text))}},
		"alone":        {alone: true, want: gantry.ItemMark{Size: int64(len(text)), Sent: true}},
	} {
		var got []gantry.ItemMark
		r := &firstRead{body: io.NopCloser(strings.NewReader(text)), sum: sha256.New(), done: func(m gantry.ItemMark) { got = append(got, m) }}
		if c.alone {
			gantry.SendAlone(r)
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != text {
			t.Fatalf("%s: %q, %v", name, b, err)
		}
		r.Read(make([]byte, 1)) // past the end
		if diff := cmp.Diff([]gantry.ItemMark{c.want}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
