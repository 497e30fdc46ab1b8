package app

import (
	"context"
	"strconv"
	"time"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	closeBatch = 100
	closeLook  = time.Second     // at most between two looks while collections are open: other processes open some too
	closeIdle  = 5 * time.Second // while none is
	closeSoon  = time.Millisecond
	closeHeld  = 20 * time.Millisecond // while what is due is held by another, who closes it or adds to it
)

// closer closes collections when they are due, beside all other processes that do.
type closer struct {
	*alarm
	app  *App
	wake func(lanes ...int32)
}

func newCloser(a *App, wake func(...int32)) *closer {
	return &closer{alarm: newAlarm(), app: a, wake: wake}
}

// run closes what is due until ctx ends. A database that is away is asked again.
func (c *closer) run(ctx context.Context) { c.alarm.run(ctx, c.look) }

// look closes what is due, and says when to look again.
func (c *closer) look(ctx context.Context) time.Duration {
	next, err := c.app.Store.NextDue(ctx)
	if err == nil && next == 0 {
		next = closeSoon
		var n int
		if n, err = c.close(ctx); n == 0 {
			next = closeHeld
		}
	}
	switch {
	case err != nil:
		if ctx.Err() == nil {
			c.app.Log.Warn("collections", "err", err)
		}
		return time.Duration((0.5 + c.app.rand()) * float64(closeLook))
	case next < 0:
		return closeIdle
	}
	return min(max(next, closeSoon), closeLook)
}

// close closes one batch, makes its tasks, and says how many collections that were.
func (c *closer) close(ctx context.Context) (int, error) {
	fail.Point("before_close")
	list, err := c.app.Store.CloseDue(context.WithoutCancel(ctx), closeBatch, c.app.collectionID)
	fail.Point("after_close")
	if err != nil {
		return 0, err
	}
	var lanes []int32
	for _, x := range list {
		c.app.Metrics.Closed(x.Pipeline, x.Reason)
		c.app.Log.Info("closed", "source", x.Source, "collection", x.Collection, "revision", x.Revision, "members", x.Members, "reason", string(x.Reason), "task", x.Task)
		if x.Task != "" {
			lanes = append(lanes, x.Lane)
		}
	}
	if len(lanes) > 0 {
		c.wake(lanes...)
	}
	return len(list), nil
}

// collectionID is the public id of the task of a group's revision.
func (a *App) collectionID(pipeline, source string, group gantry.Digest, revision int32) string {
	return gantry.PublicID(a.Key, pipeline, source, group.String(), strconv.Itoa(int(revision)))
}

// watchAgain puts off the open collections of the sources that this process is about to watch by the time that nobody did, before it closes any.
// It returns once that is done, or ctx ends: a database that is away is asked again.
func (a *App) watchAgain(ctx context.Context) {
	for sources := a.desk.collecting(); ; {
		err := a.Store.WatchAgain(ctx, sources)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.Log.Warn("collections", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration((0.5 + a.rand()) * float64(closeLook))):
		}
	}
}
