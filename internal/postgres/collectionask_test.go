package postgres_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

// asking is a ward whose collections an archive is asked about: group is the study.
type asking struct{ *ward }

// steady is how long a count must hold there.
const steady = time.Second

func newAsking(t *testing.T, rules gantry.Collect) asking {
	t.Helper()
	rules.Expect = &gantry.Expect{Steady: steady, Missing: gantry.MissingWait}
	return asking{newWard(t, rules)}
}

// came takes in files named study/file, or study/file=instance where several files are one instance.
func (a asking) came(paths ...string) []gantry.Gathered {
	a.t.Helper()
	var list []gantry.Gathering
	for _, p := range paths {
		path, instance, ok := strings.Cut(p, "=")
		x := a.file(path)
		if !ok {
			instance = x.Arrival.Name
		}
		mac := gantry.MAC([]byte("k"), instance)
		x.Instance, x.Study = int64(binary.BigEndian.Uint64(mac[:])), "1.2."+x.Name
		list = append(list, x)
	}
	return must(a.Gather(a.t.Context(), list))(a.t)
}

// many names n files of a study, from the first on.
func many(study string, first, n int) (paths []string) {
	for i := range n {
		paths = append(paths, fmt.Sprintf("%s/%04d", study, first+i))
	}
	return paths
}

// pass lets time pass for everything that a collection knows.
func (a asking) pass(d time.Duration) {
	a.t.Helper()
	a.exec(`update collection set due = due - d, cap = cap - d, at = at - d, last_at = last_at - d, ask_at = ask_at - d, counted_at = counted_at - d, asked_at = asked_at - d
		from (select $1 * interval '1 us' as d) x where not closed`, d.Microseconds())
}

// ask takes the question that is due.
func (a asking) ask() gantry.Question {
	a.t.Helper()
	q, ok, err := a.ClaimQuestion(a.t.Context(), time.Minute, nil)
	if err != nil || !ok {
		a.t.Fatalf("no question is due: %v", err)
	}
	return q
}

// says lets the archive answer the question that is due, and asks again after a second.
func (a asking) says(n int) gantry.Counted {
	a.t.Helper()
	return a.answer(a.ask(), n)
}

func (a asking) answer(q gantry.Question, n int) gantry.Counted {
	a.t.Helper()
	c, ok, err := a.Answered(a.t.Context(), q, n, a.rules, time.Second)
	if err != nil || !ok {
		a.t.Fatalf("the answer was not taken in: %t, %v", ok, err)
	}
	return c
}

// steadily lets the archive say a number twice, for long enough.
func (a asking) steadily(n int) gantry.Counted {
	a.t.Helper()
	a.says(n)
	a.pass(steady)
	return a.says(n)
}

// wantClosed wants so many collections to be due, as "revision reason members" each.
func (a asking) wantEnds(want ...string) {
	a.t.Helper()
	var got []string
	for _, c := range must(a.CloseDue(a.t.Context(), 1000, publicID))(a.t) {
		got = append(got, fmt.Sprintf("%d %s %d", c.Revision, c.Reason, c.Members))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		a.t.Errorf("closed %v, want %v", got, want)
	}
}

// TestExpected: a count that held for long enough closes in the commit of the last member.
func TestExpected(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	if got := a.came("s/1"); got[0].Ask != 0 {
		t.Errorf("the archive is asked after %s", got[0].Ask)
	}
	q := a.ask()
	if q.Study != "1.2.s" || q.Series != "s" || q.Number != 1 || q.Version != a.pipeline || q.Pipeline != "p" || q.Source != "p/in" {
		t.Errorf("question %+v", q)
	}
	a.answer(q, 324)
	a.pass(steady)
	a.says(324)
	a.came(many("s", 2, 322)...)
	a.wantEnds()
	wantDue(t, a.came("s/last"), 0)
	a.wantEnds("0 expected 324")
	if _, ok, err := a.ClaimQuestion(t.Context(), time.Minute, nil); ok || err != nil {
		t.Errorf("a closed collection is asked about: %v", err)
	}
}

