package app

import (
	"context"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	askAtOnce = 16                     // questions of one process, to all archives
	askFirst  = time.Second            // from the first question about a collection to the second
	askMost   = 30 * time.Second       // between later ones
	askSpare  = 5 * time.Second        // that a lease is longer than a question may take
	askBusy   = 100 * time.Millisecond // until an archive is tried again that had no place
	restFirst = 500 * time.Millisecond // for which an archive rests after a failure; at most askMost
)

// asker asks archives how many instances there are of open collections, beside all other processes that do.
type asker struct {
	*alarm
	app    *App
	closes func(time.Duration) // told how long it is until a collection is closed

	mu       sync.Mutex
	running  int
	archives map[int32]*asked // by limiter
	versions map[int32]*asked // by version of a pipeline
}

// asked is how it goes with one archive.
type asked struct {
	running  int
	most     int
	failures int       // in a row
	rests    time.Time // it is not asked before
}

// question is one with whom it is put to.
type question struct {
	gantry.Question
	rules   gantry.Collect
	archive gantry.Expecting
	key     gantry.ControlKey
	at      *asked
}

func newAsker(a *App, closes func(time.Duration)) *asker {
	return &asker{alarm: newAlarm(), app: a, closes: closes, archives: map[int32]*asked{}, versions: map[int32]*asked{}}
}

// run asks until ctx ends, and returns when no question is under way.
func (c *asker) run(ctx context.Context) {
	var under sync.WaitGroup
	defer under.Wait()
	c.alarm.run(ctx, func(ctx context.Context) time.Duration { return c.look(ctx, &under) })
}

// look puts what questions are due and may be put now, and says when to look again.
func (c *asker) look(ctx context.Context, under *sync.WaitGroup) time.Duration {
	for ctx.Err() == nil {
		busy, rest := c.busy()
		if rest == 0 {
			return closeIdle // the end of a question is told of
		}
		q, ok, err := c.claim(ctx, busy)
		if err == nil && !ok {
			return c.next(ctx, busy, rest)
		}
		if err != nil {
			return c.away(ctx, err)
		}
		if x, ok := c.open(ctx, q); ok {
			under.Go(func() { c.put(ctx, x) })
		}
	}
	return closeIdle
}

// claim takes a question. A process that stops meanwhile has to know which one, to give it back.
func (c *asker) claim(ctx context.Context, busy []int32) (gantry.Question, bool, error) {
	ctx, end := lasting(ctx)
	defer end()
	return c.app.Store.ClaimQuestion(ctx, gantry.DefaultExpect+askSpare, busy)
}

// lasting is for what is to end also while the process stops.
func lasting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), askSpare)
}

func (c *asker) next(ctx context.Context, busy []int32, rest time.Duration) time.Duration {
	next, err := c.app.Store.NextQuestion(ctx, busy)
	switch {
	case err != nil:
		return c.away(ctx, err)
	case next < 0:
		return rest
	}
	return min(max(next, closeSoon), rest, closeLook)
}

func (c *asker) away(ctx context.Context, err error) time.Duration {
	if ctx.Err() == nil {
		c.app.Log.Warn("archives", "err", err)
	}
	return time.Duration((0.5 + c.app.rand()) * float64(closeLook))
}

// busy lists the versions whose archives are asked as often at once as they may be, or rest, and says how long it is until one has
// rested; 0 if this process asks as often at once as it may.
func (c *asker) busy() (versions []int32, rest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running >= askAtOnce {
		return nil, 0
	}
	rest = closeIdle
	for v, x := range c.versions {
		left := time.Until(x.rests)
		if left > 0 {
			rest = min(rest, left)
		}
		if left > 0 || x.running >= x.most {
			versions = append(versions, v)
		}
	}
	return versions, rest
}

