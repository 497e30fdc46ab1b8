package dir

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	announcers = 8           // announcements at once
	scanPause  = time.Second // between two looks at everything, however often the system loses count
)

// Watch announces each file once it has not changed for the settling time, and again whenever it
// has changed since. The system tells what happens; everything is looked at besides, at the start
// and every 30 s, since network shares tell nothing and queues overflow. A file whose announcement
// failed is announced again after 1 s, later 30 s. A folder that cannot be read at the start is an
// error; one that goes away later is waited for, and told of. Watch returns nil when ctx ends.
func (s *source) Watch(ctx context.Context, announce func(context.Context, gantry.Object) error) error {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{
		source: s, announce: announce,
		seen: map[string]sighting{}, open: map[string]*candidate{}, results: make(chan result),
	}
	defer w.stop(cancel)
	if err := wantFolder(s.path); err != nil {
		return err
	}
	w.notes, _ = s.listen() // without it, looking oftener will do
	return w.run(ctx)
}

// watcher is one Watch. All but the announcements runs in its own goroutine.
type watcher struct {
	*source
	announce func(context.Context, gantry.Object) error
	notes    notes
	seen     map[string]sighting   // announced, by ref
	open     map[string]*candidate // not announced yet, by ref
	queue    queue
	ready    []*candidate
	running  int
	results  chan result
	round    int // of looking at everything
	scanned  time.Time
	scanAt   time.Time
	absent   time.Duration // the pause while the folder is away
}

// sighting is a file that was announced.
type sighting struct {
	stamp stamp
	round int // the last that found it
}

// result is how an announcement went.
type result struct {
	c     *candidate
	stamp stamp
	err   error
}

func (w *watcher) run(ctx context.Context) error {
	if err := w.scanAll(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	w.note(ctx, nil)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		w.begin(ctx)
		timer.Reset(w.untilNext())
		select {
		case <-ctx.Done():
		case r := <-w.results:
			w.finish(ctx, r)
		case e, ok := <-w.notes.events:
			w.told(ctx, e, ok)
		case _, ok := <-w.notes.errors:
			w.lost(ok)
		case <-timer.C:
			if !w.now().Before(w.scanAt) {
				w.note(ctx, w.scanAll(ctx)) // what went wrong is looked at again
			}
		}
	}
	return nil
}

// Note says who is told whether the folder can be looked at.
func (s *source) Note(tell func(context.Context, gantry.Notice) error) { s.tell = tell }

// note tells how a look at everything went.
func (w *watcher) note(ctx context.Context, err error) {
	if w.tell != nil && ctx.Err() == nil {
		w.tell(ctx, gantry.Notice{Channel: gantry.ChannelFolder, Err: err})
	}
}

func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stop waits for the announcements that run.
func (w *watcher) stop(cancel func()) {
	cancel()
	if w.notes.close != nil {
		w.notes.close()
	}
	for ; w.running > 0; w.running-- {
		<-w.results
	}
}

// untilNext is how long there is nothing to do, if nothing happens.
func (w *watcher) untilNext() time.Duration {
	next := w.scanAt
	if len(w.queue) > 0 && w.queue[0].at.Before(next) {
		next = w.queue[0].at
	}
	return max(next.Sub(w.now()), 0)
}

// begin starts the announcements that are due, as many as may run.
func (w *watcher) begin(ctx context.Context) {
	for c := w.queue.take(w.now()); c != nil; c = w.queue.take(w.now()) {
		c.busy = true
		w.ready = append(w.ready, c)
	}
	for w.running < announcers && len(w.ready) > 0 && ctx.Err() == nil {
		c := w.ready[0]
		w.ready[0] = nil
		w.ready = w.ready[1:]
		if w.settled(c) {
			w.running++
			o := gantry.Object{
				Ref: c.ref, Name: strings.ToValidUTF8(path.Base(c.ref), "\uFFFD"),
				Size: c.stamp.size, Sequencer: c.stamp.String(),
			}
			go func(was stamp) { w.results <- result{c, was, w.announce(ctx, o)} }(c.stamp)
		} else {
			c.busy = false
		}
	}
}

// settled tells whether c is as it was when it became due. If not, it is put off or forgotten.
func (w *watcher) settled(c *candidate) bool {
	info, err := w.lstat(c.ref)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !info.Mode().IsRegular():
		w.drop(c)
	case err != nil:
		w.again(c, 0)
	case stampOf(info) != c.stamp:
		c.stamp = stampOf(info)
		w.queue.schedule(c, w.now().Add(w.settle))
	default:
		return true
	}
	return false
}

// drop forgets a candidate, wherever it stands.
func (w *watcher) drop(c *candidate) {
	c.queued = time.Time{}
	delete(w.open, c.ref)
}

// again puts a candidate off after a failure, by at least atLeast.
func (w *watcher) again(c *candidate, atLeast time.Duration) {
	c.pause = w.longer(c.pause)
	w.queue.schedule(c, w.now().Add(max(c.pause, atLeast)))
}

// longer gives the pause after a pause.
func (w *watcher) longer(pause time.Duration) time.Duration {
	return min(max(2*pause, w.pause), w.rescan)
}

// finish takes the result of an announcement. The file may have changed meanwhile.
func (w *watcher) finish(ctx context.Context, r result) {
	w.running--
	r.c.busy = false
	if r.err != nil {
		w.again(r.c, gantry.RetryAfterOf(r.err))
		return
	}
	w.drop(r.c)
	w.seen[r.c.ref] = sighting{r.stamp, w.round}
	w.look(ctx, r.c.ref)
}

// told looks at what the system tells of.
func (w *watcher) told(ctx context.Context, e fsnotify.Event, ok bool) {
	if !ok {
		w.lost(false)
		return
	}
	rel, err := filepath.Rel(w.path, e.Name)
	if err != nil || !filepath.IsLocal(rel) {
		return
	}
	if rel == "." {
		w.lost(true)
		return
	}
	ref := filepath.ToSlash(rel)
	for name := range strings.SplitSeq(ref, "/") {
		if ignored(name) {
			return
		}
	}
	w.look(ctx, ref)
}

// lost looks at everything soon, because the system lost count. If it will tell nothing more,
// that is kept up.
func (w *watcher) lost(more bool) {
	if !more {
		w.notes.events, w.notes.errors = nil, nil
	}
	if soon := w.scanned.Add(scanPause); soon.Before(w.scanAt) {
		w.scanAt = soon
	}
}