// TestExpectedTwice: one answer closes nothing, since the archive may get the study just now. What is there by then waits for the second.
func TestExpectedTwice(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	a.came("s/1")
	if c := a.says(2); c.Due < never-time.Minute {
		t.Errorf("due in %s with one of two", c.Due)
	}
	got := a.came("s/2")
	wantDue(t, got, time.Minute)
	if got[0].Ask > steady || got[0].Ask < steady-500*time.Millisecond {
		t.Errorf("asked again in %s", got[0].Ask)
	}
	a.wantEnds()
	a.pass(steady)
	if c := a.says(2); c.Due != 0 {
		t.Errorf("due in %s", c.Due)
	}
	a.wantEnds("0 expected 2")
}

// TestExpectedGrows: a count that grows is believed as it grows, and has to hold anew.
func TestExpectedGrows(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	a.came("s/1")
	for n := 2; n < 6; n++ {
		a.steadily(n)
		a.pass(steady)
		if c := a.says(n + 1); c.Due < never-time.Minute {
			t.Errorf("with %d of %d due in %s", n-1, n+1, c.Due)
		}
		a.came(fmt.Sprint("s/", n))
		a.wantEnds()
		a.pass(steady)
	}
	a.came("s/6")
	a.steadily(6)
	a.wantEnds("0 expected 6")
}

// TestExpectedOld: a count smaller than what is held is old, and closes nothing; quiet does.
func TestExpectedOld(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	a.came(many("s", 1, 5)...)
	if c := a.steadily(4); c.Due <= 0 || c.Due > time.Minute {
		t.Errorf("due in %s", c.Due)
	}
	wantDue(t, a.came("s/6"), time.Minute)
	a.wantEnds()
	a.pass(30 * time.Second)
	a.steadily(7) // it caught up
	a.pass(2 * time.Minute)
	a.wantEnds()
	a.says(6)
	a.pass(steady)
	a.says(6)
	a.wantEnds("0 expected 6")
	a.came(many("t", 1, 5)...)
	a.steadily(4)
	a.pass(time.Minute)
	a.wantEnds("0 quiet 5")
}

// TestExpectedOldControl: without that guard, a collection would be closed by a count that it has passed.
func TestExpectedOldControl(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	a.came(many("s", 1, 5)...)
	a.says(4)
	a.pass(steady)
	q := a.ask()
	loose := strings.Replace(postgres.AnsweredSQL, "r.held = r.counted and r.asked_at", "r.held >= r.counted and r.asked_at", 1)
	if loose == postgres.AnsweredSQL {
		t.Fatal("the statement is not written as this control expects")
	}
	a.exec(loose, q.Collection, q.Number, 4, 1000000, steady.Microseconds(), true, time.Minute.Microseconds())
	a.wantEnds("0 expected 5")
}

// TestMissing: what the archive has and we have not is waited for, beyond quiet, until cap; or is not, if the rules say so.
func TestMissing(t *testing.T) {
	t.Parallel()
	for _, policy := range []gantry.MissingPolicy{gantry.MissingWait, gantry.MissingClose} {
		a := newAsking(t, gantry.Collect{Quiet: time.Minute, Cap: 30 * time.Minute})
		a.rules.Expect.Missing = policy
		a.came("s/1", "s/2")
		a.steadily(3)
		a.pass(time.Minute)
		if policy == gantry.MissingClose {
			a.wantEnds("0 quiet 2")
			continue
		}
		a.wantEnds()
		a.pass(28 * time.Minute)
		a.wantEnds()
		a.pass(time.Minute)
		a.wantEnds("0 cap 2")
	}
}

