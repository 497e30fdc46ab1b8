package media

import (
	"testing"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestBudgetOfSeveral counts the stored bytes of a plain tar that comes after a compressed one of the same task. The control is
// that without Next it is taken for a part of that stream, and so for a bomb.
func TestBudgetOfSeveral(t *testing.T) {
	t.Parallel()
	for _, next := range []bool{true, false} {
		b := NewBudget(Limits{Depth: 3, MaxBytes: 1 << 30, MaxEntries: 10, MaxRatio: 2})
		if err := b.enter(1); err != nil || !b.unpacks(1) {
			t.Fatal(err)
		}
		b.stored(100)
		if next {
			b.Next()
		}
		if err := b.enter(1); err != nil {
			t.Fatal(err)
		}
		mark := int64(notOpened)
		b.admitTar(&mark, 1, 20<<20)
		if err := b.chargeTar(&mark, 20<<20); (err == nil) != next || !next && gantry.CodeOf(err) != CodeArchiveBomb {
			t.Errorf("next %t: %v", next, err)
		}
	}
}
