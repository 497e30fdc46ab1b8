package postgres_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
)

func (b *bed) target(spec gantry.LimiterSpec) int32 {
	b.t.Helper()
	return must(b.EnsureLimiter(b.t.Context(), "http://h:1", spec, true))(b.t)
}

func (b *bed) row() postgres.LimitRow {
	b.t.Helper()
	list := must(b.Limits(b.t.Context(), "http://h:1", 0))(b.t)
	if len(list) != 1 {
		b.t.Fatalf("limits: %+v", list)
	}
	return list[0]
}

func TestRestNeverShrinks(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	id := b.target(gantry.LimiterSpec{MaxUnits: 8, Rate: 10, Burst: 5})
	for _, c := range []struct{ ask, least, most time.Duration }{
		{time.Minute, 50 * time.Second, time.Minute},
		{time.Second, 50 * time.Second, time.Minute},
		{-time.Hour, 50 * time.Second, time.Minute},
		{1000 * time.Hour, gantry.MaxRest - 10*time.Second, gantry.MaxRest},
	} {
		if err := b.Rest(t.Context(), id, c.ask); err != nil {
			t.Fatal(err)
		}
		if got := must(b.Limit(t.Context(), id))(t).Rest; got < c.least || got > c.most {
			t.Errorf("after a rest of %s it rests for %s", c.ask, got)
		}
	}
	// Who does not know of it yet books no start before its end, and no burst at it.
	first, step, err := b.Reserve(t.Context(), id, 2)
	if err != nil || first < gantry.MaxRest-10*time.Second || step != 100*time.Millisecond {
		t.Errorf("the next starts are at %s, each %s (%v)", first, step, err)
	}
	if row := b.row(); row.NotBefore == nil || time.Until(*row.NotBefore) < gantry.MaxRest-time.Minute {
		t.Errorf("not before %v", row.NotBefore)
	}
	if ok := must(b.ResumeLimit(t.Context(), "http://h:1"))(t); !ok || must(b.Limit(t.Context(), id))(t).Rest != 0 {
		t.Error("resume did not end the rest")
	}
}

