package scheduler

import (
	"context"
	"slices"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// agedClaim is how many tasks are claimed from a lane for one that is its oldest, whatever its priority.
const agedClaim = 8

// urgentPlaces is how many tasks a process of so many takes beyond them, if they are urgent: one that is full of
// long tasks must not keep an urgent one waiting.
func urgentPlaces(tasks int) int { return max(1, tasks/8) }

// Places is how many tasks a process that is told to take so many has at once: urgent ones, or others.
func Places(tasks int, urgent bool) int {
	if tasks <= 0 {
		tasks = DefaultTasks
	}
	if urgent {
		return tasks + urgentPlaces(tasks)
	}
	return tasks
}

// room says how many tasks may be claimed now, and whether only urgent ones.
func (c *claimer) room() (n int, urgent bool) {
	n = c.s.opts.Tasks - c.running()
	if n > 0 {
		return n, false
	}
	return n + urgentPlaces(c.s.opts.Tasks), true
}

// lookAround lists the lanes to claim from: those with work, or with urgent work; another one first each time.
func (c *claimer) lookAround(ctx context.Context, polled, urgent bool) ([]gantry.Lane, error) {
	if urgent {
		ids := c.laneIDs()
		if len(ids) == 0 {
			return nil, nil
		}
		found, err := c.s.store.UrgentLanes(ctx, ids)
		return c.inTurn(func(l int32) bool { return slices.Contains(found, l) }), err
	}
	if polled || c.lookNow() {
		if err := c.findHot(ctx); err != nil {
			return nil, err
		}
	}
	return c.inTurn(func(l int32) bool { return c.hot[l] }), nil
}

func (c *claimer) inTurn(has func(lane int32) bool) (out []gantry.Lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.lanes {
		if has(l.ID) {
			out = append(out, l)
		}
	}
	if len(out) > 1 {
		c.turn++
		k := c.turn % len(out)
		out = append(out[k:], out[:k]...)
	}
	return out
}

// share is what one lane gets of the room.
type share struct {
	gantry.Lane
	*bucket
	load, n int
	full    bool // no more units, or no more in one claim
}

// wants takes units for each lane and says how many tasks to claim from it. Each place goes to the lane that has
// the fewest tasks here by then: a lane with a long queue has no more of them than one with a short one has, whether
// the two share a pipeline or not.
func (c *claimer) wants(ctx context.Context, lanes []gantry.Lane, room int, urgent bool) ([]gantry.Want, error) {
	shares, err := c.shares(ctx, lanes)
	if err != nil {
		return nil, err
	}
	each, left := max(1, room/len(lanes)), room
	for s := least(shares); s != nil && left > 0; s = least(shares) {
		if s.n == claimBatch || s.take(1) == 0 {
			s.full = true
			continue
		}
		s.n++
		left--
	}
	hopes := map[*bucket]int{}
	var want []gantry.Want
	for _, s := range shares {
		if s.full && s.n < claimBatch {
			hopes[s.bucket] = min(claimBatch, max(left, hopes[s.bucket]+max(0, each-s.n)))
		}
		if s.n > 0 {
			want = append(want, c.want(s, urgent))
		}
	}
	for b, n := range hopes {
		b.setHope(n)
	}
	return want, nil
}

// want is what to ask of one lane.
func (c *claimer) want(s *share, urgent bool) gantry.Want {
	w := gantry.Want{Lane: s.ID, N: s.n, Begin: true}
	if urgent {
		w.Upto = gantry.PriorityUrgent
		return w
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.windows[s.Pipeline].Open(c.s.opts.Now()) {
		w.Upto = gantry.PriorityOffPeak - 1
	}
	w.Aged = (c.taken[s.ID]%agedClaim + s.n) / agedClaim
	return w
}

// shares begins with what each lane has.
func (c *claimer) shares(ctx context.Context, lanes []gantry.Lane) ([]*share, error) {
	out := make([]*share, len(lanes))
	for i, l := range lanes {
		b, err := c.s.keeper.bucket(ctx, l.Limiter)
		if err != nil {
			return nil, err
		}
		b.onGrant(c.nudge)
		c.mu.Lock()
		out[i] = &share{Lane: l, bucket: b, load: c.load[l.ID]}
		c.mu.Unlock()
	}
	return out, nil
}

// least is the lane that has the next place, nil if none can use it.
func least(shares []*share) (out *share) {
	for _, s := range shares {
		if !s.full && (out == nil || s.load+s.n < out.load+out.n) {
			out = s
		}
	}
	return out
}

// settle gives back the units that no task was found for, counts the tasks, and forgets lanes that had fewer tasks
// than asked for. A lane may stand there more than once. It tells whether any lane may have more.
func (c *claimer) settle(want []gantry.Want, got map[int32]int, urgent bool) (again bool) {
	for _, w := range want {
		n := min(w.N, got[w.Lane])
		got[w.Lane] -= n
		limiter := c.admit(w.Lane, n)
		fewer := n < w.N
		c.mu.Lock()
		if fewer && !urgent {
			delete(c.hot, w.Lane)
		}
		c.mu.Unlock()
		again = again || !fewer
		b := c.bucket(limiter)
		if b == nil {
			continue // the lane is gone by now
		}
		b.release(w.N - n)
		if fewer {
			b.setHope(0)
		}
	}
	for lane, n := range got { // that no unit was taken for
		if b := c.bucket(c.admit(lane, n)); b != nil {
			b.seize(n)
		}
	}
	return again
}

// admit counts n tasks of a lane that are here now, and gives the lane's limiter.
func (c *claimer) admit(lane int32, n int) (limiter int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count += n
	c.load[lane] += n
	c.taken[lane] += n
	return c.limiterOf(lane)
}
