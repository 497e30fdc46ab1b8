package sim

import (
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sim/model"
)

const (
	readSlack = 5 * time.Millisecond  // by how much two readings of one moment may differ
	liftSlack = 50 * time.Millisecond // by less than this a rest is not made longer
	idleCalls = 5 * time.Second       // for so long a process that was idle may not know of a rest, since nobody told it
)

// rest is a time for which a target asked to be left alone, as it was written down.
type rest struct {
	from, until time.Time
	calls       map[*proc]time.Time // the first that each process began in it
}

// rest notes that one is written down.
func (c *check) rest(limiter int32, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, now := c.resting[limiter], time.Now()
	if now.After(r.until) {
		r = rest{from: now, calls: map[*proc]time.Time{}}
	}
	if at := now.Add(d); at.After(r.until) {
		r.until = at
	}
	c.resting[limiter] = r
}

// begins looks at a call that leaves its process: none does while the process knows that the target is to be left
// alone, and within moments all know.
func (c *check) begins(x processor, at time.Time) {
	if k := x.p.rest(x.limiter); at.After(k.since) && at.Before(k.until.Add(-readSlack)) {
		c.fail("a call to %s begins %s before its process may, which knows since %s", x.name, k.until.Sub(at), at.Sub(k.since))
	}
	c.mu.Lock()
	r := c.resting[x.limiter]
	first, again := r.calls[x.p]
	if at.Before(r.until) && !again {
		r.calls[x.p] = at
	}
	c.mu.Unlock()
	if again && at.Before(r.until) && at.Sub(first) > idleCalls {
		c.fail("a call to %s begins %s before it may, and %s after another one that might not", x.name, r.until.Sub(at), at.Sub(first))
	}
}

// holding looks at an event of a task that may be paused: nothing becomes of it then but its end by an operator.
func (c *check) holding(name string, e model.Event) {
	if _, ok := c.held[e.Task]; ok && e.Change != gantry.Resumed && e.Change != gantry.Move && !(e.Change == gantry.End && e.Worker == 0) {
		c.fail("task %s: event %d of change %d comes while it is paused", name, e.Seq, e.Change)
	}
	delete(c.held, e.Task)
	if e.Change == gantry.Pause {
		c.held[e.Task] = time.Now()
	}
}

// works counts the requests of a process that are at services. mu is held.
func (c *check) works(p *proc, task string, n int) {
	if c.atWork[p] == nil {
		c.atWork[p] = map[string]int{}
	}
	if c.atWork[p][task] += n; c.atWork[p][task] == 0 {
		delete(c.atWork[p], task)
	}
}

// mayCome holds a request to what operators paused, and to the rule that a task which processes died of is alone.
func (c *check) mayCome(x processor, task string, began time.Time) {
	c.run.db.Look(func(v model.View) {
		for _, t := range v.Tasks() {
			if t.PublicID != task {
				continue
			}
			if since, ok := c.held[t.ID]; ok && v.Paused(t.ID) && began.After(since) {
				c.fail("a request of task %s began %s after it was paused", task, began.Sub(since))
			}
			for i, ids := range c.run.ids {
				since, ok := c.pausedSince("pipeline:" + c.run.world.pipelines[i].Name)
				if ok && ids.pipeline == t.Pipeline && began.Sub(since) > heardOf {
					c.fail("a request of task %s began %s after its pipeline was paused", task, began.Sub(since))
				}
			}
			c.mu.Lock()
			n := len(c.atWork[x.p])
			c.mu.Unlock()
			if h := v.Hot(t.ID); h != nil && h.Crashes >= gantry.CrashesToBeAlone && n > 1 {
				c.fail("task %s, of which %d processes died, is at work beside %d others", task, h.Crashes, n-1)
			}
		}
	})
}

func (c *check) pausedSince(key string) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.paused[key]
	return t, ok
}

// deaths holds the tasks that processes died of to the rule: the fifth death ends a task, and no other does.
func (c *check) deaths(v model.View) {
	died, reopened := map[gantry.TaskID]int{}, map[gantry.TaskID]bool{}
	for _, e := range v.Events() {
		if e.Change == model.Rescued {
			died[e.Task]++
		}
		reopened[e.Task] = reopened[e.Task] || e.Change == gantry.Reopened
	}
	for _, t := range v.Tasks() {
		n := died[t.ID]
		if t.Code == gantry.CodeCrashed && t.Parent == 0 && n < gantry.CrashesToFail && !c.childCrashed(v, t.ID) {
			c.fail("task %s has crashed, and %d processes died", t.PublicID, n)
		}
		if n > gantry.CrashesToFail && !reopened[t.ID] {
			c.fail("%d processes died of task %s", n, t.PublicID)
		}
	}
	if c.run.faults.poison {
		c.poison(v)
	}
}

// poison holds a run in which one object kills to the rule that this task alone ends by that.
func (c *check) poison(v model.View) {
	called, parts := map[gantry.TaskID]bool{}, false
	for _, in := range v.Intents() {
		called[in.Task] = called[in.Task] || in.Boundary == gantry.AtProcessor
	}
	for _, t := range v.Tasks() {
		parts = parts || t.Parent != 0 && c.run.poison(t)
	}
	for _, t := range v.Tasks() {
		switch crashed := t.Code == gantry.CodeCrashed; {
		case parts: // each of which others died beside
		case c.run.poison(t) && called[t.ID] && !crashed:
			c.fail("the poison of task %s ends as %s", t.PublicID, t.Final)
		case !c.run.poison(t) && crashed:
			c.fail("task %s has crashed beside a poison", t.PublicID)
		}
	}
}

func (c *check) childCrashed(v model.View, id gantry.TaskID) bool {
	for _, t := range v.Tasks() {
		if t.Parent == id && (t.Code == gantry.CodeCrashed || c.childCrashed(v, t.ID)) {
			return true
		}
	}
	return false
}
