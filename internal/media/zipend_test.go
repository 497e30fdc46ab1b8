package media

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestEndIsTheLastOneThatIsWhole compares what is found with a search of the whole tail, in files full of records that are
// whole or not, with comments that end within the part that is read first and beyond it.
func TestEndIsTheLastOneThatIsWhole(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	found := 0
	for range 2000 {
		file := make([]byte, random.IntN(3*nearEnd))
		for range random.IntN(6) {
			rec := make([]byte, endSize)
			copy(rec, zipEnd)
			at := random.IntN(len(file) + 1)
			comment := max(0, len(file)-at-endSize) - random.IntN(3) + 1
			le.PutUint16(rec[20:], uint16(max(0, comment)))
			copy(file[at:], rec)
		}
		want := lastEnd(file)
		rec, at, err := findEnd(bytes.NewReader(file), int64(len(file)))
		switch {
		case want < 0 && err == nil, want >= 0 && (err != nil || at != int64(want) || !bytes.Equal(rec, file[want:want+endSize])):
			t.Fatalf("found at %d (%v), want %d of %d bytes", at, err, want, len(file))
		case want >= 0:
			found++
		}
	}
	if found < 500 {
		t.Errorf("only %d files have an end", found)
	}
	for _, n := range []int{0, nearEnd - endSize, nearEnd - endSize + 1, maxComment} {
		file := make([]byte, 100+endSize+n)
		copy(file[100:], zipEnd)
		le.PutUint16(file[120:], uint16(n))
		if _, at, err := findEnd(bytes.NewReader(file), int64(len(file))); err != nil || at != 100 {
			t.Errorf("a comment of %d bytes: found at %d, %v", n, at, err)
		}
	}
}
