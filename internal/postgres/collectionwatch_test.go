package postgres_test

import (
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// away makes a ward's source one that was last watched so long ago.
func (w *ward) away(d time.Duration) {
	w.t.Helper()
	w.exec(`insert into source_state(source, watched_at) values ('p/in', clock_timestamp() - $1 * interval '1 us')
		on conflict (source) do update set watched_at = excluded.watched_at`, d.Microseconds())
}

// ages lets time pass for all collections, and for what came of them.
func (w *ward) ages(d time.Duration) {
	w.t.Helper()
	w.pass(d)
	w.exec(`update collection set last_at = last_at - $1 * interval '1 us' where not closed`, d.Microseconds())
}

// dueIn is in how many seconds the only open collection is due, and why.
func (w *ward) dueIn() (secs int, reason string) {
	w.t.Helper()
	if err := w.Pool().QueryRow(w.t.Context(), `select round(extract(epoch from due - clock_timestamp()))::int, reason from collection where not closed`).Scan(&secs, &reason); err != nil {
		w.t.Fatal(err)
	}
	return secs, reason
}

func (w *ward) again(sources ...string) {
	w.t.Helper()
	if err := w.WatchAgain(w.t.Context(), sources); err != nil {
		w.t.Fatal(err)
	}
}

// TestWatchAgain: the time that nobody watched does not count as quiet, and nothing else is put off.
func TestWatchAgain(t *testing.T) {
	t.Parallel()
	quiet := gantry.Collect{Quiet: time.Minute, Cap: time.Hour}
	capped, marked, counted := quiet, quiet, quiet
	capped.Cap, marked.Marker, counted.Count = 2*time.Minute, "_done", 1
	for name, c := range map[string]struct {
		rules     gantry.Collect
		age, away time.Duration // since the last file, and since the source was watched
		sources   []string
		want      int
		reason    string
	}{
		"away for longer than quiet":       {quiet, 310 * time.Second, 300 * time.Second, []string{"p/in", "p/in"}, 50, "quiet"},
		"away since the file came":         {quiet, 300 * time.Second, 310 * time.Second, []string{"p/in"}, 60, "quiet"},
		"away for less":                    {quiet, 50 * time.Second, 20 * time.Second, []string{"p/in", "p/other"}, 30, "quiet"},
		"quiet was over while watched":     {quiet, 310 * time.Second, 200 * time.Second, []string{"p/in"}, -250, "quiet"},
		"another watches":                  {quiet, 30 * time.Second, 3 * time.Second, []string{"p/in"}, 30, "quiet"},
		"away for a moment at the end":     {quiet, 61 * time.Second, 3 * time.Second, []string{"p/in"}, 3, "quiet"},
		"away for long at the end":         {quiet, 300 * time.Second, 241 * time.Second, []string{"p/in"}, 10, "quiet"},
		"not past the cap":                 {capped, 100 * time.Second, 90 * time.Second, []string{"p/in"}, 20, "cap"},
		"the cap ran out":                  {capped, 300 * time.Second, 290 * time.Second, []string{"p/in"}, -180, "cap"},
		"until the marker comes":           {marked, 300 * time.Second, 290 * time.Second, []string{"p/in"}, 3300, "cap"},
		"the count is full":                {counted, 300 * time.Second, 290 * time.Second, []string{"p/in"}, -300, "count"},
		"a source that another will watch": {quiet, 310 * time.Second, 300 * time.Second, []string{"p/other"}, -250, "quiet"},
		"a process that watches none":      {quiet, 310 * time.Second, 300 * time.Second, nil, -250, "quiet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, c.rules)
			w.gather("a/1")
			w.ages(c.age)
			w.away(c.away)
			for range 3 { // the others begin at the same time, or it begins again
				w.again(c.sources...)
			}
			if got, reason := w.dueIn(); got < c.want-2 || got > c.want+1 || reason != c.reason {
				t.Errorf("due in %d s, %s; want %d, %s", got, reason, c.want, c.reason)
			}
		})
	}
}

// TestWatchAgainMarked puts off what waits for the last files after its marker, and what is closed not at all.
func TestWatchAgainMarked(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute, Marker: "_done", Cap: time.Hour})
	w.gather("b/1", "b/_done")
	w.pass(2 * time.Minute)
	w.wantClosed("0 marker: 1")
	w.gather("a/1", "a/_done")
	w.ages(5 * time.Minute)
	w.away(5 * time.Minute)
	w.again("p/in")
	if got, reason := w.dueIn(); got < 58 || got > 61 || reason != "marker" {
		t.Errorf("due in %d s, %s", got, reason)
	}
	if n := w.count(`select count(*) from collection where closed and due < now()`); n != 1 {
		t.Error("what is closed was put off")
	}
}

// TestWatchAgainNeverWatched: of a source that nobody reported of, nothing is known.
func TestWatchAgainNeverWatched(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute, Cap: time.Hour})
	w.gather("a/1")
	w.ages(5 * time.Minute)
	w.again("p/in")
	w.wantClosed("0 quiet: 1")
}

