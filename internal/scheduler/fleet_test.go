package scheduler

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
)

// real is some sessions on a real database, each with connections of its own.
type real struct {
	*postgres.Store
	limiter  int32
	sessions []*Session
}

// realFleet runs so many sessions until the test ends, on a limiter of the spec.
func realFleet(t *testing.T, n int, spec gantry.LimiterSpec) *real {
	t.Helper()
	dsn := postgrestest.DSN(t)
	r := &real{}
	for i := range n {
		store, err := postgres.Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			r.Store = store
			if r.limiter, err = store.EnsureLimiter(t.Context(), "http://h:1", spec, true); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		up, done := make(chan *Session, 1), make(chan error, 1)
		go func() {
			done <- Run(ctx, store, Options{TTL: 5 * time.Second, Rand: rand.Float64}, func(_ context.Context, s *Session) (Begin, error) {
				up <- s
				return func(gantry.Task) (Step, func()) { return nil, nil }, nil
			})
		}()
		select {
		case s := <-up:
			r.sessions = append(r.sessions, s)
		case err := <-done:
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("session: %v", err)
			}
			store.Close()
		})
	}
	return r
}

// used notes the units in use over time.
type used struct {
	mu       sync.Mutex
	now, top int
	calls    int
	starts   []time.Time
	since    time.Time
	from     time.Time     // of the measurement
	sum      time.Duration // units x time
}

func (u *used) change(by int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	at := time.Now()
	if !u.from.IsZero() {
		u.sum += time.Duration(u.now) * at.Sub(u.since)
	}
	u.since = at
	u.now += by
	u.top = max(u.top, u.now)
	if by > 0 {
		u.calls++
		u.starts = append(u.starts, at)
	}
}

// begin begins the measurement anew.
func (u *used) begin() {
	u.change(0)
	u.mu.Lock()
	u.from, u.sum, u.calls = u.since, 0, 0
	u.mu.Unlock()
}

// share is the part of so many units that was in use.
func (u *used) share(units int) float64 {
	u.change(0)
	u.mu.Lock()
	defer u.mu.Unlock()
	return float64(u.sum) / float64(u.since.Sub(u.from)) / float64(units)
}

// load calls from so many callers of a session, for about length each, until ctx ends.
func (r *real) load(ctx context.Context, wg *sync.WaitGroup, s *Session, u *used, callers int, length time.Duration, show func() gantry.Showing) {
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				release, err := s.Acquire(ctx, r.limiter, 5)
				if err != nil {
					return
				}
				began := time.Now()
				u.change(1)
				time.Sleep(time.Duration((0.5 + rand.Float64()) * float64(length)))
				u.change(-1)
				x := show()
				x.Began, x.Took = began, time.Since(began)
				s.Saw(r.limiter, x)
				release()
			}
		})
	}
}

func answered() gantry.Showing { return gantry.Showing{Verdict: gantry.Alive} }

// TestUnitsAreUsed measures what part of a limit three processes use that want more than there is, one of
// them only now and then: time-weighted, and never more than there is. A machine that does much else may
// need another look.
func TestUnitsAreUsed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, units := range []int{8, 64} {
		t.Run(fmt.Sprint(units), func(t *testing.T) {
			r := realFleet(t, 3, gantry.LimiterSpec{MaxUnits: units})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var u used
			r.load(ctx, &wg, r.sessions[0], &u, 2*units, 40*time.Millisecond, answered)
			r.load(ctx, &wg, r.sessions[1], &u, units, 40*time.Millisecond, answered)
			time.Sleep(time.Second)
			share := 0.0
			for look := 0; look < 3 && share < 0.95; look++ {
				u.begin()
				for range 3 { // a third comes and goes
					some, enough := context.WithTimeout(ctx, 400*time.Millisecond)
					r.load(some, &wg, r.sessions[2], &u, units/2, 40*time.Millisecond, answered)
					<-some.Done()
					enough()
					time.Sleep(400 * time.Millisecond)
				}
				share = u.share(units)
				t.Logf("%.1f %% of %d units over %d calls", 100*share, units, u.calls)
			}
			cancel()
			wg.Wait()
			if share < 0.95 || u.top > units {
				t.Errorf("%.1f %% of %d units were in use, %d at once", 100*share, units, u.top)
			}
		})
	}
}

// between counts the calls that began from one moment to another.
func (u *used) between(from, to time.Time) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, at := range u.starts {
		if at.After(from) && at.Before(to) {
			n++
		}
	}
	return n
}

