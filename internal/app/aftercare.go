package app

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/postgres"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

const (
	careEvery = 2 * time.Second  // between two looks for objects that are done with, if nobody calls
	careBatch = 64               // of them that are taken at a time
	careSide  = 8                // of them side by side
	careTime  = 10 * time.Minute // at most, for one
	careLease = time.Minute      // after that another process takes one up; two at once do no harm
	careTries = 20
	hintEvery = 50 * time.Millisecond // between two hints, which may be of many tasks
	maxHints  = 4096                  // tasks that ended and wait for the next one; of others the looks find out
)

// care is what the process knows of objects with which something is to be done once their tasks have ended. It is told
// of those that end here; the others, and all that it forgets, are found by looking.
type care struct {
	sources atomic.Int32 // that want to know
	ended   chan gantry.TaskID
	once    sync.Once
}

func (c *care) tasks() chan gantry.TaskID {
	c.once.Do(func() { c.ended = make(chan gantry.TaskID, maxHints) })
	return c.ended
}

// hear adds itself to those that are told of tasks that end.
func (c *care) hear(o scheduler.Options) scheduler.Options {
	next := o.Ended
	o.Ended = func(t gantry.Task, tr gantry.Transition) {
		if c.sources.Load() > 0 {
			select {
			case c.tasks() <- t.Task:
			default:
			}
		}
		if next != nil {
			next(t, tr)
		}
	}
	return o
}

// tidying gives a feed's source if it does anything with objects that are done with.
func (f *feed) tidying() (gantry.Tidying, bool) {
	s, ok := f.source.(gantry.Tidying)
	if !ok {
		return nil, false
	}
	_, done := s.After(gantry.Done)
	_, failed := s.After(gantry.Failed)
	return s, done || failed
}

// mind lays down, before the arrival is, that something is to be done with its object later; of a marker, marker says of what. What a
// run takes stays as it is.
func (in *intake) mind(ctx context.Context, f *feed, o gantry.Object, a gantry.Arrival, marker []gantry.Gathering, run string) error {
	s, ok := f.tidying()
	if !ok || run != "" {
		return nil
	}
	mark := a.Place
	if mark == "" {
		mark = s.Mark(o)
	}
	if mark == "" {
		return nil
	}
	err := in.app.Store.KeepInMind(ctx, a, mark, marker)
	fail.Point("after_mind")
	return err
}

// tendAll looks after the objects of all feeds that want it.
func (a *App) tendAll(ctx context.Context, g *errgroup.Group, in *intake, feeds []*feed) {
	var bells []chan struct{}
	for _, f := range feeds {
		if s, ok := f.tidying(); ok {
			bell := make(chan struct{}, 1)
			bells = append(bells, bell)
			g.Go(func() error {
				(&tender{App: a, in: in, feed: f, source: s, told: map[gantry.Code]bool{}}).run(ctx, bell)
				return nil
			})
		}
	}
	if len(bells) > 0 {
		g.Go(func() error { a.passHints(ctx, bells); return nil })
	}
}

// passHints has the objects of tasks that ended here looked at, and calls those that look.
func (a *App) passHints(ctx context.Context, bells []chan struct{}) {
	a.care.sources.Add(1)
	defer a.care.sources.Add(-1)
	tick := time.NewTicker(hintEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var ended []gantry.TaskID
		for n := len(a.care.tasks()); n > 0; n-- {
			ended = append(ended, <-a.care.tasks())
		}
		if len(ended) == 0 {
			continue
		}
		if err := a.Store.TasksEnded(ctx, ended); err != nil {
			continue // looking finds them out
		}
		for _, bell := range bells {
			select {
			case bell <- struct{}{}:
			default:
			}
		}
	}
}

// tender does with the objects of one source what its file says.
type tender struct {
	*App
	in     *intake
	feed   *feed
	source gantry.Tidying

	mu   sync.Mutex
	told map[gantry.Code]bool // refusals that the log knows
}

func (t *tender) run(ctx context.Context, bell <-chan struct{}) {
	for ctx.Err() == nil {
		more, err := t.round(ctx)
		if err != nil && ctx.Err() == nil {
			t.Log.Warn("look after inputs", "source", t.feed.name, "err", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-bell:
		case <-time.After(careEvery):
		}
	}
}

// round does what is due, a batch at most.
func (t *tender) round(ctx context.Context) (more bool, err error) {
	list, more, err := t.Store.DueAftercare(ctx, t.feed.name, careBatch, careLease)
	if err != nil {
		return false, err
	}
	var g errgroup.Group
	g.SetLimit(careSide)
	for _, x := range list {
		g.Go(func() error { return t.tend(ctx, x) })
	}
	return more, g.Wait()
}

// tend does it to one object, as a call on record, and puts down what came of it. That never changes what became of the
// tasks: they are done, and their results are where they are.
func (t *tender) tend(ctx context.Context, x postgres.Aftercare) error {
	op, ok := t.source.After(x.Ended)
	if !ok {
		return t.Store.Tended(ctx, x, "", 0)
	}
	spec := gantry.CallSpec{Timeout: careTime, Intent: gantry.Intent{Boundary: gantry.AtSource, Op: op, Limiter: t.feed.limiter, Arrival: x.Arrival,
		Pipeline: t.feed.plan.ID, Part: gantry.PartKey{Processor: t.feed.index}, Try: x.Tries + 1}}
	err := t.in.gate.Call(ctx, spec, func(ctx context.Context) error {
		if t.feed.local {
			gate.Local(ctx, http.NoBody, true) // it leaves by no socket that would say so
		}
		fail.Point("before_tidy")
		err := t.source.Tidy(ctx, x.Mark, x.Ended, func(ctx context.Context, o gantry.Object) error { return t.in.former(ctx, t.feed, o) })
		fail.Point("after_tidy")
		return err
	}, nil)
	if ctx.Err() != nil {
		return nil // it is given again
	}
	code, again := t.verdict(x, err)
	fail.Point("before_tended")
	return t.Store.Tended(ctx, x, code, again)
}

// verdict says what an error means: nothing, if the object is gone, or that it is tried again, or never.
func (t *tender) verdict(x postgres.Aftercare, err error) (code gantry.Code, again time.Duration) {
	if err == nil {
		return "", 0
	}
	if code = gantry.CodeOf(err); code == gantry.CodeSourceGone {
		return code, 0
	}
	if gantry.KindOf(err).Retryable() && x.Tries+1 < careTries {
		return code, min(max(time.Second<<min(x.Tries, 12), gantry.RetryAfterOf(err)), time.Hour)
	}
	t.mu.Lock()
	first := !t.told[code]
	t.told[code] = true
	t.mu.Unlock()
	if first {
		t.Log.Warn("look after inputs: some stay as they are", "source", t.feed.name, "code", string(code), "err", err)
	}
	return code, 0
}
