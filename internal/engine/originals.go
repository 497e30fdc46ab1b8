package engine

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	readSide = 16 // members of a collection that are looked at side by side
	mostIdle = 8  // originals of one task whose blocks stay in memory while nobody reads them
)

// A task of one arrival has one item without a parent, item 0. In a task of a collection each member is an item
// without a parent and an origin of its own, the first is item 1, and 0 stands for the whole without being
// an item.

// roots makes the items of originals, in their order; those of members get their ids as they are taken.
func (w *work) roots(list []gantry.Arrival) []gantry.Item {
	out := make([]gantry.Item, len(list))
	for i, a := range list {
		x := gantry.Item{Parent: gantry.NoItem, Ordinal: int32(i), Stage: gantry.OriginalStage, Leg: w.task.Leg,
			Name: a.Name, Size: a.Size, SHA: a.SHA, Location: a.Location}
		if a.Location == "" && a.Place != "" {
			x.Transform, x.Locator = fromSource, locatorOf(a)
		}
		out[i] = x
	}
	return out
}

// locatorOf is that of an original which is read in place: its version, and before that of a member the number
// of its arrival, since their order is by names, which may be erased.
func locatorOf(a gantry.Arrival) string {
	if a.Collection == 0 {
		return a.Version
	}
	return strconv.FormatInt(a.ID, 10) + "@" + a.Version
}

// etag is the version of an original that is read in place.
func (w *work) etag(x gantry.Item) string {
	if !w.many {
		return x.Locator
	}
	_, version, _ := strings.Cut(x.Locator, "@")
	return version
}

// originals gives the items of the task's originals that it holds: a child holds those that its media lie in.
func (w *work) originals() (out []gantry.Item) {
	for _, x := range w.ownItems() {
		if x.Parent == gantry.NoItem {
			out = append(out, x)
		}
	}
	return out
}

