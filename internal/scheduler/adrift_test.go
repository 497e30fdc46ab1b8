package scheduler

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// lossy is a store of one lane whose first claim takes effect, and whose answer is lost.
type lossy struct {
	Store
	mu       sync.Mutex
	owned    []gantry.Task
	released []gantry.Lease
	claims   int
	slow     time.Duration // after which the claim takes effect
}

func (l *lossy) Lanes(context.Context, gantry.WorkerID, bool) ([]gantry.Lane, error) {
	return []gantry.Lane{{ID: 1, Limiter: 1}}, nil
}
func (l *lossy) ReadyLanes(context.Context, []int32) ([]int32, error) { return []int32{1}, nil }
func (l *lossy) Limit(context.Context, int32) (gantry.LimiterSpec, error) {
	return gantry.LimiterSpec{MaxUnits: -1}, nil
}
func (l *lossy) OffPeak(context.Context) (map[string]gantry.Windows, error) { return nil, nil }

// Claim loses its first answer; later there is nothing to claim.
func (l *lossy) Claim(context.Context, gantry.WorkerID, []gantry.Want) ([]gantry.Task, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.claims++; l.claims > 1 {
		return nil, nil
	}
	time.AfterFunc(l.slow, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.owned = append(l.owned, gantry.Task{Lease: gantry.Lease{Task: 7, Seq: 1}, Lane: 1, State: gantry.Ingesting})
	})
	return nil, errors.New("the line is cut")
}

func (l *lossy) Owned(context.Context, gantry.WorkerID) ([]gantry.Task, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.owned), nil
}

func (l *lossy) Commit(_ context.Context, _ gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range writes {
		if w.Transition.Change == gantry.Release && w.Transition.From == gantry.Ingesting && w.Transition.To == gantry.Ingesting {
			l.released = append(l.released, w.Lease)
		}
		l.owned = slices.DeleteFunc(l.owned, func(t gantry.Task) bool { return t.Lease == w.Lease })
	}
	return []bool{true}, nil
}

// Register fails, as while the database starts.
func (l *lossy) Register(context.Context, string, int, time.Duration) (gantry.WorkerID, error) {
	return 0, errLine
}

// TestUnregistered tells a session that did not begin from one that lost its lease, with the reason.
func TestUnregistered(t *testing.T) {
	t.Parallel()
	err := Run(t.Context(), &lossy{}, Options{}, nil)
	if !errors.Is(err, ErrUnregistered) || !errors.Is(err, errLine) || errors.Is(err, ErrLeaseLost) {
		t.Errorf("%v", err)
	}
}

// TestClaimWhoseAnswerIsLost hands the task back, at once or when the claim takes effect late, and lets be what
// runs here.
func TestClaimWhoseAnswerIsLost(t *testing.T) {
	for _, slow := range []time.Duration{0, 20 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			l := &lossy{slow: slow, owned: []gantry.Task{{Lease: gantry.Lease{Task: 3, Seq: 5}, Lane: 1}}}
			s := &Session{store: l, opts: Options{}.withDefaults(), held: map[gantry.TaskID]*grip{}}
			s.opts.Log = slog.New(slog.DiscardHandler)
			s.hold(3, func(error) {})
			ctx, cancel := context.WithCancel(t.Context())
			s.keeper = newKeeper(ctx, &errgroup.Group{}, l, 1, s.opts.Log)
			s.commits = newCommitter(l, 1, s.opts.Log, s.keeper.load)
			s.heart = newHeart(l, 1, time.Hour, time.Now())
			s.claims = newClaimer(s)
			go s.commits.run(ctx)
			go s.claims.run(ctx, func(gantry.Task) { t.Error("a task began") })
			time.Sleep(slow + 3*time.Second)
			synctest.Wait()
			l.mu.Lock()
			if !slices.Equal(l.released, []gantry.Lease{{Task: 7, Seq: 1}}) || len(l.owned) != 1 {
				t.Errorf("released %v, owned %v", l.released, l.owned)
			}
			l.mu.Unlock()
			cancel()
			synctest.Wait()
		})
	}
}
