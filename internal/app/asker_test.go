package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// newTestAsker makes an asker whose dice always show the same.
func newTestAsker(rand float64) *asker {
	return newAsker(&App{rand: func() float64 { return rand }}, func(time.Duration) {})
}

func questionOf(version, limiter int32, atOnce int) question {
	return question{Question: gantry.Question{Version: version, Number: 1}, key: gantry.ControlKey{Limiter: limiter},
		rules: gantry.Collect{Expect: &gantry.Expect{AtOnce: atOnce}}}
}

// TestAskerPauses: questions about one collection come apart from one another, up to half a minute, and never at the same time.
func TestAskerPauses(t *testing.T) {
	t.Parallel()
	even, late := newTestAsker(0), newTestAsker(0.999999)
	for number, want := range map[int32]time.Duration{0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 1 << 30: 30 * time.Second} {
		q := gantry.Question{Number: number}
		if got := even.pause(q); got != want {
			t.Errorf("after question %d: %s", number, got)
		}
		if got := late.pause(q); got <= want || got > want*3/2 {
			t.Errorf("after question %d, at the latest: %s", number, got)
		}
	}
}

// TestAskerPlaces: a target has so many places for all versions that ask it, a process so many for all targets.
func TestAskerPlaces(t *testing.T) {
	t.Parallel()
	c := newTestAsker(0)
	var in []question
	enter := func(version, limiter int32, want bool) {
		t.Helper()
		x := questionOf(version, limiter, 2)
		var ok bool
		if x.at, ok = c.enter(x); ok != want {
			t.Errorf("version %d has a place at %d: %t", version, limiter, ok)
		}
		if ok {
			in = append(in, x)
		}
	}
	enter(1, 7, true)
	if busy, rest := c.busy(); len(busy) != 0 || rest != closeIdle {
		t.Errorf("busy %v, for %s", busy, rest)
	}
	enter(2, 7, true)
	enter(3, 7, false)
	if busy, _ := c.busy(); len(busy) != 3 {
		t.Errorf("busy %v", busy)
	}
	for limiter := int32(8); len(in) < askAtOnce; limiter++ {
		enter(10+limiter, limiter, true)
		enter(10+limiter, limiter, true)
	}
	if _, rest := c.busy(); rest != 0 {
		t.Errorf("with %d questions there is room", len(in))
	}
	for _, x := range in {
		c.left(x, false, 0)
	}
	if busy, rest := c.busy(); len(busy) != 0 || rest != closeIdle || c.running != 0 {
		t.Errorf("busy %v, for %s, %d running", busy, rest, c.running)
	}
}

// TestAskerRests: an archive that fails is left alone, for longer each time, or as long as it wants; one answer ends that.
func TestAskerRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newTestAsker(0)
		x := questionOf(1, 7, 1)
		fails := func(wants, rests time.Duration) {
			t.Helper()
			at, ok := c.enter(x)
			if !ok {
				t.Fatal("there is no place")
			}
			x.at = at
			c.left(x, true, wants)
			if busy, rest := c.busy(); len(busy) != 1 || rest != min(rests, closeIdle) {
				t.Errorf("busy %v, for %s, want %s", busy, rest, rests)
			}
			if _, ok := c.enter(x); ok {
				t.Error("it is asked while it rests")
			}
			time.Sleep(rests)
		}
		for _, rests := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second} {
			fails(0, rests)
		}
		fails(20*time.Second, 20*time.Second)
		fails(time.Hour, askMost)
		for range 20 {
			fails(0, min(restFirst<<min(x.at.failures, 10), askMost))
		}
		x.at, _ = c.enter(x)
		c.left(x, false, 0)
		fails(0, restFirst)
	})
}
