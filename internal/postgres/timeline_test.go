package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// timeline is what happens to a ward second by second: files that come, as study/series-file, and what an archive counts. The clock is
// the database's, set on by shifting all that it knows.
type timeline struct {
	asking
	by      gantry.GroupBy
	archive func(second int) int // below 1: it does not know; nil: there is none
	ended   []string
}

// tick is how many seconds of the database one of a timeline lasts, so that the time which the test itself takes is none of them.
const tick = 30

func newTimeline(t *testing.T, by gantry.GroupBy, rules gantry.Collect, archive func(int) int) *timeline {
	t.Helper()
	rules.Quiet, rules.Cap = rules.Quiet*tick, rules.Cap*tick
	a := newAsking(t, rules)
	a.rules.Expect.Steady *= tick
	if a.rules.By = by; archive == nil {
		a.rules.Expect = nil
	}
	return &timeline{asking: a, by: by, archive: archive}
}

// run lets the seconds pass until the last, and gives what was closed: "second: reason members" each.
func (l *timeline) run(last int, comes map[int][]string) []string {
	l.t.Helper()
	for second := range last + 1 {
		if second > 0 {
			l.pass(tick * time.Second)
		}
		if list := comes[second]; len(list) > 0 {
			l.come(list...)
		}
		for l.archive != nil {
			q, ok, err := l.ClaimQuestion(l.t.Context(), tick*time.Second, nil)
			if err != nil {
				l.t.Fatal(err)
			}
			if !ok {
				break
			}
			if n := l.archive(second); n > 0 {
				_, _, err = l.Answered(l.t.Context(), q, n, l.rules, tick*time.Second)
			} else {
				err = l.Unanswered(l.t.Context(), q, tick*time.Second)
			}
			if err != nil {
				l.t.Fatal(err)
			}
		}
		for _, c := range must(l.CloseDue(l.t.Context(), 100, publicID))(l.t) {
			l.ended = append(l.ended, fmt.Sprintf("%d: %s %d", second, c.Reason, c.Members))
		}
	}
	return l.ended
}

// come takes in what comes, by study or by series.
func (l *timeline) come(paths ...string) {
	l.t.Helper()
	if l.by == gantry.GroupSeries {
		for i, p := range paths {
			var study, series, file string
			fmt.Sscanf(p, "%1s/%1s-%s", &study, &series, &file)
			paths[i] = study + series + "/" + file
		}
	}
	l.came(paths...)
}

func (l *timeline) want(last int, comes map[int][]string, want ...string) {
	l.t.Helper()
	if diff := cmp.Diff(want, l.run(last, comes)); diff != "" {
		l.t.Errorf("closed (-want +got):\n%s", diff)
	}
}

// TestTimelineMONAI is the scenario of the MONAI informatics gateway: one mammography study of three series, which come apart from one another, and a
// window of 5 s. With pauses of 3 s they are one request, with 6 s three; by series they are three either way.
func TestTimelineMONAI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by    gantry.GroupBy
		pause int
		want  []string
	}{
		{gantry.GroupStudy, 3, []string{"11: quiet 6"}},
		{gantry.GroupStudy, 6, []string{"5: quiet 2", "11: quiet 2", "17: quiet 2"}},
		{gantry.GroupSeries, 3, []string{"5: quiet 2", "8: quiet 2", "11: quiet 2"}},
		{gantry.GroupSeries, 6, []string{"5: quiet 2", "11: quiet 2", "17: quiet 2"}},
	} {
		t.Run(fmt.Sprint(c.by, c.pause), func(t *testing.T) {
			t.Parallel()
			l := newTimeline(t, c.by, gantry.Collect{Quiet: 5 * time.Second, Late: gantry.LateAppend}, nil)
			l.want(30, map[int][]string{0: {"m/a-1", "m/a-2"}, c.pause: {"m/b-1", "m/b-2"}, 2 * c.pause: {"m/c-1", "m/c-2"}}, c.want...)
		})
	}
}

