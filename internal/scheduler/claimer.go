package scheduler

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	claimBatch = 100
	pollMin    = 5 * time.Millisecond
	pollMax    = 500 * time.Millisecond
	lanesEvery = 2 * time.Second
	doubtFor   = time.Second           // after a claim whose end is not known: until then it may still land
	heldEvery  = 10 * time.Second      // how often this process looks what it holds, in any case
	crowdPart  = 8                     // of the places: fewer free are few
	crowdEvery = 25 * time.Millisecond // between two rounds while few places are free
)

// claimer takes ready tasks while this process has room, lane by lane, never more than the units it
// holds of the lane's pipeline; shares.go says how many of each.
type claimer struct {
	s    *Session
	poke chan struct{}

	mu      sync.Mutex
	count   int
	load    map[int32]int  // tasks here, by lane
	taken   map[int32]int  // tasks claimed so far, by lane
	hot     map[int32]bool // lanes that surely or probably have work
	lanes   []gantry.Lane
	windows map[string]gantry.Windows // in which off-peak tasks are begun, by pipeline
	readAt  time.Time
	turn    int
	look    bool // a wake-up did not say where
	apart   apart

	doubt   []gantry.Want // of claims whose end is not known; their units stay taken. The claiming goroutine's own
	doubted time.Time     // when the last of them failed
	asked   time.Time     // when it was found out last what this process holds
}

func newClaimer(s *Session) *claimer {
	return &claimer{s: s, poke: make(chan struct{}, 1), load: map[int32]int{}, taken: map[int32]int{}, hot: map[int32]bool{}}
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
	c.load[t.Lane]--
	c.apart.ended(t)
	again := len(c.hot) > 0 || c.apart.quiet()
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

// underHold gives a ctx whose work begins nothing new once the lane's pipeline is paused.
func (c *claimer) underHold(ctx context.Context, lane int32) context.Context {
	c.mu.Lock()
	limiter := c.limiterOf(lane)
	c.mu.Unlock()
	if b := c.bucket(limiter); b != nil {
		return gantry.WithHold(ctx, b.hold())
	}
	return ctx
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
	for last := (time.Time{}); ; last = time.Now() {
		polled := false
		select {
		case <-ctx.Done():
			return
		case <-c.poke:
		case <-timer.C:
			polled = true
		}
		c.await(ctx, last)
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

// await lets a process with few free places wait for more of them, but not for long: a claim of one task costs nearly as much
// as one of ten.
func (c *claimer) await(ctx context.Context, last time.Time) {
	for c.s.opts.Tasks-c.running() < max(1, c.s.opts.Tasks/crowdPart) {
		left := crowdEvery - time.Since(last)
		if left <= 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-c.poke:
		case <-time.After(left):
		}
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
	if quiet, err := c.nextAlone(ctx, start); quiet {
		return 0, err
	}
	room, urgent := c.room()
	if room <= 0 {
		return 0, nil
	}
	lanes, err := c.lookAround(ctx, polled, urgent)
	if err != nil || len(lanes) == 0 {
		return 0, err
	}
	want, err := c.wants(ctx, lanes, room, urgent)
	if err != nil || len(want) == 0 {
		return 0, err
	}
	tasks, err := c.s.store.Claim(ctx, c.s.Worker, want)
	if err != nil {
		c.doubt, c.doubted = append(c.doubt, want...), time.Now()
		return 0, err
	}
	if len(tasks) > 0 {
		fail.Point("after_claim")
	}
	again := c.begin(want, tasks, urgent, start) || len(want) < len(lanes)
	if again && (urgent || c.running() < c.s.opts.Tasks) { // a full process looks when a task ends or somebody wakes it
		c.nudge()
	}
	return len(tasks), nil
}

// begin starts the tasks of a claim, and tells whether there may be more.
func (c *claimer) begin(want []gantry.Want, tasks []gantry.Task, urgent bool, start func(gantry.Task)) (again bool) {
	got := map[int32]int{}
	for _, t := range tasks {
		got[t.Lane]++
	}
	again = c.settle(want, got, urgent)
	for _, t := range tasks {
		if !c.setAside(t) {
			start(t)
		}
	}
	return again
}

// findOut takes up the tasks that this process holds and does not know of, since the answer of a claim got lost
// or a transition could not be committed: nobody else may have them. Until then the units of such claims stay
// taken.
func (c *claimer) findOut(ctx context.Context, start func(gantry.Task)) error {
	if (len(c.doubt) == 0 || time.Since(c.doubted) < doubtFor) && time.Since(c.asked) < heldEvery || c.runsAlone() {
		return nil
	}
	tasks, err := c.s.store.Held(ctx, c.s.Worker)
	if err != nil {
		return err
	}
	c.asked = time.Now()
	tasks = slices.DeleteFunc(tasks, func(t gantry.Task) bool { return c.s.knows(t.Lease) || c.keepsAside(t.Task) })
	doubt := c.doubt
	c.doubt = nil
	if len(doubt)+len(tasks) > 0 {
		c.begin(doubt, tasks, false, start)
		c.nudge()
	}
	return nil
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
	var windows map[string]gantry.Windows
	if !c.s.opts.Private { // somebody waits for those of a private lane
		if windows, err = c.s.store.OffPeak(ctx); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes, c.windows, c.readAt = lanes, windows, time.Now()
	return nil
}

func (c *claimer) lookNow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	look := c.look
	c.look = false
	return look
}

// laneIDs lists all lanes.
func (c *claimer) laneIDs() []int32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	ids := make([]int32, len(c.lanes))
	for i, l := range c.lanes {
		ids[i] = l.ID
	}
	return ids
}

// findHot asks the database which lanes have ready tasks.
func (c *claimer) findHot(ctx context.Context) error {
	ids := c.laneIDs()
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
