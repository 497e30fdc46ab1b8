package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/postgres/postgrestest"
	"github.com/gantry-imaging/gantry/internal/scheduler"
	"github.com/gantry-imaging/gantry/internal/sim/model"
)

// store is what the model and package postgres must answer alike.
type store interface {
	scheduler.Store
	engine.Store
	ArrivalIDs(ctx context.Context, n int) ([]int64, error)
	Known(ctx context.Context, source string, ref gantry.Digest, sequencer string) (bool, error)
	Enqueue(ctx context.Context, list []gantry.Admission) (int, error)
	EnsurePipeline(ctx context.Context, p *gantry.Pipeline) (int32, error)
	EnsureLimiter(ctx context.Context, key string, l gantry.LimiterSpec, declare bool) (int32, error)
	EnsureLane(ctx context.Context, pipeline, source string, limiter int32, private gantry.WorkerID) (int32, error)
	Cancel(ctx context.Context, task gantry.TaskID, by string) error
	Reopen(ctx context.Context, task gantry.TaskID, within gantry.Timeouts, priority int16, why string) (bool, error)
	Move(ctx context.Context, task gantry.TaskID, to gantry.Passage, by string) error
	Pause(ctx context.Context, task gantry.TaskID, by, reason string) error
	Resume(ctx context.Context, task gantry.TaskID, by string) (bool, error)
	PauseLimit(ctx context.Context, key, by string) (bool, error)
	ResumeLimit(ctx context.Context, key string) (bool, error)
}

var (
	_ store = (*model.Store)(nil)
	_ store = (*postgres.Store)(nil)
)

// actor is one of two stores that live through the same history. What its store numbers goes by the
// order in which it came up, and tasks by their public ids, so that answers can be compared.
type actor struct {
	store
	pass func(time.Duration)          // lets time pass
	rows func(prefix string) []string // all that is known of the tasks of a history, in order
	// collect makes the task of a collection.
	collect func(ctx context.Context, of gantry.Admission, list []gantry.Arrival) (bool, error)

	pipeline int32
	workers  []gantry.WorkerID
	lanes    []int32
	limiters []int32
	tasks    map[string]gantry.TaskID
	names    map[gantry.TaskID]string
	held     map[string]gantry.Task // as it was claimed or moved last
}

func newActor(t testing.TB, s store) *actor {
	a := &actor{store: s, tasks: map[string]gantry.TaskID{}, names: map[gantry.TaskID]string{}, held: map[string]gantry.Task{}}
	var err error
	if a.pipeline, err = s.EnsurePipeline(t.Context(), &gantry.Pipeline{Name: "p", Version: gantry.Digest{1}, Resolved: []byte("{}"),
		Timeouts: gantry.Timeouts{Extracting: 40 * time.Minute}}); err != nil {
		t.Fatal(err)
	}
	return a
}

func modelActor(t testing.TB) *actor {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s := model.New(func() time.Time { return now })
	a := newActor(t, s)
	a.pass = func(d time.Duration) { now = now.Add(d) }
	a.rows = func(prefix string) []string { return modelRows(a, s, now, prefix) }
	a.collect = s.Collect
	return a
}