// TestWatchAgainAgainAndAgain: a process that begins again every few seconds puts a collection off no longer than to its cap.
func TestWatchAgainAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: 10 * time.Second, Cap: time.Minute})
	w.gather("a/1")
	w.away(0)
	for range 20 {
		w.ages(4 * time.Second)
		w.exec(`update source_state set at = at - interval '4 s'`)
		w.again("p/in")
	}
	if got, reason := w.dueIn(); got > -10 || reason != "cap" && reason != "quiet" {
		t.Errorf("due in %d s, %s", got, reason)
	}
}

// TestWatchAgainAsked: an archive that says nothing of use then, since its count is old, does not bring the end forward again.
func TestWatchAgainAsked(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute, Cap: time.Hour})
	a.came("s/1", "s/2")
	a.pass(5 * time.Minute)
	a.away(5 * time.Minute)
	a.again("p/in")
	if c := a.says(1); c.Due < 58*time.Second || c.Due > time.Minute {
		t.Errorf("due in %s", c.Due)
	}
	a.wantEnds()
	a.pass(time.Minute)
	a.wantEnds("0 quiet 2")
}

// TestWatchAgainWaited: what waited for more than came, or for its cap, has quiet from the answer on that nothing more is missing: what came while
// nobody watched could not put it off.
func TestWatchAgainWaited(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cap  time.Duration
		more bool // the archive has more at first
		due  time.Duration
	}{
		"for what the archive has": {time.Hour, true, time.Minute},
		"for its cap":              {6 * time.Minute, false, time.Minute},
		"for both":                 {5*time.Minute + 30*time.Second, true, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAsking(t, gantry.Collect{Quiet: time.Minute, Cap: c.cap})
			a.came("s/1", "s/2")
			if c.more {
				a.says(3)
			}
			a.pass(5 * time.Minute)
			a.away(5 * time.Minute)
			a.again("p/in")
			if got := a.says(1); got.Due < c.due-2*time.Second || got.Due > c.due {
				t.Errorf("due in %s", got.Due)
			}
			a.wantEnds()
			a.pass(time.Second)
			if got := a.says(1); got.Due < c.due-4*time.Second || got.Due > c.due-time.Second {
				t.Errorf("due in %s by the next answer", got.Due)
			}
			a.pass(time.Second)
			a.steadily(2)
			a.wantEnds("0 expected 2")
		})
	}
}

// TestUnseen: what was quiet while nobody watched its source is not closed for that, but at its cap; everything else is.
func TestUnseen(t *testing.T) {
	t.Parallel()
	quiet := gantry.Collect{Quiet: time.Minute, Cap: time.Hour}
	capped, marked, counted := quiet, quiet, quiet
	capped.Cap, marked.Marker, counted.Count = 90*time.Second, "_done", 1
	for name, c := range map[string]struct {
		rules gantry.Collect
		away  time.Duration // two minutes after the file came
		next  time.Duration
		want  []string
	}{
		"watched until quiet was over":     {quiet, 50 * time.Second, 0, []string{"0 quiet: 1"}},
		"for all of it but a moment":       {quiet, 62 * time.Second, 0, []string{"0 quiet: 1"}},
		"for nearly all of it":             {quiet, 65 * time.Second, time.Second, nil},
		"not at all":                       {quiet, 200 * time.Second, time.Second, nil},
		"not after the marker":             {marked, 65 * time.Second, time.Second, nil},
		"the cap ran out":                  {capped, 65 * time.Second, 0, []string{"0 cap: 1"}},
		"the count is full":                {counted, 200 * time.Second, 0, []string{"0 count: 1"}},
		"nobody ever said that he watched": {quiet, 0, 0, []string{"0 quiet: 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWard(t, c.rules)
			w.exec(`insert into source_state(source, at) values ('p/other', now() - interval '1 day')`)
			comes := func(folder string) {
				if w.gather(folder + "/1"); c.rules.Marker != "" {
					w.gather(folder + "/_done")
				}
			}
			comes("a")
			w.ages(2 * time.Minute)
			if c.away > 0 {
				w.away(c.away)
			}
			if next := must(w.NextDue(t.Context()))(t); next != c.next {
				t.Errorf("the next look is in %s", next)
			}
			w.wantClosed(c.want...)
			if len(c.want) > 0 {
				if n := w.count(`select count(*) from collection where closed and '0 ' || reason || ': 1' = $1`, c.want[0]); n != 1 {
					t.Error("another reason is on record")
				}
				return
			}
			comes("b") // which waits as ever
			if next := must(w.NextDue(t.Context()))(t); next < 58*time.Second || next > time.Minute {
				t.Errorf("the next look beside another is in %s", next)
			}
		})
	}
}

// TestUnseenUntilWatched: what nobody saw quiet is closed once it is quiet for as long as was left of it, and watched until then.
func TestUnseenUntilWatched(t *testing.T) {
	t.Parallel()
	w := newWard(t, gantry.Collect{Quiet: time.Minute, Cap: time.Hour})
	w.gather("a/1")
	w.ages(10 * time.Minute)
	w.away(9*time.Minute + 40*time.Second)
	w.wantClosed()
	w.again("p/in")
	if got, reason := w.dueIn(); got < 38 || got > 41 || reason != "quiet" {
		t.Errorf("due in %d s, %s", got, reason)
	}
	w.ages(50 * time.Second)
	w.away(30 * time.Second) // and away again
	w.wantClosed()
	w.away(0) // which it was not: a report was late
	w.wantClosed("0 quiet: 1")
}
