package gantry

import (
	"crypto/sha256"
	"testing"
)

// TestSealer covers every byte, however they come.
func TestSealer(t *testing.T) {
	t.Parallel()
	all := []byte("a head, and then the rest")
	seal := func(from int64, b []byte, step int) (Seal, Digest) {
		s := NewSealer(from)
		for i := 0; i < len(b); i += step {
			s.Write(b[i:min(i+step, len(b))])
		}
		return s.Sum()
	}
	for from := range int64(len(all) + 1) {
		want, rest := seal(from, all, len(all))
		if by := sha256.Sum256(all[from:]); rest != by || from == 0 && want.SHA != by || want.From != from {
			t.Errorf("from %d: %+v, rest %s", from, want, rest)
		}
		if by := sha256.Sum256(append(append([]byte{}, all[:from]...), rest[:]...)); from > 0 && want.SHA != by {
			t.Errorf("from %d: %s", from, want.SHA)
		}
		for step := 1; step < 5; step++ {
			if got, _ := seal(from, all, step); got != want {
				t.Errorf("from %d, %d at a time: another seal", from, step)
			}
		}
		for i := range all {
			other := append([]byte{}, all...)
			other[i] ^= 1
			if got, _ := seal(from, other, 7); got == want {
				t.Errorf("from %d: byte %d is not under it", from, i)
			}
		}
	}
}
