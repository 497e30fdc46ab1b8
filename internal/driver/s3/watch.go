package s3

import (
	"context"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	announcers  = 32              // announcements at once of what is new
	aside       = 16              // of what was there before
	listTimeout = time.Minute     // of one page
	slowLook    = 5 * time.Second // until a page that is not answered is told of
	maxBackoff  = time.Minute     // between two listings while they fail
	maxPostpone = 5 * time.Minute // between two announcements of one object
	maxRefused  = time.Hour       // the same of one that is gone, or that these credentials may not read
	maxLater    = 10_000          // objects of which it is known when to announce them again
	maxPages    = 1 << 20         // of one listing
	maxInline   = 1000            // old objects that one listing of everything announces itself
	grace       = time.Minute     // how long nobody need have told of an object
	seldom      = 4               // times as long as a listing took, it is not made again
)

// watchListing lists the bucket again and again and announces each object that the ledger does not know as it is, by
// ETag, size and time. A bucket of many pages is listed whole only at every sweep; in between, from the last key on up
// to which nothing is open, since many writers name their objects in order. The two go on side by side. Where a
// listing finds more than 1000 objects that are older than the watch, they are announced one page after the other
// beside both, and the ledger knows how far that got. A server that takes long for a listing is left alone four times as
// long, so that listings are at most a fifth of what it does.
//
// An announcement that failed is made again 1 s later or more, up to 5 minutes; up to an hour if the object is gone or
// refused. One that takes long is left behind by the listing that found it, and passed over by the next ones; while 32
// do, nothing else is looked for. What is kept in memory is two pages for each of the three listings, what is under
// way, and at most 10000 objects that failed. A bucket that cannot be listed at the start is an error; later, or once
// something of it is under way, that is waited for. It returns when ctx has ended, nil, and all announcements have.
func (s *source) watchListing(ctx context.Context, l gantry.Ledger, announce func(context.Context, gantry.Object) error) error {
	w := newWatcher(s, l, announce)
	if err := w.resume(ctx); err != nil {
		return unlessEnded(ctx, err)
	}
	defer w.side.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var pause time.Duration
	for first := true; ; first = false {
		err := w.round(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && first && len(w.places) == 0 {
			return err
		}
		wait := max(s.poll, seldom*w.took)
		if err != nil {
			l.Failed(string(gantry.ChannelPoll), err)
			pause = min(max(2*pause, s.pause), maxBackoff)
			wait = max(pause, gantry.RetryAfterOf(err))
		} else {
			l.Worked(string(gantry.ChannelPoll))
			if pause = 0; w.soon > 0 {
				wait = min(wait, max(w.soon, seldom*w.took))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// watcher is one watchListing. Its listings, which may run side by side, are passes.
type watcher struct {
	*source
	ledger   gantry.Ledger
	announce func(context.Context, gantry.Object) error
	began    time.Time     // what is older was there before
	soon     time.Duration // until the first object has settled; 0: none waits. The loop's alone
	took     time.Duration // of the requests of a listing such as the next one; 0: that will be short. The loop's alone
	side     sync.WaitGroup
	places   chan struct{} // taken by what is new and under way
	olds     chan struct{} // the same of what was there before and waits for room in its lane

	mu       sync.Mutex
	busy     map[string]struct{}    // keys of pages and objects under way
	later    map[objectID]postponed // states of objects that are put off
	progress gantry.TakeUp          // as the ledger has it
	taking   bool                   // the backlog is being taken up
	takeAt   time.Time              // not before, after one of which not all that failed is remembered
	sweeping bool                   // everything is being listed
	sweepAt  time.Time              // not before, after a sweep that failed
	swept    time.Time              // beginning of the last whole listing
	pages    int                    // of it
	cursor   string                 // up to here nothing is open, but what is retried by itself
	open     bool                   // something after cursor is
}

func newWatcher(s *source, l gantry.Ledger, announce func(context.Context, gantry.Object) error) *watcher {
	return &watcher{source: s, ledger: l, announce: announce, began: s.now(), places: make(chan struct{}, announcers), olds: make(chan struct{}, aside),
		busy: map[string]struct{}{}, later: map[objectID]postponed{}}
}

// resume goes on where the last watch stopped. A bucket whose highest key is known is taken for a large one.
func (w *watcher) resume(ctx context.Context) error {
	p, err := w.ledger.Progress(ctx)
	if err != nil {
		return err
	}
	w.progress = p
	if p.Tail != "" {
		w.cursor, w.pages = p.Tail, w.few+1
	}
	return nil
}

// large tells whether the bucket is not listed whole each time.
func (w *watcher) large() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pages > w.few
}

// due tells whether everything is to be listed.
func (w *watcher) due() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pages <= w.few || w.now().Sub(w.swept) >= w.sweep
}

// round does what one poll does. In a large bucket, listing everything goes on beside it.
func (w *watcher) round(ctx context.Context) error {
	w.soon, w.took = 0, 0
	var err error
	if w.large() {
		w.sweepAside(ctx)
		err = w.tail(ctx)
	} else {
		err = w.whole(ctx)
	}
	if err != nil {
		return err
	}
	w.takeUpAside(ctx)
	w.retry(ctx)
	return nil
}

// sweepAside begins to list everything, if that is due.
func (w *watcher) sweepAside(ctx context.Context) {
	if !w.due() || !w.begin(&w.sweeping, w.sweepAt) {
		return
	}
	w.side.Go(func() {
		err := w.whole(ctx)
		w.came(ctx, gantry.PartSweep, err)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.sweeping = false; err != nil {
			w.sweepAt = w.now().Add(max(maxBackoff, gantry.RetryAfterOf(err)))
		}
	})
}

// came tells the ledger what came of a part.
func (w *watcher) came(ctx context.Context, part string, err error) {
	switch {
	case err == nil:
		w.ledger.Worked(part)
	case ctx.Err() == nil:
		w.ledger.Failed(part, err)
	}
}

// takeUpAside begins to take up the backlog, if there is one.
func (w *watcher) takeUpAside(ctx context.Context) {
	w.mu.Lock()
	backlog, at := w.progress.Backlog, w.takeAt
	w.mu.Unlock()
	if !backlog || !w.begin(&w.taking, at) {
		return
	}
	w.side.Go(func() {
		w.came(ctx, gantry.PartBacklog, w.takeUp(ctx))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.taking = false
	})
}

// begin tells whether what a flag stands for may begin now, and sets the flag.
func (w *watcher) begin(flag *bool, notBefore time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if *flag || w.now().Before(notBefore) {
		return false
	}
	*flag = true
	return true
}

// keep changes the progress and tells the ledger.
func (w *watcher) keep(change func(*gantry.TakeUp)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.progress
	if change(&w.progress); w.progress != was {
		w.ledger.Keep(w.progress)
	}
}
