package blob

import (
	"bytes"
	"crypto/sha256"
	"io"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// claiming is a stream that says what its digest is.
type claiming struct {
	io.Reader
	sum gantry.Digest
	n   int64
	ok  bool
}

func (c claiming) Digest() (gantry.Digest, int64, bool) { return c.sum, c.n, c.ok }

// TestStageTakesADigestOnce: the digest of a stream that took it is believed if it is of as many bytes as
// came; of one that has none in the end, or one of other bytes, it is taken here.
func TestStageTakesADigestOnce(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	marked := gantry.Digest{1, 2, 3} // no digest of anything, so it shows who was believed
	for _, size := range []int{0, 10, gantry.InlineLimit + 1, unknownMost + chunk + 7} {
		body := bytes.Repeat([]byte{7}, size)
		own := gantry.Digest(sha256.Sum256(body))
		for name, c := range map[string]struct {
			claim claiming
			want  gantry.Digest
		}{
			"of these bytes":   {claiming{sum: marked, n: int64(size), ok: true}, marked},
			"of fewer bytes":   {claiming{sum: marked, n: int64(size) - 1, ok: true}, own},
			"of more bytes":    {claiming{sum: marked, n: int64(size) + 1, ok: true}, own},
			"none after all":   {claiming{sum: marked, n: int64(size)}, own},
			"of no such bytes": {claiming{sum: marked, n: -1, ok: true}, own},
		} {
			c.claim.Reader = bytes.NewReader(body)
			s, err := d.Stage(t.Context(), c.claim, -1, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if s.SHA() != c.want || s.Size() != int64(size) {
				t.Errorf("%d bytes, %s: %s", size, name, s.SHA())
			}
			s.Discard()
		}
	}
	allFree(t, d)
}