// TestTimelineMONAICounted is the same study where an archive has it: whatever the pauses, it is one request, the moment that it is whole.
func TestTimelineMONAICounted(t *testing.T) {
	t.Parallel()
	for _, pause := range []int{3, 6, 60} {
		l := newTimeline(t, gantry.GroupStudy, gantry.Collect{Quiet: 5 * time.Second, Late: gantry.LateAppend}, func(int) int { return 6 })
		l.want(3*pause, map[int][]string{0: {"m/a-1", "m/a-2"}, pause: {"m/b-1", "m/b-2"}, 2 * pause: {"m/c-1", "m/c-2"}}, fmt.Sprintf("%d: expected 6", 2*pause))
	}
}

// TestTimelineMercure are the scenarios of mercure's test_studies.py. There a series is complete 10 s after its last image, and a study 30 s after its
// last series; here a study is quiet for both, 40 s.
func TestTimelineMercure(t *testing.T) {
	t.Parallel()
	study := gantry.Collect{Quiet: 40 * time.Second}
	capped := gantry.Collect{Quiet: 40 * time.Second, Cap: 72 * time.Second}
	for name, c := range map[string]struct {
		rules   gantry.Collect
		archive func(int) int
		comes   map[int][]string
		last    int
		want    []string
	}{
		// Complete at 42 at the latest, and not at 11.
		"simple": {study, nil, map[int][]string{0: {"s/a-1"}}, 42, []string{"40: quiet 1"}},
		// A series that comes at 36 sets the clock back: nothing at 43 or 48, all at 83.
		"a late series resets the clock": {study, nil, map[int][]string{0: {"s/a-1"}, 36: {"s/b-1"}}, 83, []string{"76: quiet 2"}},
		// A study that lacks a series is forced to its end 60 s after the first series was complete.
		"incomplete, forced":             {capped, func(int) int { return 2 }, map[int][]string{0: {"s/a-1"}}, 80, []string{"72: cap 1"}},
		"incomplete, and nobody says so": {capped, nil, map[int][]string{0: {"s/a-1"}}, 80, []string{"40: quiet 1"}},
		"never quiet, forced": {capped, nil, map[int][]string{0: {"s/a-1"}, 30: {"s/a-2"}, 60: {"s/a-3"}, 75: {"s/a-4"}}, 120,
			[]string{"72: cap 3", "115: quiet 4"}},
		// A study whose series have come is complete at once, not before the one that is on its way.
		"what is needed came": {study, func(int) int { return 2 }, map[int][]string{0: {"s/a-1"}, 4: {"s/b-1"}}, 10, []string{"4: expected 2"}},
		"and after the end more": {study, func(s int) int { return map[bool]int{true: 2, false: 3}[s < 50] }, map[int][]string{0: {"s/a-1"}, 4: {"s/b-1"}, 60: {"s/c-1"}}, 120,
			[]string{"4: expected 2", "61: expected 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			newTimeline(t, gantry.GroupStudy, c.rules, c.archive).want(c.last, c.comes, c.want...)
		})
	}
	// By series, each is complete by itself after 10 s.
	newTimeline(t, gantry.GroupSeries, gantry.Collect{Quiet: 10 * time.Second}, nil).
		want(83, map[int][]string{0: {"s/a-1"}, 36: {"s/b-1"}}, "10: quiet 1", "46: quiet 1")
}

// TestTimelineSteady: an archive that gets a study image by image, and sends each on, counts what is held all the time. That is no end while it
// lasts, if a count has to hold for longer than the pauses; the control: for less, each pause seems to be one.
func TestTimelineSteady(t *testing.T) {
	t.Parallel()
	for steady, want := range map[time.Duration][]string{
		5 * time.Second: {"11: expected 4"}, time.Second: {"1: expected 1", "3: expected 2", "5: expected 3", "7: expected 4"},
	} {
		l := newTimeline(t, gantry.GroupStudy, gantry.Collect{Quiet: 40 * time.Second}, func(s int) int { return min(1+s/2, 4) })
		l.rules.Expect.Steady = steady * tick
		l.want(20, map[int][]string{0: {"s/a-1"}, 2: {"s/a-2"}, 4: {"s/a-3"}, 6: {"s/a-4"}}, want...)
	}
}

// model is the rules of a collection over again, in seconds and without a database: of one study, with policy rerun.
type model struct {
	quiet, cap int // 0: no quiet period
	wait       bool
	held       map[string]bool
	open       bool
	opened     int // when
	last       int // when the last file came
	base       int // held when it was opened
	counted    int
	first, at  int // when it was said first, and last
	askAt      int
	ended      []string
}

