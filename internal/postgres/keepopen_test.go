package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// TestKeepOpen: while a file is on its way the quiet of its folder begins anew, and nothing else is put off.
func TestKeepOpen(t *testing.T) {
	t.Parallel()
	quiet := gantry.Collect{Quiet: time.Minute, Cap: time.Hour}
	capped, marked, counted := quiet, quiet, quiet
	capped.Cap, marked.Marker, counted.Count = 80*time.Second, "_done", 1
	for name, c := range map[string]struct {
		rules  gantry.Collect
		files  []string
		age    time.Duration
		folder string
		want   int
		reason string
	}{
		"quiet":                 {quiet, []string{"a/1"}, 50 * time.Second, "a", 60, "quiet"},
		"quiet is over":         {quiet, []string{"a/1"}, 70 * time.Second, "a", 60, "quiet"},
		"not past the cap":      {capped, []string{"a/1"}, 50 * time.Second, "a", 30, "cap"},
		"the marker came":       {marked, []string{"a/1", "a/_done"}, 50 * time.Second, "a", 60, "marker"},
		"it has yet to come":    {marked, []string{"a/1"}, 50 * time.Second, "a", 3550, "cap"},
		"the count is full":     {counted, []string{"a/1"}, 50 * time.Second, "a", -50, "count"},
		"one of another folder": {quiet, []string{"a/1"}, 50 * time.Second, "b", 10, "quiet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, c.rules)
			w.gather(c.files...)
			w.ages(c.age)
			x := w.file(c.folder + "/2")
			for range 2 {
				if err := w.KeepOpen(t.Context(), x.Pipeline, x.Group, time.Minute); err != nil {
					t.Fatal(err)
				}
			}
			if got, reason := w.dueIn(); got < c.want-2 || got > c.want+1 || reason != c.reason {
				t.Errorf("due in %d s, %s; want %d, %s", got, reason, c.want, c.reason)
			}
		})
	}
}

// TestKeepOpenLater: what is due later already, and what is closed, stays as it is.
func TestKeepOpenLater(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute, Cap: time.Hour})
	w.gather("a/1")
	x := w.file("a/2")
	if err := w.KeepOpen(t.Context(), x.Pipeline, x.Group, time.Second); err != nil {
		t.Fatal(err)
	}
	if got, _ := w.dueIn(); got < 58 {
		t.Errorf("due in %d s", got)
	}
	w.ages(2 * time.Minute)
	w.wantClosed("0 quiet: 1")
	if err := w.KeepOpen(t.Context(), x.Pipeline, x.Group, time.Minute); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`select count(*) from collection where due > now()`); n != 0 {
		t.Error("what is closed was put off")
	}
}
