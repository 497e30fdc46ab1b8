package engine

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// fromSource is the transform of an original that is read where its source keeps it.
const fromSource = "source"

const (
	blockSize  = 1 << 20 // what is kept of an original in memory, in bytes, comes in blocks
	mostAhead  = 8       // blocks of one request, once a reader goes on in order
	mostBlocks = 32      // kept of one original
	allBlocks  = 128     // kept of all originals of a process; above that, each keeps fewBlocks at most
	fewBlocks  = 2
	mostRuns   = 16 // readers that are told apart by where they go on
	readTries  = 3  // of one request
)

// Source is one source of a plan.
type Source struct {
	Name  string
	Index int16 // among the pipeline's sources, for the record
	// Open gives the driver and the limit of its target. It is called only where an original was not copied.
	Open func(ctx context.Context) (gantry.Source, int32, error)
}

// scope is the step that a task is in.
type scope struct {
	ctx  context.Context
	task gantry.Task
}

// remote is a task's original where its source keeps it, as a ReaderAt for all that reads it. Each request is
// a recorded call of the source for a run of blocks; a reader that goes on in order gets more at once. A few
// blocks stay in memory, also from one step to the next.
type remote struct {
	w       *work
	source  gantry.InPlace
	limiter int32
	index   int16
	place   string
	version string
	size    int64

	mu     sync.Mutex
	blocks map[int64]*block
	clock  int64
	runs   []run
	gone   error // for good
	failed error // the last failure of this step
}

// block is a piece of an original that is there, or on its way.
type block struct {
	ready chan struct{} // closed once data or err is set
	data  []byte
	err   error
	used  int64
}

// run is a reader that goes on in order.
type run struct {
	next  int64 // block
	ahead int64 // blocks of its last request
}

// remote gives the original of a task that was not copied.
func (w *work) remote(ctx context.Context) (*remote, error) {
	w.opening.Lock()
	defer w.opening.Unlock()
	if w.origin != nil {
		return w.origin, nil
	}
	a, err := w.e.Store.Original(ctx, w.task.Task)
	if err != nil {
		return nil, err
	}
	name, ok := strings.CutPrefix(a.Source, w.plan.Name+"/")
	i := slices.IndexFunc(w.plan.Sources, func(s Source) bool { return s.Name == name })
	if !ok || i < 0 || a.Place == "" {
		return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open input: it was not copied, and nothing says where it is")
	}
	s := w.plan.Sources[i]
	driver, limiter, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	source, ok := driver.(gantry.InPlace)
	if !ok {
		return nil, gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open input: its source reads nothing in place")
	}
	w.origin = &remote{w: w, source: source, limiter: limiter, index: s.Index, place: a.Place, version: a.Version, size: a.Size, blocks: map[int64]*block{}}
	return w.origin, nil
}

// opened gives the original if it was opened for reading in place; else nil.
func (w *work) opened() *remote {
	w.opening.Lock()
	defer w.opening.Unlock()
	return w.origin
}

// gone is why the original cannot be read, if another try would not help: the task ends with that, whatever
// it was read for.
func (w *work) gone() error {
	o := w.opened()
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.gone != nil {
		return ended{o.gone}
	}
	return nil
}

// certain is the last failure of this step to read the original, if there was one: then what the step
// found out about media may be wrong, and is not kept.
func (w *work) certain() error {
	o := w.opened()
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// enterStep begins a step.
func (w *work) enterStep(ctx context.Context, t gantry.Task) {
	w.task, w.heard, w.found = t, 0, nil
	w.held = gantry.Held(ctx)
	w.scope.Store(&scope{gantry.WithHold(ctx, nil), t}) // what a call that runs needs is read to its end
	if o := w.opened(); o != nil {
		o.mu.Lock()
		o.failed = nil
		o.mu.Unlock()
	}
}

// ReadAt reads through the blocks. Its errors are the source's; a fenced or cancelled step ends it.
func (o *remote) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at := off + int64(n)
		if at < 0 || at >= o.size {
			return n, io.EOF
		}
		data, err := o.block(at / blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], data[at%blockSize:])
	}
	return n, nil
}

// block gives a block, from memory or with those after it from the source.
func (o *remote) block(at int64) ([]byte, error) {
	s := o.w.scope.Load()
	o.mu.Lock()
	if o.gone != nil {
		defer o.mu.Unlock()
		return nil, o.gone
	}
	if b := o.blocks[at]; b != nil {
		o.clock++
		b.used = o.clock
		o.mu.Unlock()
		select {
		case <-b.ready:
			return b.data, b.err
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		}
	}
	list := make([]*block, o.ahead(at))
	for i := range list {
		o.clock++
		list[i] = &block{ready: make(chan struct{}), used: o.clock}
		o.blocks[at+int64(i)] = list[i]
	}
	o.w.e.cached.Add(int64(len(list)))
	o.trim()
	o.mu.Unlock()
	o.fetch(s, at, list)
	return list[0].data, list[0].err
}

