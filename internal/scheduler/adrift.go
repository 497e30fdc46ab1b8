package scheduler

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	adriftFor   = 35 * time.Second // longer than a statement whose answer was lost may still run
	adriftEvery = time.Second
)

// suspect notes that this process may own a task that it does not run: the answer to a claim was lost, or a task
// was let go of without a transition that landed. While the process lives nobody would rescue it.
func (c *claimer) suspect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adrift = time.Now().Add(adriftFor)
}

// returnAdrift releases the tasks that this process owns and does not run, if there may be any. It runs where claims
// are made, so that none is on its way. What has moved on meanwhile is fenced.
func (c *claimer) returnAdrift(ctx context.Context) error {
	c.mu.Lock()
	now := time.Now()
	due := now.Before(c.adrift) && now.Sub(c.checked) >= adriftEvery
	if due {
		c.checked = now
	}
	c.mu.Unlock()
	if !due {
		return nil
	}
	tasks, err := c.s.store.Owned(ctx, c.s.Worker)
	if err != nil {
		return err
	}
	for _, t := range tasks {
		if c.s.holds(t.Task) || c.keepsAside(t.Task) {
			continue
		}
		tr := &gantry.Transition{Lease: t.Lease, From: t.State, To: t.State, Stage: t.Stage, Change: gantry.Release}
		err := c.s.Commit(ctx, &gantry.Write{Lease: t.Lease, Transition: tr})
		c.s.opts.Log.Warn("hand back a task that nobody runs", "task", t.PublicID, "err", err)
	}
	return nil
}

// holds tells whether a task runs here.
func (s *Session) holds(t gantry.TaskID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[t] != nil
}