func postgresActor(t testing.TB) *actor {
	s := postgrestest.New(t)
	a := newActor(t, s)
	a.pass = func(d time.Duration) {
		for _, q := range []string{`update worker set expires_at = expires_at - $1::interval`,
			`update task_hot set run_at = run_at - $1::interval, state_until = state_until - $1::interval`,
			`update limit_grant set held_until = held_until - $1::interval`, `update part set due = due - $1::interval, out_until = out_until - $1::interval, out_deadline = out_deadline - $1::interval`,
			`update limiter set tat = tat - $1::interval, not_before = not_before - $1::interval, breaker_until = breaker_until - $1::interval`,
			`update task_pause set at = at - $1::interval`} {
			if _, err := s.Pool().Exec(t.Context(), q, d); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.rows = func(prefix string) []string { return postgresRows(t, a, s, prefix) }
	a.collect = func(ctx context.Context, of gantry.Admission, list []gantry.Arrival) (bool, error) {
		return postgrestest.Collect(ctx, s, of, list)
	}
	return a
}

// step is something that is done to a store, and what it answered.
type step struct {
	name string
	do   func(ctx context.Context, a *actor) string
}

// story makes the steps of one history. What it looks at of the world so far is in an actor.
type story struct {
	*rand.Rand
	prefix string // of public ids
	a      *actor
	own    struct{ workers, lanes, limiters int } // how many there were before
	calls  []gantry.UUID
	pauses time.Duration
}

func newStory(seed uint64, a *actor) *story {
	y := &story{Rand: rand.New(rand.NewPCG(seed, 7)), prefix: fmt.Sprintf("h%d-", seed), a: a}
	y.own.workers, y.own.lanes, y.own.limiters = len(a.workers), len(a.lanes), len(a.limiters)
	return y
}

// uuid makes a key of a call that belongs to a history.
func (y *story) uuid() gantry.UUID {
	var u gantry.UUID
	binary.BigEndian.PutUint64(u[:8], 0x019caa0000007000)
	binary.BigEndian.PutUint64(u[8:], y.Uint64()&^(3<<62)|1<<63)
	return u
}

// both runs a step on both actors and compares the answers.
func both(t *testing.T, x, y *actor, s step, told *[]string) bool {
	t.Helper()
	one, two := s.do(t.Context(), x), s.do(t.Context(), y)
	*told = append(*told, fmt.Sprintf("%s -> %s", s.name, one))
	if one == two {
		return true
	}
	t.Errorf("after\n  %s\nPostgreSQL answers\n  %s", strings.Join((*told)[max(0, len(*told)-25):], "\n  "), two)
	return false
}

// same compares the rows of a history.
func same(t *testing.T, x, y *actor, prefix string, told []string) bool {
	t.Helper()
	one, two := x.rows(prefix), y.rows(prefix)
	if slices.Equal(one, two) {
		return true
	}
	t.Errorf("after\n  %s\nthe model alone has\n  %s\nPostgreSQL alone has\n  %s", strings.Join(told[max(0, len(told)-25):], "\n  "),
		strings.Join(without(one, two), "\n  "), strings.Join(without(two, one), "\n  "))
	return false
}

// without gives the rows of a list that are not in another.
func without(rows, other []string) []string {
	return slices.DeleteFunc(slices.Clone(rows), func(r string) bool { return slices.Contains(other, r) })
}

// TestConformance lets the model and PostgreSQL live through the same histories: those that were thought of,
// and many at random. Every answer must be the same, and at the end every row.
func TestConformance(t *testing.T) {
	x, y := modelActor(t), postgresActor(t)
	t.Run("thought", func(t *testing.T) {
		for i, h := range histories {
			s := newStory(uint64(1e6+i), x)
			live(t, x, y, s, s.steps(h.about))
			if t.Failed() {
				t.Fatalf("history %q", h.name)
			}
		}
	})
	t.Run("random", func(t *testing.T) {
		for seed := range uint64(*randomHistories) {
			if seed%40 == 39 { // rows that time was taken from lie about in pages of their own
				x, y = modelActor(t), postgresActor(t)
			}
			s := newStory(seed, x)
			next := func(yield func(step) bool) {
				for _, x := range s.begin() {
					if !yield(x) {
						return
					}
				}
				for range 60 {
					if !yield(s.next()) {
						return
					}
				}
			}
			live(t, x, y, s, next)
			if t.Failed() {
				t.Fatalf("history of seed %d", seed)
			}
		}
	})
}

func live(t *testing.T, x, y *actor, s *story, steps func(func(step) bool)) {
	t.Helper()
	var told []string
	for st := range steps {
		if !both(t, x, y, st, &told) {
			return
		}
	}
	same(t, x, y, s.prefix, told)
	for _, a := range []*actor{x, y} {
		a.bury(t.Context())
	}
}

// bury ends a history, so that its clocks do not run on into the next one.
func (a *actor) bury(ctx context.Context) {
	a.pass(1000 * time.Hour)
	a.Promote(ctx, 1000)
	for range 5 {
		a.Reap(ctx)
	}
}