func (m *model) come(now int, instances ...string) {
	if !m.open {
		m.open, m.opened, m.base, m.counted, m.askAt = true, now, len(m.held), 0, now
	}
	for _, x := range instances {
		m.held[x] = true
	}
	m.last = now
	m.hurry(now)
}

// hurry asks as soon as the count has only to hold.
func (m *model) hurry(now int) {
	if m.counted == len(m.held) && m.at-m.first < 1 {
		m.askAt = min(m.askAt, max(now, m.first+1))
	}
}

func (m *model) ask(now, n int) {
	if !m.open || now < m.askAt {
		return
	}
	if m.askAt = now + 1; n < 1 {
		return
	}
	if n != m.counted {
		m.first = now
	}
	m.counted, m.at = n, now
	m.hurry(now)
}

func (m *model) close(now int) {
	if !m.open {
		return
	}
	short := m.counted > len(m.held) && m.wait
	reason := ""
	switch {
	case m.counted == len(m.held) && m.at-m.first >= 1 && (len(m.held) > m.base || m.quiet == 0):
		reason = "expected"
	case now-m.opened >= m.cap:
		reason = "cap"
	case !short && m.quiet > 0 && now-m.last >= m.quiet:
		reason = "quiet"
	}
	if reason != "" {
		m.open = false
		m.ended = append(m.ended, fmt.Sprintf("%d: %s %d", now, reason, len(m.held)))
	}
}

// TestTimelineModel holds the statements to the rules over random timelines: files, copies, an archive that grows, falls back, does not know and is away.
func TestTimelineModel(t *testing.T) {
	t.Parallel()
	const runs, seconds = 10, 60
	reasons := map[string]int{}
	for seed := range runs {
		r := rand.New(rand.NewPCG(uint64(seed), 22))
		m := &model{quiet: []int{0, 3, 8}[r.IntN(3)], cap: []int{12, 40}[r.IntN(2)], wait: r.IntN(2) == 0, held: map[string]bool{}}
		counts := make([]int, seconds+1)
		for s := range counts {
			if s > 0 {
				counts[s] = counts[s-1]
			}
			switch r.IntN(12) {
			case 0, 1, 2:
				counts[s] = max(counts[s], 0) + r.IntN(3)
			case 3:
				counts[s] = 0
			case 4:
				counts[s] = len(m.held) + 1 + r.IntN(4)
			}
		}
		comes := map[int][]string{}
		for n := range 12 {
			s := r.IntN(seconds / 2)
			comes[s] = append(comes[s], fmt.Sprintf("s/%d=%d", n, r.IntN(9)))
		}
		rules := gantry.Collect{Quiet: time.Duration(m.quiet) * time.Second, Cap: time.Duration(m.cap) * time.Second}
		l := newTimeline(t, gantry.GroupStudy, rules, func(s int) int { return counts[s] })
		if !m.wait {
			l.rules.Expect.Missing = gantry.MissingClose
		}
		for s := range seconds + 1 {
			if len(comes[s]) > 0 {
				var instances []string
				for _, p := range comes[s] {
					instances = append(instances, p[len(p)-1:])
				}
				m.come(s, instances...)
				m.ask(s, counts[s])
				m.close(s)
				continue
			}
			m.ask(s, counts[s])
			m.close(s)
		}
		got := l.run(seconds, comes)
		for i, x := range got { // members are files here, and instances there
			var at, n int
			var why string
			fmt.Sscanf(x, "%d: %s %d", &at, &why, &n)
			got[i] = fmt.Sprintf("%d: %s", at, why)
			reasons[why]++
		}
		var want []string
		for _, x := range m.ended {
			var at, n int
			var why string
			fmt.Sscanf(x, "%d: %s %d", &at, &why, &n)
			want = append(want, fmt.Sprintf("%d: %s", at, why))
		}
		if !slices.Equal(got, want) {
			t.Errorf("seed %d, quiet %d, cap %d, wait %t\ncomes %v\ncounts %v\n got %v\nwant %v", seed, m.quiet, m.cap, m.wait, comes, counts, got, want)
		}
	}
	if t.Logf("%v", reasons); len(reasons) < 3 {
		t.Error("not every reason came up")
	}
}