// TestArchiveAway: one that never answers, or does not know, blocks neither quiet nor cap.
func TestArchiveAway(t *testing.T) {
	t.Parallel()
	for end, rules := range map[string]gantry.Collect{"quiet": {Quiet: time.Minute}, "cap": {Cap: time.Minute}} {
		a := newAsking(t, rules)
		a.came("s/1")
		for range 3 {
			q := a.ask()
			if err := a.Unanswered(t.Context(), q, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			if next := must(a.NextQuestion(t.Context(), nil))(t); next < 9*time.Second || next > 10*time.Second {
				t.Errorf("asked again in %s", next)
			}
			a.pass(10 * time.Second)
		}
		a.wantEnds()
		a.pass(30 * time.Second)
		a.wantEnds("0 " + end + " 1")
	}
}

// TestLastCountStays: an archive that is away later does not make what it said unsaid.
func TestLastCountStays(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	a.came("s/1")
	a.steadily(3)
	a.pass(2 * time.Second)
	if err := a.Unanswered(t.Context(), a.ask(), time.Hour); err != nil {
		t.Fatal(err)
	}
	a.pass(10 * time.Minute)
	a.wantEnds()
	a.came("s/2", "s/3")
	a.wantEnds("0 expected 3")
}

// TestInstancesCount: files that are one instance, and its revisions, count once; what has none counts by itself.
func TestInstancesCount(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	a.came("s/1", "s/2=1", "s/3=1", "s/1")
	a.steadily(3)
	a.came("s/1@2", "s/4=2", "s/5=2")
	a.wantEnds()
	wantDue(t, a.came("s/6"), 0)
	a.wantEnds("0 expected 6")
	b := newAsking(t, gantry.Collect{Quiet: time.Minute})
	b.came("s/1")
	b.steadily(3)
	b.gather("s/x", "s/y") // nobody knows what instances they are
	b.wantEnds("0 expected 3")
}

// TestInstancesControl: counted by arrivals, a study would be closed that lacks an instance.
func TestInstancesControl(t *testing.T) {
	t.Parallel()
	a := newAsking(t, gantry.Collect{Quiet: time.Minute})
	a.came("s/1", "s/2=1")
	a.says(2)
	a.pass(steady)
	q := a.ask()
	byArrivals := strings.ReplaceAll(postgres.AnsweredSQL, "distinct coalesce(m.instance, m.arrival)", "*")
	if byArrivals == postgres.AnsweredSQL {
		t.Fatal("the statement is not written as this control expects")
	}
	a.exec(byArrivals, q.Collection, q.Number, 2, 1000000, steady.Microseconds(), true, time.Minute.Microseconds())
	a.wantEnds("0 expected 2")
}

// TestLateOfExpected holds late images to the policies, after each way in which a collection ends.
func TestLateOfExpected(t *testing.T) {
	t.Parallel()
	ends := map[string]func(a asking){
		"expected": func(a asking) { a.steadily(2) },
		"quiet":    func(a asking) { a.pass(time.Minute) },
		"cap":      func(a asking) { a.steadily(9); a.pass(never) },
	}
	for reason, end := range ends {
		for policy, first := range map[gantry.LatePolicy]int{gantry.LateRerun: 3, gantry.LateAppend: 1, gantry.LateIgnore: 0} {
			t.Run(reason+" "+string(policy), func(t *testing.T) {
				t.Parallel()
				a := newAsking(t, gantry.Collect{Quiet: time.Minute, Late: policy})
				a.came("s/1", "s/2")
				end(a)
				a.wantEnds("0 " + reason + " 2")
				got := a.came("s/3")
				if policy == gantry.LateIgnore {
					if got[0].Status != gantry.Ignored || got[0].Ask >= 0 {
						t.Errorf("%+v", got)
					}
					a.pass(never)
					a.wantEnds()
					return
				}
				// It is asked about anew, and one more is on the way.
				wantDue(t, got, time.Minute)
				a.steadily(4)
				a.pass(10 * time.Minute)
				a.wantEnds()
				wantDue(t, a.came("s/4"), 0)
				a.wantEnds(fmt.Sprintf("1 expected %d", first+1))
				// A study that is whole is sent once more, with other bytes: nothing says when that is over but quiet.
				a.came("s/1@2")
				if c := a.steadily(4); c.Due <= 0 {
					t.Errorf("due in %s, with the first of what is sent again", c.Due)
				}
				a.came("s/2@2")
				a.wantEnds()
				a.pass(time.Minute)
				a.wantEnds(fmt.Sprintf("2 quiet %d", map[bool]int{true: 4, false: 2}[policy == gantry.LateRerun]))
			})
		}
	}
}