// TestOneProbeOfAll has sixteen processes ask for the probe of one breaker at the same moment.
func TestOneProbeOfAll(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	id := b.target(gantry.LimiterSpec{MaxUnits: 8, Hold: time.Minute, Breaker: gantry.Breaker{Failures: 3, Open: time.Hour}})
	say := func(w gantry.WorkerID, news gantry.BreakerNews) bool {
		t.Helper()
		return must(b.Breaker(t.Context(), w, id, news))(t)
	}
	state := func(want gantry.BreakerState) {
		t.Helper()
		if got := must(b.Limit(t.Context(), id))(t).State; got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
	}
	if say(1, gantry.BreakerProbe) || !say(1, gantry.BreakerTrip) || say(2, gantry.BreakerTrip) || say(1, gantry.BreakerProbe) {
		t.Error("a breaker opens once, and is not tried before its time")
	}
	state(gantry.BreakerOpen)
	b.exec(`update limiter set breaker_until = now() - interval '1 s' where id = $1`, id)
	var got atomic.Int32
	var wg sync.WaitGroup
	for w := range gantry.WorkerID(16) {
		wg.Go(func() {
			if ok, err := b.Breaker(t.Context(), w+1, id, gantry.BreakerProbe); err == nil && ok {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d processes were given the probe", got.Load())
	}
	state(gantry.BreakerHalfOpen)
	owner := gantry.WorkerID(b.count(`select breaker_worker from limiter where id = $1`, id))
	if say(owner+1, gantry.BreakerAnswered) || say(owner+1, gantry.BreakerFailed) || !say(owner, gantry.BreakerFailed) {
		t.Error("only the process whose probe is out may say what it showed")
	}
	state(gantry.BreakerOpen)
	b.exec(`update limiter set breaker_until = now() where id = $1`, id)
	if !say(7, gantry.BreakerProbe) || !say(7, gantry.BreakerForgone) || !say(8, gantry.BreakerProbe) {
		t.Error("a probe that did not leave is given to the next")
	}
	b.exec(`update limiter set breaker_until = now() where id = $1`, id) // its process is gone
	if state(gantry.BreakerOpen); !say(9, gantry.BreakerProbe) || say(8, gantry.BreakerAnswered) || !say(9, gantry.BreakerAnswered) {
		t.Error("a probe that was lost is given to the next, and does not count if it is found")
	}
	state(gantry.BreakerClosed)
	say(1, gantry.BreakerTrip)
	b.target(gantry.LimiterSpec{MaxUnits: 8})
	state(gantry.BreakerClosed) // there is none any more
}

func TestOperatorsLimitsOutliveDeclarations(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	declared := gantry.LimiterSpec{MaxUnits: 8, Rate: 20, Burst: 4}
	id := b.target(declared)
	n, rate, burst, none, free := 3, 5.0, 2.0, -5, 0.0
	set := func(x postgres.Setting, want gantry.LimiterSpec) {
		t.Helper()
		if ok := must(b.SetLimit(t.Context(), "http://h:1", "ann", x))(t); !ok {
			t.Fatal("the key is not known")
		}
		for range 2 {
			if diff := cmp.Diff(want, must(b.Limit(t.Context(), id))(t)); diff != "" {
				t.Errorf("limits (-want +got):\n%s", diff)
			}
			b.target(declared) // as at a restart
		}
	}
	set(postgres.Setting{Rate: &rate}, gantry.LimiterSpec{MaxUnits: 8, Rate: 5, Burst: 4}) // a rate alone takes no units away
	must(b.ResetLimit(t.Context(), "http://h:1"))(t)
	set(postgres.Setting{Units: &n}, gantry.LimiterSpec{MaxUnits: 3, Rate: 20, Burst: 4})
	set(postgres.Setting{Rate: &rate, Burst: &burst}, gantry.LimiterSpec{MaxUnits: 3, Rate: 5, Burst: 2})
	set(postgres.Setting{Units: &none, Rate: &free}, gantry.LimiterSpec{MaxUnits: -1, Rate: 0, Burst: 2})
	if first, step, err := b.Reserve(t.Context(), id, 1); first != 0 || step != 0 || err != nil {
		t.Errorf("a start without a rate is at %s, %s (%v)", first, step, err)
	}
	must(b.PauseLimit(t.Context(), "http://h:1", "bob"))(t)
	if x := must(b.Limit(t.Context(), id))(t); !x.Paused || x.MaxUnits != 0 {
		t.Errorf("paused it is %+v", x)
	}
	if x := b.row(); x.PausedBy != "bob" || x.SetBy != "ann" || x.Units != 0 || x.Declared != (postgres.Declared{Units: 8, Rate: 20, Burst: 4}) {
		t.Errorf("shown as %+v", x)
	}
	must(b.ResumeLimit(t.Context(), "http://h:1"))(t)
	must(b.ResetLimit(t.Context(), "http://h:1"))(t)
	if diff := cmp.Diff(declared, must(b.Limit(t.Context(), id))(t)); diff != "" {
		t.Errorf("after a reset (-want +got):\n%s", diff)
	}
	for name, f := range map[string]func() (bool, error){
		"set":   func() (bool, error) { return b.SetLimit(t.Context(), "nobody", "ann", postgres.Setting{Units: &n}) },
		"reset": func() (bool, error) { return b.ResetLimit(t.Context(), "nobody") },
		"pause": func() (bool, error) { return b.PauseLimit(t.Context(), "nobody", "ann") },
	} {
		if ok, err := f(); ok || err != nil {
			t.Errorf("%s of an unknown key: %t, %v", name, ok, err)
		}
	}
}

// TestLoweredLimitConverges lowers a limit of twelve to four, and to one, under three processes that all go on
// wanting more. As calls end each keeps to what it is entitled to, and soon no more are out than there are.
func TestLoweredLimitConverges(t *testing.T) {
	t.Parallel()
	for _, to := range []int{4, 1, 0} {
		b := newBed(t)
		id := b.target(gantry.LimiterSpec{MaxUnits: 12})
		workers := []gantry.WorkerID{b.register(time.Minute), b.register(time.Minute), b.register(time.Minute)}
		const want = 4
		for _, w := range workers {
			must(b.Grant(t.Context(), w, id, want, 0))(t)
		}
		must(b.SetLimit(t.Context(), "http://h:1", "ann", postgres.Setting{Units: &to}))(t)
		held := map[gantry.WorkerID]int{workers[0]: 4, workers[1]: 4, workers[2]: 4}
		for range 4 {
			for _, w := range workers {
				if share := must(b.Share(t.Context(), w, id, want))(t); share < held[w] {
					held[w] = share // its calls above that have ended
				}
				held[w] = must(b.Grant(t.Context(), w, id, want, held[w]))(t)
			}
		}
		if n := b.count(`select sum(units) from limit_grant where limiter = $1`, id); n != to {
			t.Errorf("%d units are out of %d", n, to)
		}
		if row := b.row(); row.Units != to || row.Granted != to || row.Waiting != 12-to || row.InUse != to || row.Processes != 3 {
			t.Errorf("shown as %+v", row)
		}
	}
}

// TestLimitsLeavesOutStatesWithout lists targets and pipelines, and of states those that have a limit.
func TestLimitsLeavesOutStatesWithout(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	none := gantry.LimiterSpec{MaxUnits: -1}
	must(b.EnsureLimiters(t.Context(), []string{"dir:/x", "pipeline:q", "pipeline:q:extracting", "pipeline:q:inferring"},
		[]gantry.LimiterSpec{none, none, none, {MaxUnits: 2}}, true))(t)
	var keys []string
	for _, x := range must(b.Limits(t.Context(), "", 0))(t) {
		keys = append(keys, x.Key)
	}
	if diff := cmp.Diff([]string{"dir:/x", "pipeline:p", "pipeline:q", "pipeline:q:inferring"}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if list := must(b.Limits(t.Context(), "", 2))(t); len(list) != 2 {
		t.Errorf("%d of at most two", len(list))
	}
}

// TestRefusedAskCountsApart keeps apart how often a part was tried and how often it was asked to wait.
func TestRefusedAskCountsApart(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.enqueue(1)
	task := b.claim(b.worker, 1)[0]
	part := gantry.Part{PartKey: gantry.PartKey{Ordinal: 1}, Count: 1, DueIn: -1}
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Plan: []gantry.Part{part}})
	part.Attempt, part.Asked, part.Reason = 3, 2, "http_429"
	b.commit(b.worker, &gantry.Write{Lease: task.Lease, Parts: []gantry.Part{part}})
	got := must(b.Parts(t.Context(), task.Task, task.Leg))(t)
	if diff := cmp.Diff([]gantry.Part{part}, got); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}
