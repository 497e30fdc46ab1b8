package sim

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sim/model"
)

// operate is an operator who comes and goes.
func (r *run) operate() {
	d := r.dice.of("operator", "", 0)
	if r.faults.cancel {
		r.later(d.between(time.Second, 8*time.Second), r.cancelOne)
	}
	if r.faults.retry {
		for i := range 3 {
			r.later(d.more(1+i).between(5*time.Second, 20*time.Second), func() { r.retryOne(i) })
		}
	}
	if r.faults.hold {
		r.holdSome(d.more(20))
	}
	if r.faults.pause {
		from := d.more(5).between(time.Second, 8*time.Second)
		r.later(from, func() { r.allow(d.more(6).below(2)) })
		r.later(from+d.more(7).between(time.Second, 15*time.Second), func() { r.allow(r.world.services[0].concurrency) })
	}
}

// pick gives a task of those that somebody may be after; 0 if there is none. A part of another task is left to that
// one.
func (r *run) pick(n int, which func(*model.Task) bool) gantry.TaskID {
	var own []gantry.TaskID
	r.db.Look(func(v model.View) {
		for _, t := range v.Tasks() {
			if t.Parent == 0 && which(t) {
				own = append(own, t.ID)
			}
		}
	})
	if len(own) == 0 {
		return 0
	}
	return own[r.dice.of("pick", "", n).below(len(own))]
}

// cancelOne wants the end of a task.
func (r *run) cancelOne() {
	r.landing.Lock()
	defer r.landing.Unlock()
	if id := r.pick(0, func(*model.Task) bool { return true }); id != 0 {
		r.db.Cancel(context.Background(), id, "operator")
		r.check.moved()
	}
}

// retryOne puts a task that failed back to where it failed. What is refused for good it will meet again.
func (r *run) retryOne(n int) {
	r.landing.Lock()
	defer r.landing.Unlock()
	id := r.pick(1+n, func(t *model.Task) bool { return t.Ended && t.Final == gantry.Failed })
	if id != 0 && !r.over() {
		r.db.Reopen(context.Background(), id, hour, gantry.PriorityUrgent, "by operator")
		r.check.moved()
	}
}

// allow sets how many calls of the first service there may be at once: none pauses it.
func (r *run) allow(units int) {
	r.landing.Lock()
	defer r.landing.Unlock()
	s := r.world.services[0]
	r.db.EnsureLimiter(context.Background(), "http://"+s.name,
		gantry.LimiterSpec{MaxUnits: min(units, s.concurrency), Rate: s.rate, Burst: s.burst, Hold: callTimeout, Breaker: s.breaker}, true)
	r.check.allowed(s.name, units)
}

// holdSome pauses a task and a pipeline, and lets them go on.
func (r *run) holdSome(d dice) {
	var id gantry.TaskID
	from := d.between(time.Second, 8*time.Second)
	r.later(from, func() {
		r.do(func(ctx context.Context) {
			if id = r.pick(9, func(t *model.Task) bool { return !t.Ended }); id != 0 {
				r.db.Pause(ctx, id, "operator", "why")
			}
		})
	})
	r.later(from+d.more(1).between(time.Second, 20*time.Second), func() {
		r.do(func(ctx context.Context) {
			if id != 0 {
				r.db.Resume(ctx, id, "operator")
			}
		})
	})
	n := d.more(2).below(len(r.world.pipelines))
	key, from := "pipeline:"+r.world.pipelines[n].Name, d.more(3).between(time.Second, 8*time.Second)
	r.later(from, func() {
		r.do(func(ctx context.Context) {
			r.db.PauseLimit(ctx, key, "operator")
			r.check.allowed(key, 0)
		})
	})
	r.later(from+d.more(4).between(time.Second, 30*time.Second), func() {
		r.do(func(ctx context.Context) {
			r.db.ResumeLimit(ctx, key)
			r.check.allowed(key, 1)
		})
	})
}

// do does something at one moment.
func (r *run) do(f func(context.Context)) {
	r.landing.Lock()
	defer r.landing.Unlock()
	f(context.Background())
	r.check.moved()
}

// poisoned tells whether whoever works on a task, or on a part of it, dies of it.
func (r *run) poisoned(id string) (yes bool) {
	r.db.Look(func(v model.View) {
		for _, t := range v.Tasks() {
			yes = yes || t.PublicID == id && r.poison(t)
		}
	})
	return yes
}

// poison tells whether a task, or the one that it is a part of, is about the object that kills.
func (r *run) poison(t *model.Task) bool {
	return r.faults.poison && t.Arrival.Name == r.world.objects[0].ref
}
