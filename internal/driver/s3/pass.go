package s3

import (
	"context"
	"maps"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// pass is one listing that announces.
type pass struct {
	*watcher
	run
	inline  int           // old objects that it may announce; the others are left to the backlog
	again   int           // the same of those that the backlog has passed
	backlog bool          // it takes the backlog up
	last    string        // the last key that it saw
	cursor  string        // up to here nothing is open
	open    bool          // something after cursor is
	counts  bool          // what nothing told of is counted
	soon    time.Duration // until the first object has settled; 0: none waits
	slow    bool          // something that was there before is still under way
	sweep   gantry.Sweep
}

// sight is an object on a page.
type sight struct {
	gantry.Object
	before string        // the key before it
	young  time.Duration // how long it is too young
	old    bool          // it was there before the watch
	missed bool          // nothing told of it
}

// whole lists everything.
func (w *watcher) whole(ctx context.Context) error {
	began := w.now()
	p := w.newPass("")
	p.sweep.Began = began
	w.mu.Lock()
	tail := w.cursor
	p.far, p.counts = w.pages > w.few, w.progress.Taken && !w.progress.Backlog
	w.mu.Unlock()
	each := w.looking
	if p.far { // beside the tail's, by which it is known what comes
		each = w.each
	}
	got, err := each(ctx, "", func(page *sdk.ListObjectsV2Output) error { return p.take(ctx, page) })
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.swept, w.pages = began, got.pages
	if w.cursor == tail && !w.open {
		w.cursor = p.last
	}
	if got.pages > w.few {
		w.retryFar() // no listing that comes soon shows what this one left open
	}
	maps.DeleteFunc(w.later, func(_ objectID, x postponed) bool {
		return began.Sub(x.until) > maxRefused || !x.far && began.Sub(x.until) > maxPostpone
	}) // gone
	w.mu.Unlock()
	if !p.far {
		w.soon = p.soon
		if got.pages <= w.few { // the next one is as long
			w.took = got.took
		}
	}
	w.keep(func(x *gantry.TakeUp) {
		x.Taken = x.Taken || !x.Backlog && !p.slow
		if x.Tail = ""; got.pages > w.few {
			x.Tail = p.last
		}
	})
	p.sweep.Took = w.now().Sub(began)
	w.ledger.Swept(p.sweep)
	return nil
}

// looking is each for the listing that shows what comes. Where a page is not answered the ledger is told long before that is given up: what
// comes meanwhile is not seen.
func (w *watcher) looking(ctx context.Context, after string, f func(*sdk.ListObjectsV2Output) error) (volume, error) {
	slow := time.AfterFunc(slowLook, func() {
		w.ledger.Failed(string(gantry.ChannelPoll), gantry.Errorf(gantry.Timeout, "", "list bucket: no answer within %s", slowLook))
	})
	defer slow.Stop()
	return w.each(ctx, after, func(page *sdk.ListObjectsV2Output) error {
		slow.Stop()
		defer slow.Reset(slowLook)
		return f(page)
	})
}

// newPass begins a pass after a key. While a backlog is taken up, everything old is left to that.
func (w *watcher) newPass(from string) *pass {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &pass{watcher: w, run: w.anew(), inline: maxInline, again: maxInline, last: from, cursor: from}
	if w.progress.Backlog {
		p.inline = 0
	}
	return p
}

// tail lists what comes after the last key up to which nothing is open.
func (w *watcher) tail(ctx context.Context) error {
	w.mu.Lock()
	from := w.cursor
	w.mu.Unlock()
	p := w.newPass(from)
	got, err := w.looking(ctx, from, func(page *sdk.ListObjectsV2Output) error { return p.take(ctx, page) })
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.cursor, w.open = p.cursor, p.open
	if p.open && got.pages > w.few { // what is open so far back is announced again by itself
		w.cursor, w.open = p.last, false
		w.retryFar()
	}
	w.mu.Unlock()
	w.soon, w.took = p.soon, got.took
	w.keep(func(x *gantry.TakeUp) { x.Tail = max(x.Tail, p.last) })
	return nil
}

// takeUp takes up what was there before, from where the ledger says on, one page after the other. It waits for all of a
// page, however long that takes: what the ledger has as passed is looked at by no take-up again.
func (w *watcher) takeUp(ctx context.Context) error {
	w.mu.Lock()
	from := w.progress.Cursor
	w.mu.Unlock()
	p := &pass{watcher: w, run: run{places: w.olds, far: true}, backlog: true}
	_, err := w.each(ctx, from, func(page *sdk.ListObjectsV2Output) error {
		if err := w.room(ctx); err != nil {
			return err
		}
		was := p.sweep.Objects
		if err := p.take(ctx, page); err != nil {
			return err
		}
		w.keep(func(x *gantry.TakeUp) { x.Cursor, x.Passed = p.last, x.Passed+p.sweep.Objects-was })
		return nil
	})
	if err != nil {
		return err
	}
	w.keep(func(x *gantry.TakeUp) { x.Backlog, x.Cursor, x.Taken = false, "", true })
	return nil
}

// take announces what is new on a page, several at once, and waits for that as long as the pass does. What is still under
// way then is open.
func (p *pass) take(ctx context.Context, page *sdk.ListObjectsV2Output) error {
	list, err := p.read(page, p.serverTime(page.ResultMetadata))
	if err != nil {
		return err
	}
	p.sweep.Objects += int64(len(list))
	free := p.claim(list)
	known, err := p.ask(ctx, free)
	if err != nil {
		p.release(free)
		return err
	}
	fresh := p.choose(free, known)
	for i, err := range p.announceAll(ctx, fresh, p.run) {
		if err != nil {
			p.stop(fresh[i].before)
		}
		p.slow = p.slow || err == errUnderWay && fresh[i].old
	}
	if !p.open {
		p.cursor = p.last
	}
	return ctx.Err()
}

// read gives the objects of a page that are wanted. One whose key no server need take can be asked for by nobody: the
// ledger is told, and the others are not held up.
func (p *pass) read(page *sdk.ListObjectsV2Output, now time.Time) ([]sight, error) {
	list := make([]sight, 0, len(page.Contents))
	for i := range page.Contents {
		x := &page.Contents[i]
		o, err := toObject(x, page.EncodingType)
		switch {
		case gantry.CodeOf(err) == CodeNameTooLong:
			p.ledger.Failed(gantry.PartObject, err)
			continue
		case err != nil:
			return nil, err
		}
		if p.wanted(x, o.Ref) {
			age := now.Sub(o.At)
			list = append(list, sight{Object: o, before: p.last, young: p.unsettledFor(o.At, now), old: o.At.Before(p.began.Add(-grace)), missed: age > max(grace, 2*p.poll)})
		}
		p.last = o.Ref
	}
	return list, nil
}

// claim gives those objects whose keys no other pass is at. What another is at is open. What the take-up is still to come to is left to
// that, which would pass over what another only asks about.
func (p *pass) claim(list []sight) []sight {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := list[:0]
	for _, x := range list {
		if x.old && !p.backlog && p.inline == 0 && p.progress.Backlog && x.Ref > p.progress.Cursor {
			continue
		}
		if _, busy := p.busy[x.Ref]; busy {
			p.stop(x.before)
			p.slow = p.slow || x.old
			continue
		}
		p.busy[x.Ref] = struct{}{}
		free = append(free, x)
	}
	return free
}

// release lets other passes at the keys of objects.
func (w *watcher) release(list []sight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range list {
		delete(w.busy, x.Ref)
	}
}

// ask asks the ledger for objects.
func (w *watcher) ask(ctx context.Context, list []sight) ([]bool, error) {
	known := make([]bool, 0, len(list))
	for len(known) < len(list) {
		some := list[len(known):min(len(list), len(known)+gantry.MaxKnown)]
		objects := make([]gantry.Object, len(some))
		for i, x := range some {
			objects[i] = x.Object
		}
		k, err := w.ledger.Known(ctx, objects)
		if err != nil {
			return nil, err
		}
		known = append(known, k...)
	}
	return known, nil
}

// choose gives the objects that are to be announced now, and releases the others. The list is used up.
func (p *pass) choose(list []sight, known []bool) (fresh []sight) {
	others := list[:0]
	for i, x := range list {
		if known[i] {
			others = append(others, x)
			continue
		}
		before, waits := p.waits(x.Object)
		if p.counts && x.missed && !before {
			p.sweep.Missed++
		}
		switch {
		case x.young > 0:
			p.settleLater(x)
			p.stop(x.before)
		case waits:
			p.stop(x.before)
		case x.old && !p.backlog && p.inline == 0 && !p.passed(x):
			p.leave(x)
		default:
			p.inline = max(0, p.inline-1)
			x.Backlog, x.New = p.backlog, true
			fresh = append(fresh, x)
			continue
		}
		others = append(others, x)
	}
	p.release(others)
	return fresh
}

// leave leaves an object to the backlog, which is taken up from before the first of them.
func (p *pass) leave(x sight) {
	p.keep(func(b *gantry.TakeUp) {
		if !b.Backlog {
			b.Backlog, b.Cursor, b.Passed = true, x.before, 0
		}
	})
}

// passed tells whether the backlog is taken up from after an object that this pass may announce. Such a one was under
// way when the last process died, or came while there was none.
func (p *pass) passed(x sight) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.again == 0 || !p.progress.Backlog || x.Ref > p.progress.Cursor {
		return false
	}
	p.again--
	return true
}

// stop leaves the cursor at key, since something after it is open.
func (p *pass) stop(key string) {
	if !p.open || key < p.cursor {
		p.open, p.cursor = true, key
	}
}
