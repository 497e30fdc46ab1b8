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

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ledger is a database of one table: which writes landed, by task. hook may change how a commit
// ends, and whether it takes effect.
type ledger struct {
	Store
	mu      sync.Mutex
	commits [][]gantry.TaskID
	rows    map[gantry.TaskID]int
	fenced  map[gantry.TaskID]bool
	hook    func(nth int, tasks []gantry.TaskID) (effect int, err error) // effect: how many of the tasks land
	lookUps int
	lost    int // how many look-ups fail before one succeeds
}

func newLedger() *ledger {
	return &ledger{rows: map[gantry.TaskID]int{}, fenced: map[gantry.TaskID]bool{}}
}

var errLine = errors.New("the line is cut")

type stateError string

func (e stateError) Error() string    { return "refused: " + string(e) }
func (e stateError) SQLState() string { return string(e) }

func tasksOf(writes []*gantry.Write) []gantry.TaskID {
	var out []gantry.TaskID
	for _, w := range writes {
		out = append(out, w.Lease.Task)
	}
	return out
}

func (l *ledger) Commit(_ context.Context, _ gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	tasks := tasksOf(writes)
	l.commits = append(l.commits, tasks)
	effect, err := len(tasks), error(nil)
	if l.hook != nil {
		effect, err = l.hook(len(l.commits), tasks)
	}
	landed := make([]bool, len(tasks))
	for i, id := range tasks[:effect] {
		if !l.fenced[id] {
			l.rows[id]++
			landed[i] = true
		}
	}
	return landed, err
}

func (l *ledger) Landed(_ context.Context, _ gantry.WorkerID, writes []*gantry.Write) ([]bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookUps++
	if l.lookUps <= l.lost {
		return nil, errLine
	}
	var out []bool
	for _, id := range tasksOf(writes) {
		out = append(out, l.rows[id] > 0)
	}
	return out, nil
}

// commitAll commits a write for each of n tasks while the committer is not yet running, then lets it
// run, and gives the answers by task, from 1.
func commitAll(t *testing.T, l *ledger, n int) []error {
	t.Helper()
	c := newCommitter(l, 1, slog.New(slog.DiscardHandler), func() (int, int) { return 0, 0 })
	errs := make([]error, n+1)
	var wg sync.WaitGroup
	for i := 1; i <= n; i++ {
		wg.Go(func() {
			errs[i] = c.Commit(t.Context(), &gantry.Write{Lease: gantry.Lease{Task: gantry.TaskID(i)}})
		})
	}
	synctest.Wait()
	ctx, stop := context.WithCancel(t.Context())
	go c.run(ctx)
	wg.Wait()
	stop()
	<-c.closed
	return errs
}

// TestWhoWritesAgainIsWaitedFor: whoever a commit woke, and writes again at once, is in the next commit together with the
// others, and not one of them in a commit ahead of them. A machine that is busy with something else may come between: not
// in each of several rounds.
func TestWhoWritesAgainIsWaitedFor(t *testing.T) {
	t.Parallel()
	const writers, each = 50, 20
	var commits []int
	for range 8 {
		commits = append(commits, commitsOf(t, writers, each))
		if slices.Min(commits) <= 3*each/2 {
			return
		}
	}
	t.Errorf("%d commits of %d writes of %d writers", commits, writers*each, writers)
}

// commitsOf lets each of some writers write again as soon as its last write is durable, and counts the commits.
func commitsOf(t *testing.T, writers, each int) int {
	t.Helper()
	l := newLedger()
	l.hook = func(_ int, tasks []gantry.TaskID) (int, error) {
		time.Sleep(2 * time.Millisecond)
		return len(tasks), nil
	}
	c := newCommitter(l, 1, slog.New(slog.DiscardHandler), func() (int, int) { return 0, 0 })
	ctx, stop := context.WithCancel(t.Context())
	go c.run(ctx)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range each {
				if err := c.Commit(t.Context(), &gantry.Write{Lease: gantry.Lease{Task: gantry.TaskID(i)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	<-c.closed
	return len(l.commits)
}

func TestWritesAreBatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		for i, err := range commitAll(t, l, 500) {
			if err != nil {
				t.Fatalf("write %d: %v", i, err)
			}
		}
		if len(l.commits) != 1 || len(l.rows) != 500 {
			t.Errorf("%d commits made %d rows; 500 writes waited for the first", len(l.commits), len(l.rows))
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		c := newCommitter(l, 1, slog.New(slog.DiscardHandler), func() (int, int) { return 0, 0 })
		bulky := &gantry.Write{Items: []gantry.Item{{Body: make([]byte, maxBatchBytes)}}}
		for range 3 {
			c.queue <- &request{write: bulky, done: make(chan error, 1)}
		}
		for range maxBatchWrites + 1 {
			c.queue <- &request{write: &gantry.Write{}, done: make(chan error, 1)}
		}
		ctx, stop := context.WithCancel(t.Context())
		stop() // what is queued is served all the same
		c.run(ctx)
		var sizes []int
		for _, b := range l.commits {
			sizes = append(sizes, len(b))
		}
		if !slices.Equal(sizes, []int{1, 1, 1, maxBatchWrites, 1}) {
			t.Errorf("batches of %v writes", sizes)
		}
	})
}

func TestFencedWritesAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.fenced[3], l.fenced[7] = true, true
		for i, err := range commitAll(t, l, 9) {
			if want := i == 3 || i == 7; errors.Is(err, gantry.ErrFenced) != want || !want && err != nil {
				t.Errorf("write %d: %v", i, err)
			}
		}
	})
}

func TestRefusedRowStandsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.hook = func(_ int, tasks []gantry.TaskID) (int, error) {
			if slices.Contains(tasks, 13) || slices.Contains(tasks, 40) {
				return 0, stateError("22021")
			}
			return len(tasks), nil
		}
		for i, err := range commitAll(t, l, 64) {
			_, refusal := errors.AsType[stateError](err)
			if want := i == 13 || i == 40; refusal != want || !want && err != nil {
				t.Errorf("write %d: %v", i, err)
			}
			if i > 0 && i != 13 && i != 40 && l.rows[gantry.TaskID(i)] != 1 {
				t.Errorf("write %d landed %d times", i, l.rows[gantry.TaskID(i)])
			}
		}
		if n := len(l.commits); n > 26 {
			t.Errorf("%d commits to find two rows among 64", n)
		}
	})
}

// TestUnknownEndIsLookedUp cuts the line after a commit took effect, wholly or in part (as writes of
// several batches would), and while it is looked up: nothing may land twice, and nobody may be told
// that it is fenced.
func TestUnknownEndIsLookedUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ effect, lost, commits int }{
		"nothing landed":               {0, 0, 2},
		"all landed":                   {20, 0, 1},
		"some landed":                  {7, 0, 2},
		"all landed, then a long cut":  {20, 6, 1},
		"none landed, then a long cut": {0, 6, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLedger()
				l.lost = c.lost
				l.hook = func(nth int, tasks []gantry.TaskID) (int, error) {
					if nth == 1 {
						return c.effect, errLine
					}
					return len(tasks), nil
				}
				for i, err := range commitAll(t, l, 20) {
					if err != nil {
						t.Errorf("write %d: %v", i, err)
					}
					if i > 0 && l.rows[gantry.TaskID(i)] != 1 {
						t.Errorf("write %d landed %d times", i, l.rows[gantry.TaskID(i)])
					}
				}
				if len(l.commits) != c.commits || l.lookUps != c.lost+1 {
					t.Errorf("%d commits and %d look-ups", len(l.commits), l.lookUps)
				}
			})
		})
	}
}

func TestLineThatStaysCut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.lost = 1000
		l.hook = func(int, []gantry.TaskID) (int, error) { return 0, errLine }
		for i, err := range commitAll(t, l, 2) {
			if i > 0 && (!errors.Is(err, errLine) || errors.Is(err, gantry.ErrFenced)) {
				t.Errorf("write %d: %v", i, err)
			}
		}
		if len(l.commits) != 1 {
			t.Errorf("committed %d times without knowing what landed", len(l.commits))
		}
	})
}

func TestClosedQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		c := newCommitter(l, 1, slog.New(slog.DiscardHandler), func() (int, int) { return 0, 0 })
		ctx, stop := context.WithCancel(t.Context())
		stop()
		c.run(ctx)
		if err := c.Commit(t.Context(), &gantry.Write{}); !errors.Is(err, ErrStopping) {
			t.Errorf("a write after the end: %v", err)
		}
		if len(l.commits) != 0 {
			t.Error("it was committed")
		}
		// A caller that gave up before its write was queued is told so.
		full := newCommitter(l, 1, slog.New(slog.DiscardHandler), func() (int, int) { return 0, 0 })
		for range queueSize {
			full.queue <- &request{}
		}
		if err := full.Commit(ctx, &gantry.Write{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a write to a full queue: %v", err)
		}
	})
}

// TestLateCommitIsNotTakenForAFence lets a commit land after it was looked up in vain. What it made is what fences the
// second try, and the writer must not take its own write for that of another process.
func TestLateCommitIsNotTakenForAFence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.hook = func(nth int, tasks []gantry.TaskID) (int, error) {
			if nth == 1 {
				return 0, errLine
			}
			l.rows[1]++ // the first try, late
			l.fenced[1], l.fenced[2] = true, true
			return len(tasks), nil
		}
		errs := commitAll(t, l, 3)
		if errs[1] != nil || !errors.Is(errs[2], gantry.ErrFenced) || errs[3] != nil || l.rows[1] != 1 {
			t.Errorf("%v; %d rows", errs[1:], l.rows[1])
		}
	})
}
