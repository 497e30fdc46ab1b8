package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/scheduler"
)

// transitionsPerTask counts those from queued to done: each is an event in the record.
const transitionsPerTask = 5

// measureTransitions takes tasks through all their states with steps that do nothing.
func measureTransitions(ctx context.Context, b *bed, s settings, r *report) error {
	x, err := b.open(ctx, "transitions", 500)
	if err != nil {
		return err
	}
	defer x.close()
	if err := x.enqueue(ctx, s.tasks); err != nil {
		return err
	}
	if _, err := x.admin.Exec(ctx, `checkpoint`); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var left atomic.Int64
	left.Store(int64(s.tasks))
	var session *scheduler.Session
	var ended time.Time
	opts := scheduler.Options{Tasks: 500, Ended: func(gantry.Task, gantry.Transition) {
		if left.Add(-1) == 0 {
			ended = time.Now()
			cancel()
		}
	}}
	wal, err := x.wal(ctx)
	if err != nil {
		return err
	}
	began, cpu := time.Now(), ownTime()+serverTime(b.postmaster)
	err = scheduler.Run(ctx, x.Store, opts, func(_ context.Context, own *scheduler.Session) (scheduler.Begin, error) {
		session = own
		return func(gantry.Task) (scheduler.Step, func()) { return nextState, func() {} }, nil
	})
	if err != nil {
		return err
	}
	if left.Load() > 0 {
		return context.Cause(ctx)
	}
	cpu = ownTime() + serverTime(b.postmaster) - cpu
	wal2, err := x.wal(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	n := float64(s.tasks * transitionsPerTask)
	flushes, writes := session.Commits()
	r.add("transitions_per_s", n/ended.Sub(began).Seconds(), "1/s", bound{}, "%d tasks, 500 at once, claims included", s.tasks)
	r.add("transition_cpu_us", float64(cpu.Microseconds())/n, "µs", atMost(60), "client and server")
	r.add("wal_bytes_per_transition", float64(wal2-wal)/n, "B", atMost(600), "claims and first images of pages included")
	r.add("rows_per_commit", float64(writes)/float64(max(1, flushes)), "rows", bound{}, "%d commits", flushes)
	return nil
}

// nextState is a step without an effect.
func nextState(_ context.Context, t gantry.Task) gantry.Transition {
	event, change := gantry.Finish, gantry.Advance
	switch t.State {
	case gantry.Queued:
		event = gantry.Start
	case gantry.Responding:
		change = gantry.End
	}
	to, err := t.State.Next(event)
	if err != nil {
		return gantry.Transition{}
	}
	return gantry.Transition{Lease: t.Lease, From: t.State, To: to, Change: change, Within: time.Hour}
}
