package scheduler

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	claimBatch = 100
	pollMin    = 5 * time.Millisecond
	pollMax    = 500 * time.Millisecond
	lanesEvery = 2 * time.Second
	doubtFor   = time.Second      // after a claim whose end is not known: until then it may still land
	heldEvery  = 10 * time.Second // how often this process looks what it holds, in any case
)

// claimer takes ready tasks while this process has room, lane by lane, never more than the units it
// holds of the lane's pipeline.
type claimer struct {
	s    *Session
	poke chan struct{}

	mu     sync.Mutex
	count  int
	hot    map[int32]bool // lanes that surely or probably have work
	lanes  []gantry.Lane
	readAt time.Time
	turn   int
	look   bool // a wake-up did not say where

	doubt   []gantry.Want // of claims whose end is not known; their units stay taken. The claiming goroutine's own
	doubted time.Time     // when the last of them failed
	asked   time.Time     // when it was found out last what this process holds
}

func newClaimer(s *Session) *claimer {
	return &claimer{s: s, poke: make(chan struct{}, 1), hot: map[int32]bool{}}
}

func (c *claimer) running() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// wake marks lanes as having work; none means that any may have.
func (c *claimer) wake(lanes ...int32) {
	c.mu.Lock()
	c.look = c.look || len(lanes) == 0
	for _, l := range lanes {
		c.hot[l] = true
		if !slices.ContainsFunc(c.lanes, func(x gantry.Lane) bool { return x.ID == l }) {
			c.readAt = time.Time{}
		}
	}
	c.mu.Unlock()
	c.nudge()
}

func (c *claimer) nudge() {
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

// finished gives back the room and the unit of a task; not the unit of one that was let go of because the lease
// was called lost, for that one is in progress until it is rescued.
func (c *claimer) finished(t gantry.Task) {
	c.mu.Lock()
	c.count--
	again := len(c.hot) > 0
	limiter := c.limiterOf(t.Lane)
	c.mu.Unlock()
	if b := c.bucket(limiter); b != nil && c.s.Alive() {
		b.release(1)
	}
	if again {
		c.nudge()
	}
}

func (c *claimer) limiterOf(lane int32) int32 {
	for _, l := range c.lanes {
		if l.ID == lane {
			return l.Limiter
		}
	}
	return 0
}

func (c *claimer) bucket(limiter int32) *bucket {
	c.s.keeper.mu.Lock()
	defer c.s.keeper.mu.Unlock()
	return c.s.keeper.buckets[limiter]
}

// run claims until ctx ends. A poll looks into every lane even if nobody woke the process, since
// notifications may be lost.
func (c *claimer) run(ctx context.Context, start func(gantry.Task)) {
	pause := pollMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		polled := false
		select {
		case <-ctx.Done():
			return
		case <-c.poke:
		case <-timer.C:
			polled = true
		}
		got, err := c.round(ctx, polled, start)
		if err != nil && ctx.Err() == nil {
			c.s.opts.Log.Warn("claim", "err", err)
		}
		if got > 0 {
			pause = pollMin
		} else if polled {
			pause = min(2*pause, pollMax)
		}
		jitter := 1 + (c.s.opts.Rand()-0.5)/2
		timer.Reset(time.Duration(float64(pause) * jitter))
	}
}

// round claims once from every lane that has work, and says how many tasks it got.
func (c *claimer) round(ctx context.Context, polled bool, start func(gantry.Task)) (int, error) {
	if !c.s.Alive() {
		return 0, nil // what it held it has let go of, though by the books it is in progress still
	}
	if err := c.refresh(ctx); err != nil {
		return 0, err
	}
	if err := c.findOut(ctx, start); err != nil {
		return 0, err
	}
	room := c.s.opts.Tasks - c.running()
	if room <= 0 {
		return 0, nil
	}
	if polled || c.lookNow() {
		if err := c.findHot(ctx); err != nil {
			return 0, err
		}
	}
	lanes := c.hotLanes()
	if len(lanes) == 0 {
		return 0, nil
	}
	want, err := c.wants(ctx, lanes, room)
	if err != nil || len(want) == 0 {
		return 0, err
	}
	tasks, err := c.s.store.Claim(ctx, c.s.Worker, want)
	if err != nil {
		c.doubt, c.doubted = append(c.doubt, want...), time.Now()
		return 0, err
	}
	c.begin(want, tasks, start)
	return len(tasks), nil
}

