package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// turned is an arrival that no task is made from.
func (b *bed) turned(ref byte, version, sequencer string, s gantry.ArrivalStatus) gantry.Arrival {
	b.t.Helper()
	a := gantry.Arrival{ID: must(b.ArrivalIDs(b.t.Context(), 1))(b.t)[0], Source: "p/in", RefMAC: gantry.Digest{ref}, Version: version, Name: "n", Size: 1,
		Sequencer: sequencer, Status: s, Reason: gantry.Code(s.String())}
	if _, err := b.TurnAway(b.t.Context(), []gantry.Arrival{a}); err != nil {
		b.t.Fatal(err)
	}
	return a
}

// admit makes a task of an arrival.
func (b *bed) admit(a gantry.Arrival, public string) int {
	b.t.Helper()
	a.Status, a.Reason = gantry.Accepted, ""
	return must(b.Enqueue(b.t.Context(), []gantry.Admission{{Arrival: a, PublicID: public, Pipeline: b.pipeline, Lane: b.lane, Priority: 5, Within: time.Hour}}))(b.t)
}

// TestKnownAll tells what is on record as it is, of each source by itself; what was found gone is known after an hour. Whether the source tells the
// versions of its objects makes no difference.
func TestKnownAll(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.turned(1, "v1", "s1", gantry.Unmatched)
	b.exec(`update arrival set via = 7, reason = $1 where status = 3`, string(gantry.CodeNoRoute))
	b.turned(1, "v2", "s2", gantry.Superseded)
	b.turned(2, "v1", "s1", gantry.SourceGone)
	b.turned(4, "s1", "s1", gantry.Ignored) // a marker
	again := b.turned(5, "v1", "s1", gantry.SourceGone)
	for _, sequencer := range []string{"s2", "s3"} { // it came back, and was put again
		again.Sequencer = sequencer
		b.admit(again, "five")
	}
	refs := []gantry.Digest{{1}, {1}, {1}, {2}, {3}, {4}, {5}, {5}, {5}}
	versions := []string{"v2", "v1", "v3", "v1", "v1", "v1", "v1", "v1", "v1"}
	sequencers := []string{"s2", "s1", "s3", "s1", "s1", "s1", "s3", "s2", "s1"}
	all := func(source string, via int32, want ...bool) {
		t.Helper()
		for _, told := range [][]string{versions, make([]string, len(refs))} {
			if diff := cmp.Diff(want, must(b.KnownAll(t.Context(), source, via, refs, told, sequencers))(t)); diff != "" {
				t.Errorf("of %s under %d, with versions %q: %s", source, via, told, diff)
			}
		}
	}
	check := func(want ...bool) {
		t.Helper()
		all("p/in", 7, want...)
		for i := range refs {
			if one := must(b.Known(t.Context(), "p/in", refs[i], sequencers[i]))(t); one != want[i] {
				t.Errorf("%d: Known says %v", i, one)
			}
			decided := want[i] && refs[i] != gantry.Digest{2} // what was gone is there again
			for _, version := range []string{versions[i], ""} {
				if one := must(b.Decided(t.Context(), "p/in", refs[i], version, sequencers[i], 7))(t); one != decided {
					t.Errorf("%d: Decided of version %q says %v", i, version, one)
				}
			}
		}
	}
	check(true, true, false, false, false, true, true, false, false)
	b.exec(`update arrival set at = now() - interval '61 min' where status = 2`)
	check(true, true, false, true, false, true, true, false, false)
	all("p/in", 8, true, false, false, true, false, true, true, false, false) // under other rules
	all("p/other", 0, make([]bool, len(refs))...)
	if got := must(b.KnownAll(t.Context(), "p/in", 0, nil, nil, nil))(t); len(got) != 0 {
		t.Errorf("nothing: %v", got)
	}
}

