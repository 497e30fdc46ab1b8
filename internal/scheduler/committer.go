package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	maxBatchWrites = 2000
	maxBatchBytes  = 1 << 20              // of bodies, so that bulky rows never delay an intent for long
	paceMin        = 2 * time.Millisecond // between two commits while calls wait for units
	paceMax        = 6 * time.Millisecond // and the longest that one is put off
	queueSize      = 4096
	maxTries       = 20
)

// committer makes writes durable in batches: whatever was queued while the last commit ran goes
// into the next. One statement batch is in flight at a time.
type committer struct {
	store  Store
	worker gantry.WorkerID
	log    *slog.Logger
	load   func() (waiting, inUse int) // calls that wait for units, and units in use
	queue  chan *request
	closed chan struct{} // nobody serves the queue any more
	ended  tempo         // the goroutine's own

	committed func(writes int, took time.Duration) // nil, or told of each commit

	mu      sync.Mutex
	flushes int64
	rows    int64
}

// errRefused is the answer to a write that the database read and said no to.
var errRefused = errors.New("commit refused")

type request struct {
	write *gantry.Write
	done  chan error
}

func newCommitter(store Store, w gantry.WorkerID, log *slog.Logger, load func() (waiting, inUse int)) *committer {
	return &committer{store: store, worker: w, log: log, load: load, queue: make(chan *request, queueSize), closed: make(chan struct{})}
}

// Commit returns when w is durable; ErrFenced if the task is no longer this process's. Once a
// write is queued it waits for the result, whatever becomes of ctx.
func (c *committer) Commit(ctx context.Context, w *gantry.Write) error {
	r := &request{write: w, done: make(chan error, 1)}
	select {
	case c.queue <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.closed:
		return ErrStopping
	}
	select {
	case err := <-r.done:
		return err
	case <-c.closed:
	}
	select {
	case err := <-r.done:
		return err
	default:
		return ErrStopping
	}
}

// run serves the queue until ctx ends, then what is still in it.
func (c *committer) run(ctx context.Context) {
	defer close(c.closed)
	var last time.Time
	var took time.Duration
	for {
		var first *request
		select {
		case first = <-c.queue:
		case <-ctx.Done():
			select {
			case first = <-c.queue:
			default:
				return
			}
		}
		if wait := c.pace() - time.Since(last); wait > 0 {
			time.Sleep(wait)
		}
		batch := c.gather(first, took)
		c.ended.note(batch, time.Since(last))
		last = time.Now()
		c.flush(context.WithoutCancel(ctx), batch, false)
		took = time.Since(last)
	}
}

// pace is the time between two commits. While calls that are on record wait for units, patience costs
// nothing and makes bigger batches: as long as a third of what waits will last.
func (c *committer) pace() time.Duration {
	waiting, inUse := c.load()
	if waiting == 0 || inUse < 16 {
		return 0
	}
	return min(paceMax, max(paceMin, time.Duration(waiting)*c.ended.each/3))
}

// tempo is how quickly calls end.
type tempo struct {
	each time.Duration // from one end to the next, on average
}

// note takes what came to an end in a span of time.
func (t *tempo) note(batch []*request, span time.Duration) {
	n := 0
	for _, r := range batch {
		if r.write.Outcome != nil {
			n++
		}
	}
	each := span
	if n > 0 {
		each = span / time.Duration(n)
	}
	t.each += (min(each, time.Second) - t.each) / 8
}

// gather takes what is queued. Whoever the last commit woke is about to write again: they may run first, as long as more
// comes of it, and no longer than a commit takes: half of what a small commit costs is the same for a large one.
func (c *committer) gather(first *request, most time.Duration) []*request {
	batch := []*request{first}
	size := bodyBytes(first.write)
	for begun, last := time.Now(), 0; len(batch) < maxBatchWrites && size < maxBatchBytes; {
		select {
		case r := <-c.queue:
			batch = append(batch, r)
			size += bodyBytes(r.write)
		default:
			if len(batch) == last || time.Since(begun) > min(most, paceMax) {
				return batch
			}
			last = len(batch)
			runtime.Gosched()
		}
	}
	return batch
}