// begin starts the tasks of a claim.
func (c *claimer) begin(want []gantry.Want, tasks []gantry.Task, start func(gantry.Task)) {
	got := map[int32]int{}
	for _, t := range tasks {
		got[t.Lane]++
	}
	c.settle(want, got)
	for _, t := range tasks {
		start(t)
	}
}

// findOut takes up the tasks that this process holds and does not know of, since the answer of a claim got lost
// or a transition could not be committed: nobody else may have them. Until then the units of such claims stay
// taken.
func (c *claimer) findOut(ctx context.Context, start func(gantry.Task)) error {
	if (len(c.doubt) == 0 || time.Since(c.doubted) < doubtFor) && time.Since(c.asked) < heldEvery {
		return nil
	}
	tasks, err := c.s.store.Held(ctx, c.s.Worker)
	if err != nil {
		return err
	}
	c.asked = time.Now()
	tasks = slices.DeleteFunc(tasks, func(t gantry.Task) bool { return c.s.knows(t.Lease) })
	doubt := c.doubt
	c.doubt = nil
	if len(doubt)+len(tasks) > 0 {
		c.begin(doubt, tasks, start)
	}
	return nil
}

// wants takes units for each lane and says how many tasks to claim from it. The room is shared out
// evenly; lanes take turns in being first.
func (c *claimer) wants(ctx context.Context, lanes []gantry.Lane, room int) ([]gantry.Want, error) {
	var want []gantry.Want
	each := min(claimBatch, max(1, room/len(lanes)))
	for _, l := range lanes {
		if room <= 0 {
			break
		}
		b, err := c.s.keeper.bucket(ctx, l.Limiter)
		if err != nil {
			return nil, err
		}
		b.onGrant(c.nudge)
		n := b.take(min(each, room))
		if n < min(each, room) {
			b.setHope(min(each, room) - n)
		}
		if n > 0 {
			want = append(want, gantry.Want{Lane: l.ID, N: n})
			room -= n
		}
	}
	return want, nil
}

// settle gives back the units that no task was found for, counts the tasks, and forgets lanes
// that had fewer tasks than asked for. A lane may stand there more than once.
func (c *claimer) settle(want []gantry.Want, got map[int32]int) {
	again := false
	for _, w := range want {
		n := min(w.N, got[w.Lane])
		got[w.Lane] -= n
		c.mu.Lock()
		limiter := c.limiterOf(w.Lane)
		c.count += n
		if n < w.N {
			delete(c.hot, w.Lane)
		} else {
			again = true
		}
		c.mu.Unlock()
		b := c.bucket(limiter)
		b.release(w.N - n)
		if n < w.N {
			b.setHope(0)
		}
	}
	for lane, n := range got { // that no unit was taken for
		c.mu.Lock()
		limiter := c.limiterOf(lane)
		c.count += n
		c.mu.Unlock()
		if b := c.bucket(limiter); b != nil {
			b.seize(n)
		}
	}
	if again {
		c.nudge()
	}
}

func (c *claimer) refresh(ctx context.Context) error {
	c.mu.Lock()
	fresh := time.Since(c.readAt) < lanesEvery
	c.mu.Unlock()
	if fresh {
		return nil
	}
	lanes, err := c.s.store.Lanes(ctx, c.s.Worker, c.s.opts.Private)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes, c.readAt = lanes, time.Now()
	return nil
}

func (c *claimer) lookNow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	look := c.look
	c.look = false
	return look
}

// findHot asks the database which lanes have ready tasks.
func (c *claimer) findHot(ctx context.Context) error {
	c.mu.Lock()
	ids := make([]int32, len(c.lanes))
	for i, l := range c.lanes {
		ids[i] = l.ID
	}
	c.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	ready, err := c.s.store.ReadyLanes(ctx, ids)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ready {
		c.hot[id] = true
	}
	return nil
}

// hotLanes lists the lanes with work, another one first each time.
func (c *claimer) hotLanes() []gantry.Lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []gantry.Lane
	for _, l := range c.lanes {
		if c.hot[l.ID] {
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
