package s3

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// objectID stands for one state of one object.
type objectID [sha256.Size / 2]byte

func idOf(ref, sequencer string) objectID {
	sum := sha256.Sum256([]byte(ref + "\x00" + sequencer))
	return objectID(sum[:])
}

// postponed says when an object whose announcement failed is announced again.
type postponed struct {
	sight
	until time.Time
	pause time.Duration
	far   bool // without a listing that shows it
	stays bool // until somebody mends it: nothing waits for that
}

// drop takes an object from those that are put off.
func (w *watcher) drop(x sight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.later, idOf(x.Ref, x.Sequencer))
}

// postpone puts an object off after a failure. Where there are too many of them, it comes again with
// the next listing. What outlasted its listing may lie before the cursor by now, and no listing that comes soon shows it.
func (w *watcher) postpone(x sight, err error, far bool) {
	most := maxPostpone
	if k := gantry.KindOf(err); k == gantry.NotFound || k == gantry.Denied {
		most = maxRefused
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id := idOf(x.Ref, x.Sequencer)
	was, known := w.later[id]
	stays := !gantry.KindOf(err).Retryable()
	if !known && len(w.later) >= maxLater && !w.forgetOne(stays) {
		return
	}
	pause := min(max(2*was.pause, w.pause), most)
	far = far || w.pages > w.few && x.Ref <= w.cursor
	w.later[id] = postponed{x, w.now().Add(max(pause, gantry.RetryAfterOf(err))), pause, far, stays}
}

// forgetOne makes room for an object that may be taken soon in the place of one that stays as it is, and tells whether it did;
// mu is held. What is forgotten is found by the next take-up, which is put off then: not by what is found while it waits, since what it has not come to
// waits for it.
func (w *watcher) forgetOne(stays bool) bool {
	if w.taking || !w.progress.Backlog {
		w.takeAt = w.now().Add(maxRefused)
	}
	if stays {
		return false
	}
	for id, x := range w.later {
		if x.stays {
			delete(w.later, id)
			return true
		}
	}
	return false
}

// settleLater puts an object off until it has settled.
func (p *pass) settleLater(x sight) {
	if p.soon == 0 || x.young < p.soon {
		p.soon = x.young
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if id := idOf(x.Ref, x.Sequencer); len(p.later) < maxLater {
		p.later[id] = postponed{sight: x, until: p.now().Add(x.young), far: p.far || p.later[id].far}
	}
}

// retryFar has all that is put off announced again without a listing that shows it; mu is held.
func (w *watcher) retryFar() {
	for id, x := range w.later {
		x.far = true
		w.later[id] = x
	}
}

// waits tells whether an object was put off before, and whether it still is.
func (w *watcher) waits(o gantry.Object) (before, still bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	x, before := w.later[idOf(o.Ref, o.Sequencer)]
	return before, w.now().Before(x.until)
}

// retry announces again what failed and is shown by no listing that is made soon. What is gone is left to the next
// listing of everything. What was there before may wait for room in its lane: it takes no place of what is new, and only those of the
// take-up that are free.
func (w *watcher) retry(ctx context.Context) {
	var list, old []sight
	free := cap(w.olds) - len(w.olds)
	w.mu.Lock()
	for _, x := range w.later {
		if _, busy := w.busy[x.Ref]; !x.far || busy || len(list) == gantry.MaxKnown || x.Backlog && len(old) >= free {
			continue
		}
		switch left := x.until.Sub(w.now()); {
		case left <= 0 && x.Backlog:
			w.busy[x.Ref] = struct{}{}
			old = append(old, x.sight)
		case left <= 0:
			w.busy[x.Ref] = struct{}{}
			list = append(list, x.sight)
		case w.soon == 0 || left < w.soon:
			w.soon = left
		}
	}
	w.mu.Unlock()
	r := w.anew()
	r.far, r.gone = true, true
	w.announceAll(ctx, list, r)
	r.places, r.spare = w.olds, true
	w.announceAll(ctx, old, r)
}

// room waits while too many objects are put off: each that failed is remembered, so the others have to wait. What nobody may read
// holds nothing up.
func (w *watcher) room(ctx context.Context) error {
	for {
		w.mu.Lock()
		n := 0
		for _, x := range w.later {
			if !x.stays {
				n++
			}
		}
		w.mu.Unlock()
		if n <= maxLater-gantry.MaxKnown {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(w.poll):
		}
	}
}
