package sim

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/gantry-imaging/gantry/internal/sim/model"
)

// partNamed finds the task and the part of an Idempotency-Key.
func partNamed(r *run, v model.View, key string) (string, gantry.PartKey) {
	f := strings.Split(key, "/")
	if len(f) != 6 {
		return key, gantry.PartKey{}
	}
	n := func(i int) int { x, _ := strconv.Atoi(f[i]); return x }
	k := gantry.PartKey{Leg: int16(n(1)), Ordinal: int32(n(4)), Generation: int16(n(5))}
	for _, t := range v.Tasks() {
		if t.PublicID != f[0] {
			continue
		}
		for i, ids := range r.ids {
			if ids.pipeline != t.Pipeline {
				continue
			}
			for s, st := range r.world.pipelines[i].Stages {
				for c, name := range st.Call {
					if st.Name == f[2] && name == f[3] {
						k.Stage, k.Processor = int16(s), int16(c)
					}
				}
			}
		}
	}
	return f[0], k
}

// final looks at what is left once all processes have ended.
func (c *check) final() {
	c.run.db.Look(func(v model.View) {
		c.allEnded(v)
		c.oneTaskEach(v)
		c.callsEnded(v)
		c.nothingHeld(v)
		c.deaths(v)
	})
	for path, x := range c.run.sink {
		if x.puts > 1 {
			c.fail("%s was put %d times at the sink", path, x.puts)
		}
	}
}

func (c *check) allEnded(v model.View) {
	var left []string
	for _, t := range v.Tasks() {
		if !t.Ended {
			left = append(left, fmt.Sprintf("%s %+v", t.PublicID, *v.Hot(t.ID)))
		}
	}
	if len(left) > 0 {
		c.fail("tasks do not end: %s", strings.Join(left, "; "))
	}
}

// oneTaskEach holds each object that was acknowledged to one task of its pipeline.
func (c *check) oneTaskEach(v model.View) {
	tasks := map[string]int{}
	for _, t := range v.Tasks() {
		if t.Parent == 0 {
			tasks[fmt.Sprintf("%d %s", t.Pipeline, t.Arrival.Name)]++
		}
	}
	for _, x := range c.run.world.objects {
		k := fmt.Sprintf("%d %s", c.run.ids[x.pipeline].pipeline, x.ref)
		if n := tasks[k]; n != 1 {
			c.fail("object %s has %d tasks", x.ref, n)
		}
	}
}

// callsEnded holds each call to an outcome, unless its process was killed, and each outcome to a call.
func (c *check) callsEnded(v model.View) {
	known := map[gantry.UUID]bool{}
	for _, in := range v.Intents() {
		known[in.ID] = true
		if _, ok := v.Outcome(in.Task, in.ID); !ok && !c.workers[in.Worker].isDead() {
			c.fail("a call of worker %d for task %d has no outcome, and the process was not killed", in.Worker, in.Task)
		}
	}
	for _, o := range v.Outcomes() {
		if !known[o.ID] {
			c.fail("an outcome of task %d has no intent", o.Task)
		}
	}
}

// nothingHeld holds the books to those who may still be on them: the dead.
func (c *check) nothingHeld(v model.View) {
	for _, g := range v.Grants() {
		if p := c.workers[g.Worker]; !p.isDead() && g.Held.IsZero() && v.Alive(g.Worker) {
			c.fail("worker %d has %d units of limit %d at the end", g.Worker, g.Units, g.Limiter)
		}
	}
}
