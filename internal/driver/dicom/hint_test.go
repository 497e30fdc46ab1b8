package dicom

import (
	"context"
	"io"
	"slices"
	"testing"

	"github.com/gantry-imaging/gantry/internal/dimse"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// hinted are blobs that note how long what comes was said to be.
type hinted struct {
	gantry.Blobs
	said *[]int64
}

func (h hinted) Stage(ctx context.Context, r io.Reader, size, limit int64) (gantry.Staged, error) {
	*h.said = append(*h.said, size)
	return h.Blobs.Stage(ctx, r, size, limit)
}

// TestHints: an instance is taken to be as long as the one before it, and the first of an association as long as what came over another,
// unless that was large.
func TestHints(t *testing.T) {
	t.Parallel()
	k := newKeeper(t)
	c := sound()
	c.MaxMiB = 8
	var said []int64
	p := ajar(t, func() (gantry.Blobs, error) { return hinted{k.blobs, &said}, nil }, open(t, k, c))
	small, large := series(t, 4, 64), series(t, 3, 1024)
	taken := func(list ...object) {
		t.Helper()
		terms, err := p.doors[c.Listen].admit(t.Context(), dimse.Proposal{Peer: peer("ECHO1", c.AET, "127.0.0.1")})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			if got := terms.Handler.Store(t.Context(), commanded(o)); got.Status != dimse.StatusSuccess {
				t.Fatalf("%+v", got)
			}
		}
		terms.Handler.Ended(nil)
	}
	size := func(o object) int64 {
		k.mu.Lock()
		defer k.mu.Unlock()
		return int64(len(k.files[o.uid]))
	}
	taken(small[0], small[1])
	taken(small[2], large[0], large[1])
	taken(small[3], large[2])
	want := []int64{-1, size(small[0]), size(small[1]), size(small[2]), size(large[0]), size(small[2]), size(small[3])}
	if !slices.Equal(said, want) {
		t.Errorf("said %v, want %v", said, want)
	}
	if size(large[0]) <= mostFirst || size(small[0]) > mostFirst {
		t.Fatal("the instances are not as this test expects")
	}
}
