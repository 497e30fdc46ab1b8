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

// TestARestThatGrowsWhileItIsWrittenIsWrittenAgain: however long the row took, what the target asked for meanwhile is news.
func TestARestThatGrowsWhileItIsWrittenIsWrittenAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := given(2)
		b.saw(gantry.Showing{Wait: time.Second})
		first, _ := b.told()
		time.Sleep(100 * time.Millisecond)
		b.saw(gantry.Showing{Wait: 2 * time.Second})
		time.Sleep(1900 * time.Millisecond) // the writing takes longer than what is left of the rest that grew
		b.wrote(first, 0)
		b.setSpec(limited(2)) // the row knows of the first alone, which is over
		if until, _ := b.told(); time.Until(until) != 100*time.Millisecond || b.mayBegin(false) {
			t.Errorf("to be written is a rest until %s from now; a call may begin: %t", time.Until(until), b.mayBegin(false))
		}
		b.wrote(first.Add(1100*time.Millisecond), 0)
		if until, _ := b.told(); !until.IsZero() {
			t.Errorf("what was written is to be written again, until %s from now", time.Until(until))
		}
	})
}