// A version that was replaced is known for good as it was, whatever the rules, and listed; the same bytes that are put again are another arrival.
func TestFormers(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	list := func(want ...string) {
		t.Helper()
		ever, some := must(b.EverFormer(t.Context(), "p/in"))(t), must(b.SomeFormer(t.Context(), "p/in", gantry.Digest{1}))(t)
		if ever != (len(want) > 0) || some != ever {
			t.Errorf("any of the source: %t, of the object: %t; want %q", ever, some, want)
		}
		for _, version := range []string{"etag", "former v1", "s1", "s2"} {
			if is := must(b.IsFormer(t.Context(), "p/in", gantry.Digest{1}, version))(t); is != slices.Contains(want, version) {
				t.Errorf("%s: %t, want %q", version, is, want)
			}
		}
		if must(b.EverFormer(t.Context(), "p/other"))(t) || must(b.SomeFormer(t.Context(), "p/in", gantry.Digest{2}))(t) || must(b.IsFormer(t.Context(), "p/in", gantry.Digest{2}, "former v1"))(t) {
			t.Error("so is another's")
		}
	}
	b.turned(1, "etag", "s0", gantry.Superseded) // as events tell of it
	list()
	a := gantry.Arrival{Source: "p/in", RefMAC: gantry.Digest{1}, Version: "former v1", Sequencer: "s1", Status: gantry.Superseded, Reason: gantry.CodeFormer}
	for i, fresh := range []int{1, 0} { // as after a crash
		a.ID = must(b.ArrivalIDs(t.Context(), 1))(t)[0]
		if made := must(b.TurnAway(t.Context(), []gantry.Arrival{a}))(t); len(made) != fresh {
			t.Errorf("time %d: %d rows", i, len(made))
		}
	}
	list("former v1")
	a.Version = a.Sequencer // as it is known once it came to light
	a.ID = must(b.ArrivalIDs(t.Context(), 1))(t)[0]
	must(b.TurnAway(t.Context(), []gantry.Arrival{a}))(t)
	list("former v1", "s1")
	for sequencer, want := range map[string]bool{"s1": true, "s2": false} {
		known := must(b.KnownAll(t.Context(), "p/in", 7, []gantry.Digest{{1}}, []string{"etag"}, []string{sequencer}))(t)[0]
		if decided := must(b.Decided(t.Context(), "p/in", gantry.Digest{1}, "etag", sequencer, 8))(t); known != want || decided != want {
			t.Errorf("%s: known %t, decided %t", sequencer, known, decided)
		}
	}
	a.Version, a.Sequencer = "etag", "s2"
	if n := b.admit(a, "one"); n != 1 {
		t.Errorf("%d tasks of the same bytes", n)
	}
	list("former v1", "s1")
}

// TestComesBack makes a task of what was gone and came back, with the bytes that came then.
func TestComesBack(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	a := b.turned(1, "v", "s1", gantry.SourceGone)
	a.Sequencer, a.Location, a.Place, a.SHA, a.Size = "s2", "somewhere", "there", gantry.Digest{5}, 7
	if n := b.admit(a, "one"); n != 1 {
		t.Fatalf("%d tasks", n)
	}
	if n := b.count(`select count(*) from arrival where status = 0 and reason is null and location = 'somewhere' and place = 'there' and sha is not null and size = 7 and sequencer = 's2'`); n != 1 {
		t.Error("the row is not that of what came back")
	}
	a.Sequencer, a.Location, a.Place, a.SHA, a.Size = "s3", "elsewhere", "", gantry.Digest{6}, 8
	b.admit(a, "one")
	if n := b.count(`select count(*) from arrival where location = 'somewhere' and place = 'there' and size = 7 and sequencer = 's3'`); n != 1 {
		t.Error("what was accepted did not stay as it was")
	}
}