// membersOf extracts the members of a collection, one after another, under the one budget; each counts as an entry. What
// they are is found out side by side.
func (x *extraction) membersOf(ctx context.Context, list []gantry.Arrival) error {
	x.last = 0 // the whole
	for roots := range slices.Chunk(x.roots(list), chunk) {
		if err := x.identifyAll(ctx, roots); err != nil {
			return err
		}
		for _, root := range roots {
			if x.e.stopping() {
				return errStop
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			x.budget.Next()
			if err := x.budget.AddFrames(1); err != nil {
				return err
			}
			root.ID = x.nextID()
			root.Origin = root.ID
			if err := x.take(ctx, root, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// identifyAll identifies items side by side.
func (w *work) identifyAll(ctx context.Context, roots []gantry.Item) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(readSide)
	for i := range roots {
		if gctx.Err() != nil || w.e.stopping() {
			break
		}
		g.Go(func() error { return w.identify(gctx, &roots[i]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if w.e.stopping() {
		return errStop
	}
	return context.Cause(ctx)
}

// inPlace is what a task reads of its originals where their sources keep them.
type inPlace struct {
	mu       sync.Mutex
	arrivals map[string]gantry.Arrival // by locator; nil before they are read
	sources  map[openedBy]located
	open     map[int32]*remote // by place among the originals
	idle     []*remote         // that nobody reads, the longest first
	failed   error             // the last failure of this step
	gone     error             // for good
}

// openedBy is a source by its name, and by its version if pipelines share it.
type openedBy struct {
	name string
	via  int32
}

// located is a source that reads in place.
type located struct {
	gantry.InPlace
	limiter int32
	index   int16
}

// remote gives an original that was not copied, to be given back with leave.
func (w *work) remote(ctx context.Context, x gantry.Item) (*remote, error) {
	p := w.inPlace()
	p.mu.Lock()
	defer p.mu.Unlock()
	if o := p.open[x.Ordinal]; o != nil {
		if o.users++; o.users == 1 {
			p.idle = slices.DeleteFunc(p.idle, func(y *remote) bool { return y == o })
		}
		o.item.Store(int32(x.ID))
		return o, nil
	}
	if p.arrivals == nil {
		list, err := w.e.Store.Originals(ctx, w.task.Task)
		if err != nil {
			return nil, err
		}
		p.know(list)
	}
	a := p.arrivals[x.Locator]
	if a.Place == "" {
		return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open %s: it was not copied, and nothing says where it is", w.path(x))
	}
	s, err := p.source(ctx, w, a, w.path(x))
	if err != nil {
		return nil, err
	}
	o := &remote{w: w, in: p, source: s, at: x.Ordinal, place: a.Place, size: a.Size, blocks: map[int64]*block{}, users: 1}
	if w.many {
		o.arrival = a.ID
	}
	o.item.Store(int32(x.ID))
	p.open[x.Ordinal] = o
	return o, nil
}

// know keeps where originals lie; mu is held, or nobody else is there yet.
func (p *inPlace) know(list []gantry.Arrival) {
	p.arrivals = make(map[string]gantry.Arrival, len(list))
	for _, a := range list {
		p.arrivals[locatorOf(a)] = a
	}
}

// source opens the driver of an arrival's source, or finds it open; mu is held.
func (p *inPlace) source(ctx context.Context, w *work, a gantry.Arrival, path string) (located, error) {
	of := openedBy{a.Source, 0}
	if !strings.Contains(a.Source, "/") {
		of.via = a.Via
	}
	if s, known := p.sources[of]; known {
		return s, nil
	}
	s, err := w.sourceOf(ctx, a, path)
	if err != nil {
		return located{}, err
	}
	driver, limiter, err := s.Open(ctx)
	if err != nil {
		return located{}, err
	}
	source, ok := driver.(gantry.InPlace)
	if !ok {
		return located{}, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open %s: its source reads nothing in place", path)
	}
	p.sources[of] = located{source, limiter, s.Index}
	return p.sources[of], nil
}

// leave gives an original back. Of those that nobody reads a few keep their blocks.
func (o *remote) leave() {
	p := o.in
	p.mu.Lock()
	var old *remote
	if o.users--; o.users == 0 {
		if p.idle = append(p.idle, o); len(p.idle) > mostIdle {
			old, p.idle = p.idle[0], p.idle[1:]
			delete(p.open, old.at)
		}
	}
	p.mu.Unlock()
	if old != nil {
		old.close()
	}
}

// inPlace is there from the first use on.
func (w *work) inPlace() *inPlace {
	w.opening.Lock()
	defer w.opening.Unlock()
	if w.reads == nil {
		w.reads = &inPlace{sources: map[openedBy]located{}, open: map[int32]*remote{}}
	}
	return w.reads
}

// opened gives what was read in place; nil if nothing was.
func (w *work) opened() *inPlace {
	w.opening.Lock()
	defer w.opening.Unlock()
	return w.reads
}

// close gives the memory back.
func (p *inPlace) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.open {
		o.close()
	}
	p.open, p.idle = map[int32]*remote{}, nil
}

// fail keeps why an original could not be read.
func (p *inPlace) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed = err; !gantry.KindOf(err).Retryable() {
		p.gone = cmp.Or(p.gone, err)
	}
}

// gone is why an original cannot be read, if another try would not help: the task ends with that, whatever
// it was read for.
func (w *work) gone() error {
	p := w.opened()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		return ended{p.gone}
	}
	return nil
}

// certain is the last failure of this step to read an original, if there was one: then what the step
// found out about media may be wrong, and is not kept.
func (w *work) certain() error {
	p := w.opened()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// enterStep begins a step.
func (w *work) enterStep(ctx context.Context, t gantry.Task) {
	w.task, w.heard, w.found = t, 0, nil
	w.held = gantry.Held(ctx)
	w.scope.Store(&scope{gantry.WithHold(ctx, nil), t}) // what a call that runs needs is read to its end
	if p := w.opened(); p != nil {
		p.mu.Lock()
		p.failed = nil
		p.mu.Unlock()
	}
}