// ahead says how many blocks to ask for from one on, and notes where its reader will go on; mu is held.
func (o *remote) ahead(at int64) int64 {
	n := int64(1)
	if i := slices.IndexFunc(o.runs, func(r run) bool { return r.next == at }); i >= 0 {
		n = min(2*o.runs[i].ahead, mostAhead)
		o.runs = slices.Delete(o.runs, i, i+1)
	}
	if len(o.runs) == mostRuns {
		o.runs = o.runs[1:]
	}
	n = min(n, max(1, mostBlocks/2/int64(len(o.runs)+1)), (o.size-1)/blockSize+1-at)
	if o.w.e.cached.Load() > allBlocks {
		n = 1
	}
	for i := int64(1); i < n; i++ {
		if o.blocks[at+i] != nil {
			n = i
		}
	}
	o.runs = append(o.runs, run{at + n, n})
	return n
}

// trim lets go of the blocks that were not read for the longest time, where there are too many; mu is
// held. Those on their way stay.
func (o *remote) trim() {
	for most := mostBlocks; ; {
		if o.w.e.cached.Load() > allBlocks {
			most = fewBlocks
		}
		if len(o.blocks) <= most {
			return
		}
		oldest := int64(-1)
		for at, b := range o.blocks {
			if b.done() && (oldest < 0 || b.used < o.blocks[oldest].used) {
				oldest = at
			}
		}
		if oldest < 0 {
			return
		}
		o.drop(oldest)
	}
}

func (b *block) done() bool {
	select {
	case <-b.ready:
		return true
	default:
		return false
	}
}

// drop forgets a block; mu is held.
func (o *remote) drop(at int64) {
	if _, ok := o.blocks[at]; ok {
		delete(o.blocks, at)
		o.w.e.cached.Add(-1)
	}
}

// close gives the memory back.
func (o *remote) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for at := range o.blocks {
		o.drop(at)
	}
}

// fetch reads blocks from the source, with another try or two where that may help.
func (o *remote) fetch(s *scope, at int64, list []*block) {
	got := 0
	var err error
	for try := int16(1); got < len(list); try++ {
		var n int
		n, err = o.request(s, at+int64(got), list[got:], try)
		got += n
		if err == nil || try == readTries || errors.Is(err, gantry.ErrFenced) || !gantry.KindOf(err).Retryable() || gantry.RetryAfterOf(err) > time.Second || !o.pause(s, try, gantry.RetryAfterOf(err)) {
			break
		}
	}
	if got == len(list) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.failed = err
	if !gantry.KindOf(err).Retryable() {
		o.gone = err
	}
	for i, b := range list[got:] {
		b.err = err
		close(b.ready)
		o.drop(at + int64(got+i))
	}
}

// pause waits before another try; false if there is to be none.
func (o *remote) pause(s *scope, try int16, atLeast time.Duration) bool {
	t := time.NewTimer(max(o.w.plan.Retry.Pause(int(try), o.w.e.Rand(), 0)/8, atLeast))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// request makes one recorded call for blocks, and says how many came. In the record the part's ordinal is
// the first block: the bytes from ordinal x 1 MiB on.
func (o *remote) request(s *scope, at int64, list []*block, try int16) (got int, err error) {
	from := at * blockSize
	size := min(int64(len(list))*blockSize, o.size-from)
	t := s.task
	root := []gantry.Item{{}}
	if x, ok := o.w.item(0); ok {
		root[0] = x
	}
	spec := gantry.CallSpec{Priority: t.Priority, Intent: gantry.Intent{
		Lease: t.Lease, Boundary: gantry.AtSource, Op: gantry.OpGet, Limiter: o.limiter, Pipeline: o.w.plan.ID,
		Part: gantry.PartKey{Leg: t.Leg, Stage: t.Stage, Processor: o.index, Ordinal: int32(at)}, Try: try, ItemCount: 1, ItemsSHA: itemsDigest(root)}}
	err = o.w.e.Caller.Call(s.ctx, spec, func(ctx context.Context) error {
		r, err := o.source.OpenRange(ctx, o.place, from, size)
		if err != nil {
			return err
		}
		defer r.Close()
		for _, b := range list {
			data := make([]byte, min(blockSize, size-int64(got)*blockSize))
			if _, err := io.ReadFull(r, data); err != nil {
				return cutShort(err)
			}
			b.data = data
			close(b.ready)
			got++
		}
		return nil
	}, nil)
	return got, err
}

// cutShort tells the end of the bytes, which comes too early, from failures.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return gantry.Errorf(gantry.Transient, "short_body", "read input: the answer is cut short")
	}
	return err
}
