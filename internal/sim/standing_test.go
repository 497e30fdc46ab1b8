package sim

import (
	"context"
	"fmt"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// The steps of histories about how targets stand, and about what operators ask.

// sayLimit reads a limit and how its target stands.
func (a *actor) sayLimit(ctx context.Context, id int32) string {
	got, err := a.Limit(ctx, id)
	rest := minutes(got.Rest)
	got.Rest = 0
	return answer(err, fmt.Sprintf("%+v, rests %s", got, rest))
}

func readLimit(limiter int) step {
	return step{fmt.Sprint("read limit ", limiter), func(ctx context.Context, a *actor) string { return a.sayLimit(ctx, a.limiters[limiter]) }}
}

func restFor(limiter int, d time.Duration) step {
	return step{fmt.Sprintf("limit %d rests for %s", limiter, d), func(ctx context.Context, a *actor) string {
		return answer(a.Rest(ctx, a.limiters[limiter], d), a.sayLimit(ctx, a.limiters[limiter]))
	}}
}

func breaker(w, limiter int, news gantry.BreakerNews) step {
	return step{fmt.Sprintf("worker %d tells %d of limit %d", w, news, limiter), func(ctx context.Context, a *actor) string {
		ok, err := a.Breaker(ctx, a.workers[w], a.limiters[limiter], news)
		return answer(err, ok, a.sayLimit(ctx, a.limiters[limiter]))
	}}
}

func urge(w, limiter, n int) step {
	return step{fmt.Sprintf("worker %d has %d urgent calls at limit %d", w, n, limiter), func(ctx context.Context, a *actor) string {
		return answer(a.Urge(ctx, a.workers[w], a.limiters[limiter], n), "done")
	}}
}

// holdLimit pauses a limit, or lets it go on.
func holdLimit(key string, paused bool) step {
	return step{fmt.Sprintf("pause %s %t", key, paused), func(ctx context.Context, a *actor) string {
		if paused {
			ok, err := a.PauseLimit(ctx, key, "me")
			return answer(err, ok)
		}
		ok, err := a.ResumeLimit(ctx, key)
		return answer(err, ok)
	}}
}

func alone(w int, task string, off int32) step {
	return step{fmt.Sprintf("worker %d begins %s alone, off %d", w, task, off), func(ctx context.Context, a *actor) string {
		ok, err := a.Alone(ctx, a.workers[w], a.lease(task, off))
		return answer(err, ok)
	}}
}

func pauseTask(task string) step {
	return step{"pause " + task, func(ctx context.Context, a *actor) string {
		return answer(a.Pause(ctx, a.tasks[task], "me", "why"), "done")
	}}
}

func resumeTask(task string) step {
	return step{"resume " + task, func(ctx context.Context, a *actor) string {
		ok, err := a.Resume(ctx, a.tasks[task], "me")
		return answer(err, ok)
	}}
}

func moveTask(task string, lane int) step {
	return step{fmt.Sprintf("move %s to lane %d", task, lane), func(ctx context.Context, a *actor) string {
		return answer(a.Move(ctx, a.tasks[task], gantry.Passage{Pipeline: a.pipeline, Lane: a.lanes[lane], Within: time.Hour}, "me"), "done")
	}}
}

// depart is a transition by which a process moves a task to a lane.
func depart(task string, lane int, off int32) hand {
	h := move(task, gantry.Move, gantry.Queued, 0, off, gantry.Transition{Code: gantry.CodeMoved})
	make := h.make
	h.name = fmt.Sprintf("depart of %s to lane %d off %d", task, lane, off)
	h.make = func(a *actor) (*gantry.Write, func()) {
		w, landed := make(a)
		w.Transition.Passage = &gantry.Passage{Pipeline: a.pipeline, Lane: a.lanes[lane], Within: time.Hour}
		return w, landed
	}
	return h
}

// outs are parts of a task that are out, or still.
func outs(task string, off int32, limiter int, x gantry.Part) hand {
	h := results(task, off, gantry.Write{})
	h.name = fmt.Sprintf("out of %s off %d: %+v", task, off, x)
	h.make = func(a *actor) (*gantry.Write, func()) {
		p := x
		p.Out.Limiter = a.limiters[limiter]
		return &gantry.Write{Lease: a.lease(task, off), Parts: []gantry.Part{p}}, func() {}
	}
	return h
}

// outFor is a part that is out for so long, and for so long at most.
func outFor(ordinal int32, submits int16, d, most time.Duration) gantry.Part {
	p := partOf(0, ordinal, gantry.PartOut, d/2)
	p.Submits, p.Out.Ticket, p.Out.For, p.Out.Left = submits, fmt.Sprint("t", submits), d.Microseconds(), most.Microseconds()
	return p
}

// more makes one more step of a random history, of those about standing and operators.
func (y *story) more(task string) step {
	lane := y.own.lanes + y.IntN(2)
	switch n := y.IntN(10); {
	case n == 0:
		return urge(y.worker(), y.limiter(), y.IntN(4))
	case n == 1:
		return restFor(y.limiter(), time.Duration(1+y.IntN(5))*2*time.Minute)
	case n == 2:
		return breaker(y.worker(), y.own.limiters+1, gantry.BreakerNews(y.IntN(5)))
	case n == 3:
		return holdLimit([]string{"pipeline:", "http://"}[y.IntN(2)]+y.prefix, y.IntN(3) == 0)
	case n < 6:
		return claimSome(y.worker(), gantry.Want{N: 1 + y.IntN(4), Aged: y.IntN(3), Upto: int16(y.IntN(8)), Begin: y.IntN(2) == 0}, y.lane())
	case task == "":
		return readLimit(y.own.limiters + 1)
	case n == 6:
		return alone(y.worker(), task, int32(y.IntN(3)/2))
	case n == 7:
		return pauseTask(task)
	case n == 8:
		return resumeTask(task)
	}
	return moveTask(task, lane)
}
