package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// enqueueRate makes n tasks by eight writers and says how many a second.
func (x *bench) enqueueRate(ctx context.Context, n int) (float64, error) {
	const writers, batch = 8, 100
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for range writers {
		g.Go(func() error {
			for left := n / writers; left > 0; left -= batch {
				if err := x.enqueue(gctx, min(left, batch)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return float64(n) / time.Since(began).Seconds(), err
}

// measureIdleStart enqueues tasks one by one for a process that has nothing to do, as another process would.
func measureIdleStart(ctx context.Context, b *bed, s settings, r *report) error {
	x, err := b.open(ctx, "idle_start", 100)
	if err != nil {
		return err
	}
	defer x.close()
	if _, err := x.admin.Exec(ctx, `create table one_row(n int)`); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	started := make(chan time.Time, 1)
	var starts, commits []time.Duration
	err = scheduler.Run(ctx, x.Store, scheduler.Options{}, func(loops context.Context, _ *scheduler.Session) (scheduler.Begin, error) {
		g, loops := errgroup.WithContext(loops)
		g.Go(func() (err error) {
			defer cancel()
			starts, commits, err = x.oneByOne(loops, s.pings, started)
			return err
		})
		context.AfterFunc(loops, func() { err = g.Wait() })
		return func(gantry.Task) (scheduler.Step, func()) {
			started <- time.Now()
			return nextState, func() {}
		}, nil
	})
	if err != nil {
		return err
	}
	if len(starts) < s.pings {
		return fmt.Errorf("%d of %d tasks started", len(starts), s.pings)
	}
	commit := quantile(commits, 0.5)
	r.add("idle_start_commits", float64(quantile(starts, 0.5))/float64(commit), "commits", atMost(4), "from the enqueuing commit's end to the step; p50 %.2f ms, p99 %.2f ms; one-row commit %.2f ms",
		millis(quantile(starts, 0.5)), millis(quantile(starts, 0.99)), millis(commit))
	return nil
}

// oneByOne times n tasks from the end of the commit that enqueues them to their start, and as many one-row
// commits.
func (x *bench) oneByOne(ctx context.Context, n int, started <-chan time.Time) (starts, commits []time.Duration, err error) {
	for range n {
		pause(ctx, 20*time.Millisecond)
		began := time.Now()
		if _, err := x.admin.Exec(ctx, `insert into one_row values (1)`); err != nil {
			return nil, nil, err
		}
		commits = append(commits, time.Since(began))
		pause(ctx, 10*time.Millisecond)
		if err := x.enqueue(ctx, 1); err != nil {
			return nil, nil, err
		}
		enqueued := time.Now()
		if err := x.Notify(ctx, fmt.Sprint(x.lane)); err != nil {
			return nil, nil, err
		}
		select {
		case at := <-started:
			starts = append(starts, at.Sub(enqueued))
		case <-ctx.Done():
			return starts, commits, context.Cause(ctx)
		}
	}
	return starts, commits, nil
}