// TestSources lists what was reported: counts add up, and what a report says nothing of stays.
func TestSources(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	at := time.Now().Truncate(time.Microsecond)
	first := postgres.SourceReport{Source: "p/in", Kind: "s3", Progress: []byte("sealed"), Backlog: true, Passed: 10, Worst: 3 * time.Second, Half: 2 * time.Second, Last: time.Second,
		Sweeps: 1, Missed: 2, Sweep: gantry.Sweep{Began: at, Took: time.Minute, Objects: 100, Missed: 2}, Failure: postgres.SourceFailure{Part: "poll", Code: "access_denied", Kind: gantry.Denied, At: at},
		Channels: []postgres.ChannelReport{{Channel: "poll", At: at, Told: 3}, {Channel: "sqs"}}}
	second := postgres.SourceReport{Source: "p/in", Kind: "s3", Worst: -1, Sweeps: 2, Missed: 1, Channels: []postgres.ChannelReport{{Channel: "poll", At: at.Add(-time.Hour), Told: 1}}}
	for _, r := range []postgres.SourceReport{first, second, {Source: "p/a", Kind: "dir", Worst: -1}} {
		if _, err := b.ReportSource(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range []gantry.ArrivalStatus{gantry.Superseded, gantry.SourceGone, gantry.SourceGone, gantry.Unmatched, gantry.Ignored} {
		b.turned(byte(i), "v", "s", s)
	}
	b.enqueue(3)
	list := must(b.Sources(t.Context()))(t)
	if len(list) != 2 || list[0].Source != "p/a" || list[0].Lag != nil || list[0].LastSweep != nil || list[0].LastError != nil || list[0].LastEvent != nil {
		t.Fatalf("%+v", list)
	}
	x := list[1]
	if time.Since(x.At) > time.Minute || x.LastEvent == nil || !x.LastEvent.Equal(at) || !x.LastSweep.Began.Equal(at) || !x.LastError.At.Equal(at) {
		t.Errorf("times %+v", x)
	}
	want := gantry.SourceStatus{Source: "p/in", Kind: "s3", Lag: &gantry.SourceLag{Last: 1, Half: 2, Max: 3},
		LastSweep: &gantry.SweepStatus{Took: 60, Objects: 100, Missed: 2}, Sweeps: 3, Missed: 3,
		Arrivals:  gantry.ArrivalCounts{Accepted: 3, Superseded: 1, SourceGone: 2, Unmatched: 1, Ignored: 1},
		LastError: &gantry.SourceFailure{Part: "poll", Code: "access_denied", Kind: "denied"}, Channels: []gantry.ChannelStatus{{Channel: "poll", Heard: x.LastEvent, Told: 4}, {Channel: "sqs"}}}
	want.At, want.LastEvent, want.LastSweep.Began, want.LastError.At = x.At, x.LastEvent, x.LastSweep.Began, x.LastError.At
	if diff := cmp.Diff(want, x); diff != "" {
		t.Error(diff)
	}
	if p := must(b.SourceProgress(t.Context(), "p/in"))(t); string(p) != "sealed" {
		t.Errorf("progress %q", p)
	}
	if p := must(b.SourceProgress(t.Context(), "p/nobody"))(t); p != nil {
		t.Errorf("progress %q of nobody", p)
	}
}

// TestFailureIsOver: a failure ends when the same part works, in the same report or a later one, and not when another part does, nor by
// what worked before it. One of which no part is on record ends by any.
func TestFailureIsOver(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	at := time.Now().Truncate(time.Microsecond)
	fails := func(part string, at, over time.Time) postgres.SourceReport {
		return postgres.SourceReport{Source: "p/in", Worst: -1, Failure: postgres.SourceFailure{Part: part, Code: "slow_down", Kind: gantry.Unavailable, At: at, Over: over}}
	}
	works := func(part string, at time.Time) postgres.SourceReport {
		return postgres.SourceReport{Source: "p/in", Worst: -1, Worked: []postgres.SourceWorked{{Part: "object", At: at.Add(-time.Hour)}, {Part: part, At: at}}}
	}
	for i, c := range []struct {
		r    postgres.SourceReport
		over time.Time
	}{
		{fails("sqs", at, time.Time{}), time.Time{}},
		{works("poll", at.Add(time.Second)), time.Time{}},
		{works("sqs", at.Add(-time.Second)), time.Time{}},
		{postgres.SourceReport{Source: "p/in", Worst: -1}, time.Time{}},
		{works("sqs", at.Add(2*time.Second)), at.Add(2 * time.Second)},
		{works("sqs", at.Add(3*time.Second)), at.Add(2 * time.Second)},
		{fails("sqs", at.Add(4*time.Second), time.Time{}), time.Time{}},
		{fails("object", at.Add(5*time.Second), at.Add(6*time.Second)), at.Add(6 * time.Second)},
		{fails("", at.Add(7*time.Second), time.Time{}), time.Time{}},
		{works("webhook", at.Add(8*time.Second)), at.Add(8 * time.Second)},
	} {
		if _, err := b.ReportSource(t.Context(), c.r); err != nil {
			t.Fatal(err)
		}
		e := must(b.Sources(t.Context()))(t)[0].LastError
		if e == nil || e.Code != "slow_down" || (e.Over == nil) != c.over.IsZero() || e.Over != nil && !e.Over.Equal(c.over) {
			t.Errorf("report %d: %+v", i, e)
		}
	}
}

// TestQueued counts no further than it has to.
func TestQueued(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(3)
	for n, want := range map[int]bool{1: true, 3: true, 4: false} {
		if got := must(b.Queued(t.Context(), b.lane, n))(t); got != want {
			t.Errorf("%d: %v", n, got)
		}
	}
}

// TestSourcePlans: objects are looked up by key, whatever a source has, and a queue is counted along its index.
func TestSourcePlans(t *testing.T) {
	t.Parallel()
	p := newPlans(t, true)
	p.exec(`insert into arrival(source, ref_mac, version, size, sequencer) select 'p/in', sha256(n::text::bytea), 'v', 1, 's' from generate_series(1, 50000) n`)
	p.exec(`vacuum analyze arrival`)
	var keys string
	if err := p.QueryRow(t.Context(), `select quote_literal(array(select sha256(n::text::bytea) from generate_series(49000, 49999) n)::text) || '::bytea[]'`).Scan(&keys); err != nil {
		t.Fatal(err)
	}
	p.exec(`insert into arrival(source, ref_mac, version, size, sequencer) select 'p/in', sha256('49000'), n::text, 1, n || '-1' from generate_series(1, 20000) n`) // one was overwritten often
	for version, reads := range map[string]bool{"v": false, "": true} {                                                                                             // the second is the control: all its states are read
		plan := p.explain(postgres.KnownForTest, `'p/in'`, keys, "1", "'no_route'", "array_fill('s'::text, array[1000])", "array_fill('"+version+"'::text, array[1000])")
		if !strings.Contains(plan, "arrival_source_ref_mac_version_key") || strings.Contains(plan, "Seq Scan on arrival") || strings.Contains(plan, "Rows Removed by Filter") != reads || !strings.Contains(plan, "rows=1000") {
			t.Errorf("a page with versions %q is looked up so:\n%s", version, plan)
		}
		plan = p.explain(postgres.DecidedForTest, `'p/in'`, `sha256('49000')`, "'s'", "1", "'{2,3}'", "'no_route'", "3", "'"+version+"'")
		if !strings.Contains(plan, "arrival_source_ref_mac_version_key") || strings.Contains(plan, "Seq Scan on arrival") || strings.Contains(plan, "Rows Removed by Filter") != reads {
			t.Errorf("one with version %q is looked up so:\n%s", version, plan)
		}
	}
	p.exec(`update arrival set status = 1, reason = 'former_version' where ref_mac = sha256('49000') and version ~ '^[0-9]*7$'`) // of these, 2000
	p.exec(`vacuum analyze arrival`)
	for _, x := range []struct {
		index, sql string
		args       []string
	}{
		{"arrival_former", postgres.EverFormerSQL, []string{`'p/in'`}},
		{"arrival_former", postgres.SomeFormerSQL, []string{`'p/in'`, `sha256('49000'::bytea)`}},
		{"arrival_source_ref_mac_version_key", postgres.IsFormerSQL, []string{`'p/in'`, `sha256('49000'::bytea)`, "'7'"}},
	} {
		plan := p.explain(x.sql, x.args...)
		if !strings.Contains(plan, x.index) || strings.Contains(plan, "Rows Removed by Filter") || !strings.Contains(plan, "rows=1 ") || strings.Contains(plan, "rows=2000") {
			t.Errorf("former versions are looked up so:\n%s", plan)
		}
	}
	plan := p.explain(postgres.QueuedForTest, fmt.Sprint(p.lane), "10000")
	if !strings.Contains(plan, "task_hot_ready") || !strings.Contains(plan, "rows=10000") {
		t.Errorf("a queue is counted so:\n%s", plan)
	}
	p.exec(`insert into source_state(source, place) select 'p/' || n, 'a' from generate_series(1, 5000) n`)
	p.exec(`vacuum analyze source_state`)
	if plan = p.explain(postgres.PlacesForTest, `'{p/1,p/2,new}'`, `'{s3,s3,s3}'`, `'{a,b,c}'`); !strings.Contains(plan, "Conflict Arbiter Indexes: source_state_pkey") || strings.Contains(plan, "Seq Scan on source_state") {
		t.Errorf("places are put down so:\n%s", plan)
	}
	if plan = p.explain(postgres.MovedForTest, `'p/7'`); strings.Count(plan, "using source_state_pkey") != 2 || strings.Contains(plan, "Seq Scan") {
		t.Errorf("a place is forgotten so:\n%s", plan)
	}
}

// TestKnownOfAKeyThatIsOverwritten reads of a key no more than the state that is asked for, however many it had. No other test runs
// beside it, whose allocations would count.
func TestKnownOfAKeyThatIsOverwritten(t *testing.T) {
	b := newBed(t)
	mac := gantry.MAC([]byte("k"), "status.json")
	b.exec(`insert into arrival(source, ref_mac, version, size, sequencer) select 'p/in', $1, n::text, 1, n || '-1-1' from generate_series(1, 2000) n`, mac[:])
	var got []bool
	n := testing.AllocsPerRun(3, func() {
		got = must(b.KnownAll(t.Context(), "p/in", 1, []gantry.Digest{mac, mac}, make([]string, 2), []string{"7-1-1", "none"}))(t)
	})
	if !got[0] || got[1] {
		t.Error(got)
	}
	if n > 1000 {
		t.Errorf("%.0f allocations for a key of 2000 states", n)
	}
}
