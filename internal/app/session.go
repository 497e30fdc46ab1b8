package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/engine"
	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/gate"
	"github.com/gantry-imaging/gantry/internal/heap"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// life is what a command does during one lease besides working on tasks: it is started once the
// session stands, and its context ends when the session does.
type life func(ctx context.Context, s *scheduler.Session, in *intake) error

// work holds one lease: it registers the process, runs tasks and what lives beside them, until
// ctx ends or the lease is lost.
func (a *App) work(ctx context.Context, opts scheduler.Options, beside life) error {
	opts = a.care.hear(a.observe(opts))
	a.draining.Store(false)
	defer a.watchStop(ctx)()
	opts.Tasks, opts.TTL, opts.Grace, opts.Log, opts.Rand = a.Tasks, a.TTL, a.Grace, a.Log, a.rand
	scratch, err := os.MkdirTemp("", "gantry-")
	if err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	var group *errgroup.Group
	err = scheduler.Run(ctx, a.Store, opts, func(loops context.Context, s *scheduler.Session) (scheduler.Begin, error) {
		dir, err := a.blobStore(ctx, s.Worker)
		if err != nil {
			return nil, err
		}
		if err := a.Store.SetPlaces(ctx, s.Worker, scheduler.Places(a.Tasks, false)); err != nil {
			a.Log.Warn("session", "err", err)
		}
		a.session.Store(s)
		blobs := counted{dir, a.Metrics}
		g := gate.New(s, a.ids, time.Now)
		g.Ended = a.ended
		in := newIntake(a, g, blobs, s)
		ends := newCloser(a, s.Wake)
		counts := newAsker(a, ends.due)
		in.collected, in.keepings = newCollected(a, ends.due, counts.due), newKeepings(a)
		e := engine.New(engine.Options{Store: a.Store, Session: s, Caller: g, Blobs: blobs, Plans: a.plans, Rand: a.rand, Acquire: s.Acquire, Units: s.Units, Scratch: scratch,
			Namespace: a.namespace(), Log: a.Log, Passage: a.plans.Passage, Shared: a.plans.Shared, Tickets: tickets{a},
			Confirmations: confirmations{tickets{a}, a.Store}, Delivered: a.Store.TakenBySink, Scanned: a.scans.of, Arrived: a.arrival})
		living, end := context.WithCancel(loops)
		context.AfterFunc(ctx, end)
		group, living = errgroup.WithContext(living)
		group.Go(func() error { in.run(living); return nil })
		group.Go(func() error { in.collected.run(living); return nil })
		group.Go(func() error { in.keepings.run(living); return nil })
		in.made, in.again = e, sync.OnceFunc(func() { a.watchAgain(living) })
		if !opts.Private {
			group.Go(func() error { in.again(); ends.run(living); return nil })
			group.Go(func() error { counts.run(living); return nil })
		}
		group.Go(func() error { a.recordControl(living, s); return nil })
		group.Go(func() error { a.sweepTickets(living); return nil })
		if beside != nil {
			group.Go(func() error { return beside(living, s, in) })
		}
		s.Await(func() { group.Wait() })
		return func(t gantry.Task) (scheduler.Step, func()) {
			step, end := e.Begin(t)
			return a.traced(step), end
		}, nil
	})
	a.session.Store(nil)
	if group != nil {
		if gerr := group.Wait(); gerr != nil && !errors.Is(gerr, context.Canceled) {
			err = errors.Join(err, gerr)
		}
	}
	return err
}

// registerPause is about how long a process that lost its lease waits for a database that gives it no other.
const registerPause = time.Second

// Work runs tasks until ctx ends, with one lease after another. Once it had one, a database that is away for
// however long ends nothing.
func (a *App) Work(ctx context.Context, beside life) error {
	defer a.pace()()
	for had := false; ; {
		err := a.work(ctx, scheduler.Options{}, beside)
		lost := errors.Is(err, scheduler.ErrLeaseLost)
		had = had || lost
		if ctx.Err() != nil || !lost && !(had && errors.Is(err, scheduler.ErrUnregistered)) {
			return err
		}
		a.Log.Warn("begin again", "err", err)
		if lost {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Duration((0.5 + a.rand()) * float64(registerPause))):
		}
	}
}

// pace has the garbage collector keep the pace that is right for this process until stop is called. Where GOGC is set it does nothing.
func (a *App) pace() (stop func()) {
	switch v, _ := a.Lookup("GOGC"); {
	case v != "":
		return func() {}
	case a.port != nil && !a.port.Empty():
		return heap.Lean.Keep()
	}
	return heap.Roomy.Keep()
}
