package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestAUnitIsAskedForWhileTheIntentIsCommitted: a process that holds no unit has one by the time that the call of an intent
// wants it, and gives it back if no call comes.
func TestAUnitIsAskedForWhileTheIntentIsCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBooks(limited(4))
		k := process(t, b, 1)
		k.expect(1)() // of a limit that was not met yet nothing is known
		release, err := k.Acquire(t.Context(), 1, 5)
		if err != nil {
			t.Fatal(err)
		}
		release()
		time.Sleep(time.Second)
		if units, _ := b.figures(1); units != 0 {
			t.Fatalf("%d units are held by a process that uses none", units)
		}
		done := k.expect(1)
		synctest.Wait()
		if units, _ := b.figures(1); units != 1 {
			t.Errorf("%d units are granted for the call that comes", units)
		}
		_, before := b.figures(1)
		done()
		if release, err = k.Acquire(t.Context(), 1, 5); err != nil {
			t.Fatal(err)
		}
		if _, after := b.figures(1); after != before {
			t.Errorf("%d grants more for the call that came", after-before)
		}
		release()
		k.expect(1)()
		time.Sleep(time.Second)
		if units, _ := b.figures(1); units != 0 {
			t.Errorf("%d units are held though no call came", units)
		}
	})
}

// TestNobodyIsExpectedOfNoLimit: where there is nothing to ask for, nobody asks.
func TestNobodyIsExpectedOfNoLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, spec := range []gantry.LimiterSpec{limited(-1), limited(0)} {
			b := newBucket(1, spec)
			b.expect(1)
			if len(b.poke) != 0 {
				t.Errorf("the keeper looks at a limit of %d", spec.MaxUnits)
			}
			b.expect(-1)
			if d := b.demand(); d.want != 0 {
				t.Errorf("%d are wanted though nobody comes", d.want)
			}
		}
	})
}
