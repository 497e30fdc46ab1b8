package audit_test

import (
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/audit"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// sent puts a call on record that began so long after a moment and took so long; below 0: no outcome.
func (b *bed) sent(limiter int32, from time.Time, start, took time.Duration, r gantry.Result) {
	b.t.Helper()
	made := from.Truncate(time.Millisecond)
	in := &gantry.Intent{ID: gantry.NewIDs(func() time.Time { return made }, rand.Reader).New(), Boundary: gantry.AtProcessor, Op: gantry.OpProcess,
		Limiter: limiter, Pipeline: b.pipeline}
	b.commit(b.worker, &gantry.Write{Intent: in})
	if took >= 0 {
		b.commit(b.worker, &gantry.Write{Outcome: &gantry.Outcome{ID: in.ID, Limiter: limiter, Result: r, Sent: start, Took: took}})
	}
}

// TestLimitsFromTheRecord lays calls out in time and reads from the record how many ran at once and began
// within a second. The limits are two at once, and four a second with a burst of two.
func TestLimitsFromTheRecord(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	from := time.Now().Add(-time.Minute)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for i := range 6 { // six within a second, two at once, each taking up where another ends
		b.sent(b.limiter, from, ms(100*i), ms(200), gantry.ResultOK)
	}
	b.sent(b.limiter, from, ms(10), ms(5000), gantry.ResultNotSent)
	b.sent(b.limiter, from.Add(ms(20000)), 0, -1, 0)
	b.sent(b.limiter, from.Add(ms(20000)), 0, -1, 0)
	b.sent(b.limiter, from.Add(ms(21000)), 0, ms(100), gantry.ResultFailed)
	b.sent(b.limiter, from.Add(-time.Hour), 0, 2*time.Hour, gantry.ResultFenced) // of a process that was frozen
	want := audit.Usage{Target: "http://a", Units: 2, Rate: 4, Burst: 2, Calls: 10, Lost: 2, AtOnce: 2, WithLost: 3, Starts: 6}
	b.limits(want)

	b.sent(b.limiter, from, ms(1000), ms(100), gantry.ResultOK) // a second after the first
	want.Calls = 11
	b.limits(want)
	b.sent(b.limiter, from, ms(990), ms(2), gantry.ResultFenced) // within it
	want.Calls, want.Starts, want.Broken = 12, 7, 2
	want.Note = "the limit as it stands now; if it was higher before, that is not on record"
	b.limits(want, audit.RuleStarts, audit.RuleStarts)        // its own, and that of the one before it in this list
	b.sent(b.limiter, from, ms(350), ms(20), gantry.ResultOK) // beside two others
	want.Calls, want.AtOnce, want.Starts, want.Broken = 13, 3, 8, 4
	b.limits(want, audit.RuleAtOnce, audit.RuleStarts, audit.RuleStarts, audit.RuleStarts)

	b.forge(`update limiter set max_units = null, rate = null where key = 'http://a'`)
	want.Units, want.Rate, want.Starts, want.Broken, want.Note = -1, 0, 0, 0, ""
	b.limits(want)
	b.forge(`update limiter set max_units = 0 where key = 'http://a'`)
	want.Units, want.Note = 0, "paused now: calls from before ran under another limit, which is not on record"
	b.limits(want)
}

// limits wants one target with this use, and breaches of these rules in their order.
func (b *bed) limits(want audit.Usage, rules ...string) {
	b.t.Helper()
	var got []string
	use, err := audit.Limits(b.t.Context(), b.Store, "", time.Time{}, func(x audit.Breach) error {
		got = append(got, x.Rule)
		if x.Target != "http://a" || x.Call == "" || x.At.IsZero() || float64(x.N) <= x.Limit {
			b.t.Errorf("breach %+v", x)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if diff := cmp.Diff([]audit.Usage{want}, use); diff != "" {
		b.t.Errorf("use (-want +got):\n%s", diff)
	}
	slices.Sort(got)
	if diff := cmp.Diff(rules, got); diff != "" {
		b.t.Errorf("breaches (-want +got):\n%s", diff)
	}
}

// TestLimitsAreSelected keeps targets apart.
func TestLimitsAreSelected(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	other := must(b.EnsureLimiter(t.Context(), "http://b", gantry.LimiterSpec{MaxUnits: 1, Hold: time.Minute}, true))(t)
	from := time.Now().Add(-time.Hour)
	for range 2 {
		b.sent(b.limiter, from, 0, time.Second, gantry.ResultOK)
		b.sent(other, from, 0, time.Second, gantry.ResultOK)
		b.sent(other, from.Add(30*time.Minute), 0, time.Second, gantry.ResultOK)
	}
	for _, c := range []struct {
		key      string
		since    time.Time
		targets  int
		breaches int
	}{{"", time.Time{}, 2, 2}, {"http://a", time.Time{}, 1, 0}, {"http://b", time.Time{}, 1, 2}, {"http://b", from.Add(time.Minute), 1, 1}, {"http://a", from.Add(time.Minute), 0, 0}} {
		n := 0
		use, err := audit.Limits(t.Context(), b.Store, c.key, c.since, func(audit.Breach) error { n++; return nil })
		if err != nil || len(use) != c.targets || n != c.breaches {
			t.Errorf("%q since %s: %d targets, %d breaches, %v", c.key, c.since, len(use), n, err)
		}
	}
	if _, err := audit.Limits(t.Context(), b.Store, "http://c", time.Time{}, nil); err == nil {
		t.Error("a target that nobody knows keeps its limits")
	}
}