func bodyBytes(w *gantry.Write) int {
	n := 0
	for i := range w.Items {
		n += len(w.Items[i].Body)
	}
	return n
}

// flush commits a batch. A batch that the database refuses is halved until the row at fault stands
// alone; one whose end is not known is looked up, for as long as that takes, before it is tried
// again: what landed would be refused or fenced the second time. doubted tells that it was tried before.
func (c *committer) flush(ctx context.Context, batch []*request, doubted bool) {
	unknown := false
	for try := 0; len(batch) > 0; try++ {
		var landed []bool
		var err error
		if unknown {
			if batch, err = c.lookUp(ctx, batch); err == nil {
				unknown = false
				continue
			}
		} else if landed, err = c.commit(ctx, batch); err == nil {
			c.count(len(batch))
			if doubted {
				c.lookAgain(ctx, batch, landed)
			}
			answer(batch, landed)
			return
		} else if refused(err) {
			if len(batch) == 1 {
				c.refuse(ctx, batch, err)
				return
			}
			half := len(batch) / 2
			c.flush(ctx, batch[:half], doubted)
			batch = batch[half:]
			continue
		}
		unknown, doubted = true, true
		c.log.Warn("commit", "rows", len(batch), "try", try, "err", err)
		if try >= maxTries {
			for _, r := range batch {
				r.done <- fmt.Errorf("commit: %w", err)
			}
			return
		}
		time.Sleep(min(time.Second, 10*time.Millisecond<<min(try, 10)))
	}
}

// lookAgain finds out about writes that were fenced at a second try: the first may have landed after it was looked
// up, and then it is what fenced the second.
func (c *committer) lookAgain(ctx context.Context, batch []*request, landed []bool) {
	if !slices.Contains(landed, false) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if found, err := c.store.Landed(ctx, c.worker, writesOf(batch)); err == nil {
		for i := range landed {
			landed[i] = landed[i] || found[i]
		}
	}
}

// refuse answers a write that the database says no to. One whose key is there already is one whose
// first commit was not known to have landed, and had not when it was looked up.
func (c *committer) refuse(ctx context.Context, batch []*request, err error) {
	if rest, lerr := c.lookUp(ctx, batch); lerr == nil && len(rest) == 0 {
		return
	}
	batch[0].done <- fmt.Errorf("%w: %w", errRefused, err)
}

func (c *committer) commit(ctx context.Context, batch []*request) ([]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	begun := time.Now()
	fail.Point("before_commit")
	landed, err := c.store.Commit(ctx, c.worker, writesOf(batch))
	fail.Point("after_commit")
	if err == nil && c.committed != nil {
		c.committed(len(batch), time.Since(begun))
	}
	return landed, err
}

// lookUp answers the writes of a lost commit that landed after all, and returns the others.
func (c *committer) lookUp(ctx context.Context, batch []*request) ([]*request, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	landed, err := c.store.Landed(ctx, c.worker, writesOf(batch))
	if err != nil {
		return batch, err
	}
	var rest []*request
	for i, r := range batch {
		if landed[i] {
			r.done <- nil
		} else {
			rest = append(rest, r)
		}
	}
	return rest, nil
}

func (c *committer) count(n int) {
	c.mu.Lock()
	c.flushes, c.rows = c.flushes+1, c.rows+int64(n)
	c.mu.Unlock()
}

func writesOf(batch []*request) []*gantry.Write {
	out := make([]*gantry.Write, len(batch))
	for i, r := range batch {
		out[i] = r.write
	}
	return out
}

func answer(batch []*request, landed []bool) {
	for i, r := range batch {
		if landed[i] {
			r.done <- nil
		} else {
			r.done <- gantry.ErrFenced
		}
	}
}

// refused tells whether the database read the statement and said no to its rows, as opposed to
// being away, restarting or cutting the line.
func refused(err error) bool {
	e, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err)
	if !ok {
		return false
	}
	switch s := e.SQLState(); s[:2] {
	case "22", "23", "42", "54": // data, constraint, statement, program limit
		return true
	}
	return false
}