// open finds whom a question is for, and takes a place there; false if it is put off.
func (c *asker) open(ctx context.Context, q gantry.Question) (x question, ok bool) {
	x = question{Question: q}
	plan, err := c.app.plans.Plan(ctx, q.Version)
	if err == nil && (plan.Archive == nil || plan.Collect == nil) {
		err = gantry.Errorf(gantry.Illegal, "bad_pipeline", "pipeline version %d asks no archive", q.Version)
	}
	if err == nil {
		x.key, x.rules = gantry.ControlKey{Boundary: gantry.AtArchive, Pipeline: q.Version}, *plan.Collect
		x.archive, x.key.Limiter, err = plan.Archive(ctx)
	}
	if ctx.Err() != nil {
		c.later(ctx, q, 0)
		return x, false
	}
	if err != nil {
		c.app.Log.Warn("open archive", "pipeline", q.Pipeline, "code", string(gantry.CodeOf(err)), "err", err)
		c.later(ctx, q, askMost)
		return x, false
	}
	if x.at, ok = c.enter(x); !ok {
		c.later(ctx, q, c.jitter(askBusy))
	}
	return x, ok
}

// enter takes a place; false if there is none.
func (c *asker) enter(x question) (*asked, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.archives[x.key.Limiter]
	if at == nil {
		at = &asked{}
		c.archives[x.key.Limiter] = at
	}
	c.versions[x.Version], at.most = at, x.rules.Expect.AtOnce
	if at.running >= at.most || time.Until(at.rests) > 0 {
		return at, false
	}
	at.running++
	c.running++
	return at, true
}

// left gives the place back. An archive that failed rests, the longer the more often it did.
func (c *asker) left(x question, failed bool, wants time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.at.running--
	c.running--
	if !failed {
		x.at.failures = 0
		return
	}
	rest := min(restFirst<<min(x.at.failures, 10), askMost)
	x.at.failures++
	x.at.rests = time.Now().Add(max(min(wants, askMost), c.jitter(rest)))
}

// jitter is a time that is up to a half longer.
func (c *asker) jitter(d time.Duration) time.Duration {
	return d + time.Duration(c.app.rand()*float64(d)/2)
}

// pause is how long after a question the next one about its collection is put.
func (c *asker) pause(q gantry.Question) time.Duration {
	return c.jitter(min(askFirst<<min(max(q.Number-1, 0), 10), askMost))
}

// later puts a question off, also while the process stops.
func (c *asker) later(ctx context.Context, q gantry.Question, again time.Duration) {
	ctx, end := lasting(ctx)
	defer end()
	if err := c.app.Store.Unanswered(ctx, q, again); err != nil {
		c.app.Log.Warn("archives", "err", err) // its lease ends
		return
	}
	c.due(again)
}

// put puts a question and does what its answer asks for.
func (c *asker) put(ctx context.Context, x question) {
	if t := x.rules.Expect.Timeout; t > gantry.DefaultExpect {
		c.later(ctx, x.Question, t+askSpare)
	}
	fail.Point("before_ask")
	n, known, err := c.ask(ctx, x)
	fail.Point("after_ask")
	stopped := err != nil && ctx.Err() != nil
	c.left(x, err != nil && !stopped && gantry.CodeOf(err) != gantry.CodeBadUID, gantry.RetryAfterOf(err))
	c.due(0) // others may wait for the place
	outcome := "counted"
	switch {
	case stopped:
		c.later(ctx, x.Question, 0)
		return
	case err != nil:
		outcome = "failed"
		c.app.Log.Warn("ask archive", "pipeline", x.Pipeline, "collection", x.Collection, "code", string(gantry.CodeOf(err)), "err", err)
	case !known:
		outcome = "unknown"
	}
	c.app.Metrics.Asked(x.Pipeline, outcome)
	if outcome != "counted" {
		c.later(ctx, x.Question, c.pause(x.Question))
		return
	}
	ctx, end := lasting(ctx)
	defer end()
	got, ok, err := c.app.Store.Answered(ctx, x.Question, n, x.rules, c.pause(x.Question))
	fail.Point("after_counted")
	if err != nil {
		c.app.Log.Warn("archives", "err", err)
		c.due(closeLook)
	} else if ok {
		c.due(got.Ask)
		c.closes(got.Due)
	}
}

// ask puts a question on record and within its time.
func (c *asker) ask(ctx context.Context, x question) (n int, known bool, err error) {
	if x.rules.By != gantry.GroupSeries {
		x.Series = ""
	} else if x.Series == "" {
		return 0, false, gantry.Errorf(gantry.Illegal, gantry.CodeBadUID, "ask archive: nobody knows any more what it is to be asked about")
	}
	ctx, end := context.WithTimeout(ctx, x.rules.Expect.Timeout)
	defer end()
	return x.archive.Expect(c.app.control.WithControl(ctx, x.key), x.Study, x.Series)
}
