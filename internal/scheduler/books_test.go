package scheduler

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// books does for one limiter what the database does for all: it sums up grants and books starts.
type books struct {
	Store
	mu     sync.Mutex
	spec   gantry.LimiterSpec
	units  map[gantry.WorkerID]int
	want   map[gantry.WorkerID]int
	urgent map[gantry.WorkerID]int
	tat    time.Time
	grants int
	fail   func(grants int) bool
	lose   func(grants int) bool // it is booked, and its answer gets lost
	slow   func() time.Duration  // how long the answer to a booking takes

	notBefore, until time.Time
	prober           gantry.WorkerID
	probes           []time.Time
	writes           int
	deaf             bool // Limit says nothing of how the target stands
}

func newBooks(spec gantry.LimiterSpec) *books {
	return &books{spec: spec, units: map[gantry.WorkerID]int{}, want: map[gantry.WorkerID]int{}, urgent: map[gantry.WorkerID]int{}}
}

func (b *books) Limit(context.Context, int32) (gantry.LimiterSpec, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.spec
	if x.Standing = b.standing(); b.deaf {
		x.Standing = gantry.Standing{}
	}
	return x, nil
}

func (b *books) others(w gantry.WorkerID) (units, want int, short, none bool) {
	for o := range b.want {
		if o != w {
			units, want = units+b.units[o], want+b.want[o]
			short = short || b.want[o] > b.units[o]
			none = none || b.want[o] > 0 && b.units[o] == 0
		}
	}
	return units, want, short, none
}

func (b *books) Grant(_ context.Context, w gantry.WorkerID, _ int32, want, inUse int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.grants++
	if b.fail != nil && b.fail(b.grants) {
		return 0, errLine
	}
	units, theirs, _, none := b.others(w)
	units += b.first(w)
	share := want
	switch {
	case theirs+want <= b.spec.MaxUnits, want == 0:
	case none:
		share = max(1, b.spec.MaxUnits*want/(theirs+want))
	default:
		share = (b.spec.MaxUnits*want + theirs + want - 1) / (theirs + want)
	}
	if b.urgent[w] > 0 {
		share = max(share, inUse+b.urgent[w])
	}
	b.want[w], b.units[w] = want, max(inUse, min(want, max(0, b.spec.MaxUnits-units), share))
	if b.lose != nil && b.lose(b.grants) {
		return 0, errLine
	}
	return b.units[w], nil
}

func (b *books) Share(_ context.Context, w gantry.WorkerID, _ int32, want int) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	units, theirs, short, none := b.others(w)
	if first := b.first(w); first > 0 {
		return max(0, b.spec.MaxUnits-units-first), nil
	}
	switch all := max(1, theirs+want); {
	case none:
		return max(1, b.spec.MaxUnits*want/all), nil
	case short:
		return (b.spec.MaxUnits*want + all - 1) / all, nil
	}
	return b.spec.MaxUnits, nil
}

func (b *books) Reserve(_ context.Context, _ int32, n int) (first, step time.Duration, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	step = time.Duration(float64(time.Second) / b.spec.Rate)
	if early := now.Add(-time.Duration(b.spec.Burst-1) * step); b.tat.Before(early) {
		b.tat = early
	}
	first = b.tat.Sub(now)
	b.tat = b.tat.Add(time.Duration(n) * step)
	if b.slow != nil {
		d := b.slow()
		b.mu.Unlock()
		time.Sleep(d)
		b.mu.Lock()
	}
	return first, step, nil
}

// figures says how many units a process has on the books, and how many grants there were in all.
func (b *books) figures(w gantry.WorkerID) (units, grants int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.units[w], b.grants
}

// process makes a keeper that ends with the test.
func process(t *testing.T, b *books, w gantry.WorkerID) *keeper {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	g := &errgroup.Group{}
	t.Cleanup(func() { cancel(); g.Wait() })
	return newKeeper(ctx, g, b, w, slog.New(slog.DiscardHandler))
}

// site counts the calls that reach a target.
type site struct {
	mu        sync.Mutex
	now, most int
	starts    []time.Time
	by        map[gantry.WorkerID]int
}

// load makes calls of the length through a keeper from so many callers until ctx ends.
func (s *site) load(ctx context.Context, wg *sync.WaitGroup, k *keeper, callers int, length time.Duration) {
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				release, err := k.Acquire(ctx, 1, 5)
				if err != nil {
					return
				}
				s.mu.Lock()
				s.now++
				s.most = max(s.most, s.now)
				s.starts = append(s.starts, time.Now())
				s.by[k.worker]++
				s.mu.Unlock()
				time.Sleep(length)
				s.mu.Lock()
				s.now--
				s.mu.Unlock()
				release()
				release() // the second does nothing
			}
		})
	}
}

func (s *site) within(window time.Duration) int {
	most, from := 0, 0
	for i, at := range s.starts {
		for at.Sub(s.starts[from]) >= window {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}
