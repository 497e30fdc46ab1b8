package blob

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// marking is a stream that says what its seal is.
type marking struct {
	io.Reader
	seal gantry.Seal
	n    int64
	ok   bool
}

func (m marking) Seal() (gantry.Seal, int64, bool) { return m.seal, m.n, m.ok }

// TestSealed keeps the seal of a stream with its record, in the place of a digest, if it is one of as many bytes as came. What becomes
// a file is digested.
func TestSealed(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	marked := gantry.Digest{1, 2, 3} // no seal of anything, so it shows who was believed
	for _, size := range []int{10, gantry.InlineLimit + 1, 600 << 10, unknownMost + chunk + 7} {
		all := bytes.Repeat([]byte{7}, size)
		file, seal := size > unknownMost, gantry.Seal{From: 9, SHA: marked}
		for name, c := range map[string]struct {
			marking
			sealed bool
		}{
			"of these bytes": {marking{seal: seal, n: int64(size), ok: true}, !file},
			"of fewer bytes": {marking{seal: seal, n: int64(size) - 1, ok: true}, false},
			"none after all": {marking{seal: seal, n: int64(size)}, false},
			"from too far":   {marking{seal: gantry.Seal{From: maxSealFrom + 1, SHA: marked}, n: int64(size), ok: true}, false},
		} {
			c.Reader = bytes.NewReader(all)
			s, err := d.Stage(t.Context(), c.marking, -1, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			own := gantry.Digest(sha256.Sum256(all))
			if sha := s.SHA(); sha.IsZero() != c.sealed || !c.sealed && sha != own {
				t.Errorf("%d bytes, %s: digest %s", size, name, sha)
			}
			where, err := s.Commit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readBack(t, d, where), all) {
				t.Errorf("%d bytes, %s: other bytes", size, name)
			}
			b, err := d.Open(t.Context(), where)
			if err != nil {
				t.Fatal(err)
			}
			got, n, ok := gantry.SealOf(b)
			switch {
			case file:
				if ok || !strings.HasPrefix(where, "sha/") {
					t.Errorf("%d bytes, %s: a seal beside its name %s", size, name, where)
				}
			case !ok, n != int64(size), c.sealed && got != seal, !c.sealed && got != (gantry.Seal{SHA: own}):
				t.Errorf("%d bytes, %s: %t, of %d, %+v", size, name, ok, n, got)
			}
			b.Close()
		}
	}
	allFree(t, d)
}

// TestSealedFileIsDigestedAsItComes does not read a file of some GB again before the answer to who sent it.
func TestSealedFileIsDigestedAsItComes(t *testing.T) {
	t.Parallel()
	d := openTest(t, testOptions(t.TempDir()))
	writeOnly := func() (*os.File, error) {
		return os.OpenFile(filepath.Join(t.TempDir(), "blob"), os.O_WRONLY|os.O_CREATE, 0o600)
	}
	for _, size := range []int64{-1, 10, 4 << 20, maxRecord + 1} {
		all := bytes.Repeat([]byte{7, 8, 9}, 3<<20)
		from := marking{bytes.NewReader(all), gantry.Seal{From: 9, SHA: gantry.Digest{1}}, int64(len(all)), true}
		h, err := stageInto(t.Context(), room{d.mem, writeOnly, true}, from, size, 1<<30)
		if err != nil {
			t.Fatalf("said to be of %d bytes: %v", size, err)
		}
		if h.file == nil || h.sha != gantry.Digest(sha256.Sum256(all)) {
			t.Errorf("said to be of %d bytes: digest %s, file %t", size, h.sha, h.file != nil)
		}
		h.Discard()
	}
	allFree(t, d)
}

// TestSealDamaged refuses a record that is not sure of where its seal begins.
func TestSealDamaged(t *testing.T) {
	t.Parallel()
	for _, seal := range []gantry.Seal{{SHA: gantry.Digest{1}}, {From: 300, SHA: gantry.Digest{1}}, {From: 500, SHA: gantry.Digest{1}}} {
		b := make([]byte, recordSize(500))
		putRecord(b, body(500, 1), seal)
		if !checkRecord(b, 500) || sealOf(b) != seal {
			t.Errorf("%+v: not known again", seal)
		}
	}
	for name, x := range map[string][4]byte{
		"whole, and from somewhere": {0, 1, 0, recordWhole}, "sealed from nowhere": {0, 0, 0, recordSealed},
		"from behind the end": {1, 0xf5, 0, recordSealed}, "of a later version": {0, 0, 0, 3},
	} {
		b := make([]byte, recordSize(500))
		putRecord(b, body(500, 1), gantry.Seal{SHA: gantry.Digest{1}})
		copy(b[4:], x[:])
		if checkRecord(b, 500) {
			t.Errorf("%s: taken for a record", name)
		}
	}
}