// TestFleetOnPostgres changes a limit under three processes, as operators and targets do: what one says, all
// obey, the calls under way apart, within the 250 ms after which a lost notification no longer counts.
func TestFleetOnPostgres(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]float64{"units": 0, "rate": 200} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := realFleet(t, 3, gantry.LimiterSpec{MaxUnits: 12, Rate: rate, Burst: 4})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var u used
			var mu sync.Mutex
			wait := time.Duration(0)
			show := func() gantry.Showing {
				mu.Lock()
				defer mu.Unlock()
				x := gantry.Showing{Verdict: gantry.Alive, Wait: wait, Busy: wait > 0}
				wait = 0
				return x
			}
			for _, s := range r.sessions {
				r.load(ctx, &wg, s, &u, 8, 20*time.Millisecond, show)
			}
			defer func() { cancel(); wg.Wait() }()
			const soon = 250 * time.Millisecond
			quiet := func(what string, from time.Time, d time.Duration) {
				t.Helper()
				time.Sleep(time.Until(from.Add(d)))
				if n := u.between(from.Add(soon), from.Add(d)); n != 0 {
					t.Errorf("%s: %d calls began later than %s after it", what, n, soon)
				}
			}
			lively := func(what string, from time.Time, d time.Duration) {
				t.Helper()
				time.Sleep(time.Until(from.Add(d + time.Second)))
				if n := u.between(from, from.Add(d)); n == 0 {
					t.Errorf("%s: nothing began within %s", what, d)
				}
			}
			must := func(_ bool, err error) time.Time {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				return time.Now()
			}
			lively("at first", time.Now(), time.Second)
			mu.Lock()
			wait = 1500 * time.Millisecond
			mu.Unlock()
			for asked := false; !asked; time.Sleep(time.Millisecond) {
				mu.Lock()
				asked = wait == 0
				mu.Unlock()
			}
			at := time.Now()
			quiet("a request to wait", at, 1490*time.Millisecond)
			lively("its end", at.Add(1500*time.Millisecond), time.Second)

			at = must(r.PauseLimit(ctx, "http://h:1", "ann"))
			quiet("a pause", at, time.Second)
			lively("its end", must(r.ResumeLimit(ctx, "http://h:1")), time.Second)

			none, few := 0, 2
			quiet("none", must(r.SetLimit(ctx, "http://h:1", "ann", postgres.Setting{Units: &none})), time.Second)
			must(r.SetLimit(ctx, "http://h:1", "ann", postgres.Setting{Units: &few}))
			time.Sleep(time.Second)
			u.mu.Lock()
			u.top = u.now
			u.mu.Unlock()
			lively("two", time.Now(), time.Second)
			if u.mu.Lock(); u.top != 2 {
				t.Errorf("%d at once of the two that an operator set", u.top)
			}
			u.mu.Unlock()
			at = must(r.ResetLimit(ctx, "http://h:1"))
			time.Sleep(time.Until(at.Add(time.Second)))
			u.mu.Lock()
			defer u.mu.Unlock()
			if rate == 0 && u.top < 11 || u.top > 12 {
				t.Errorf("%d at once a second after twelve were allowed again", u.top)
			}
		})
	}
}

// TestBreakerOnPostgres has a target fail: three processes stop, one call tries it at a time, and all go on.
func TestBreakerOnPostgres(t *testing.T) {
	t.Parallel()
	spec := gantry.LimiterSpec{MaxUnits: 9, Hold: time.Second, Breaker: gantry.Breaker{Failures: 4, Open: 700 * time.Millisecond}}
	r := realFleet(t, 3, spec)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var u used
	begun := time.Now()
	show := func() gantry.Showing {
		if time.Since(begun) < 3*time.Second {
			return gantry.Showing{Verdict: gantry.Failing}
		}
		return answered()
	}
	for _, s := range r.sessions {
		r.load(ctx, &wg, s, &u, 4, 20*time.Millisecond, show)
	}
	time.Sleep(2900 * time.Millisecond)
	if n := u.between(begun.Add(500*time.Millisecond), begun.Add(2900*time.Millisecond)); n < 2 || n > 4 {
		t.Errorf("%d calls in 2.4 s to a target that failed, want one each 0.7 s", n)
	}
	time.Sleep(3 * time.Second)
	cancel()
	wg.Wait()
	if n := u.between(begun.Add(4900*time.Millisecond), begun.Add(5900*time.Millisecond)); n < 200 {
		t.Errorf("%d calls in the second after it had come back", n)
	}
	list, err := r.Limits(t.Context(), "http://h:1", 1)
	if err != nil || len(list) != 1 || list[0].Breaker != "closed" {
		t.Errorf("the breaker stands as %+v (%v)", list, err)
	}
}

// TestTaskOfALateHeartbeat has a step say that the lease is lost while it holds, as the gate does when a
// heartbeat is late. The task is not left with a process that does nothing for it.
func TestTaskOfALateHeartbeat(t *testing.T) {
	t.Parallel()
	store := postgrestest.New(t)
	ids := gantry.NewIDs(time.Now, crand.Reader)
	p := &gantry.Pipeline{Name: "p", Version: gantry.Digest{1}, Resolved: []byte(`{}`)}
	pipeline, err := store.EnsurePipeline(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	limiter, err := store.EnsureLimiter(t.Context(), "pipeline:p", gantry.LimiterSpec{MaxUnits: 1}, true)
	if err != nil {
		t.Fatal(err)
	}
	lane, err := store.EnsureLane(t.Context(), "p", "in", limiter, 0)
	if err != nil {
		t.Fatal(err)
	}
	arrivals, err := store.ArrivalIDs(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	mac := gantry.MAC([]byte("k"), ids.New().String())
	if _, err := store.Enqueue(t.Context(), []gantry.Admission{{Arrival: gantry.Arrival{ID: arrivals[0], Source: "p/in", RefMAC: mac, Version: "v"},
		PublicID: "aaaa", Pipeline: pipeline, Lane: lane, Priority: 5, Within: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	steps := 0
	ended := false
	err = Run(ctx, store, Options{Ended: func(gantry.Task, gantry.Transition) { ended = true; cancel() }},
		func(context.Context, *Session) (Begin, error) {
			return func(gantry.Task) (Step, func()) {
				return func(_ context.Context, x gantry.Task) gantry.Transition {
					if steps++; steps == 1 {
						return gantry.Transition{}
					}
					return gantry.Transition{Lease: x.Lease, From: x.State, To: gantry.Failed, Change: gantry.End, Code: "enough"}
				}, func() {}
			}, nil
		})
	if err != nil || !ended || steps != 2 {
		t.Errorf("ended %t after %d steps (%v)", ended, steps, err)
	}
}
