package scheduler

import (
	"context"
	"slices"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// apart are the tasks of this process that two processes died of already. Such a task runs alone: while there is
// one the process claims nothing, and once what runs has ended they run one after another. Until its turn a task
// is held without being worked on, and the store knows that: if the process dies, it was not this task.
type apart struct {
	waiting []setAside
	alone   gantry.TaskID // that runs now; 0: none
}

type setAside struct {
	gantry.Task
	at time.Time
}

// quiet tells whether the process claims nothing. The claimer's lock is held.
func (a *apart) quiet() bool { return len(a.waiting) > 0 || a.alone != 0 }

// runsAlone tells whether a task runs alone now.
func (c *claimer) runsAlone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apart.alone != 0
}

func (a *apart) ended(t gantry.Task) {
	if a.alone == t.Task {
		a.alone = 0
	}
}

// setAside keeps a task that is to run alone, and tells whether it is one.
func (c *claimer) setAside(t gantry.Task) bool {
	if t.Crashes < gantry.CrashesToBeAlone {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.apart.waiting = append(c.apart.waiting, setAside{t, time.Now()})
	c.hot[t.Lane] = true // only one such comes with each claim
	return true
}

// keepsAside tells whether a task waits here to run alone.
func (c *claimer) keepsAside(t gantry.TaskID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.apart.alone == t || slices.ContainsFunc(c.apart.waiting, func(x setAside) bool { return x.Task.Task == t })
}

// nextAlone begins the next task that runs alone, if nothing else runs here any more, and tells whether
// the process claims nothing for now.
func (c *claimer) nextAlone(ctx context.Context, start func(gantry.Task)) (quiet bool, err error) {
	c.mu.Lock()
	quiet = c.apart.quiet()
	if !quiet || c.apart.alone != 0 || c.count > len(c.apart.waiting) || len(c.doubt) > 0 { // what may be here would run beside it
		c.mu.Unlock()
		return quiet, nil
	}
	next := slices.MinFunc(c.apart.waiting, func(a, b setAside) int { return int(a.Crashes) - int(b.Crashes) })
	c.apart.alone = next.Task.Task
	c.mu.Unlock()
	held, err := c.s.store.Alone(ctx, c.s.Worker, next.Lease)
	c.mu.Lock()
	if err != nil {
		c.apart.alone = 0
		c.mu.Unlock()
		return true, err
	}
	c.apart.waiting = slices.DeleteFunc(c.apart.waiting, func(x setAside) bool { return x.Lease == next.Lease })
	c.mu.Unlock()
	if !held {
		c.finished(next.Task)
		return true, nil
	}
	next.Remaining -= time.Since(next.at)
	start(next.Task)
	return true, nil
}

// handBack gives up those of the tasks that were set aside which it is asked to; another process may have them.
func (c *claimer) handBack(ctx context.Context, which func(gantry.TaskID) bool) (any bool) {
	c.mu.Lock()
	var back []gantry.Task
	c.apart.waiting = slices.DeleteFunc(c.apart.waiting, func(x setAside) bool {
		take := x.Task.Task != c.apart.alone && which(x.Task.Task)
		if take {
			back = append(back, x.Task)
		}
		return take
	})
	c.mu.Unlock()
	for _, t := range back {
		err := c.s.land(ctx, &gantry.Transition{Lease: t.Lease, From: t.State, To: t.State, Stage: t.Stage, Change: gantry.Release})
		c.s.report(ctx, "hand back a task that was set aside", err)
		c.finished(t)
	}
	return len(back) > 0
}
