package blob

import (
	"context"
	"errors"
	"io/fs"
	"sync/atomic"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// writer appends records to a segment of its own, from one goroutine. While it syncs, commits
// queue up at the channel, and together they are the next batch: one write and one sync for all.
type writer struct {
	dir   *Dir
	size  int64 // of a new segment
	queue chan *request
	ended chan struct{}
	busy  atomic.Bool // at the disk

	// The goroutine's own:
	seg  *segment
	next int64    // number of the next segment, as far as it knows
	buf  []byte   // the small records of a batch, aligned to the block
	list [][]byte // the records of a batch, one behind another
}

const (
	usualBatch = 3 << 20 // the most that a batch comes to, in bytes, unless one record alone is larger
	smallRoom  = 1 << 20 // the most that its small records come to
)

type request struct {
	ctx  context.Context
	body []byte
	seal gantry.Seal
	at   location
	done chan error
}

func newWriter(d *Dir, size int64) *writer {
	size = max((size+block-1)/block*block, 2*block)
	return &writer{dir: d, size: size, queue: make(chan *request), ended: make(chan struct{})}
}

// pack makes a body durable in a segment and says where. From here on the writer owns the body, and
// returns it to memory when it is copied or given up. A second writer is there for when the first is at the disk, and has no segment
// before.
func (d *Dir) pack(ctx context.Context, body []byte, seal gantry.Seal) (string, error) {
	r := &request{ctx: ctx, body: body, seal: seal, done: make(chan error, 1)}
	err := ctx.Err()
	if err == nil {
		err = d.checkOpen()
	}
	if err == nil {
		first, second := d.writers[0], chan *request(nil)
		if first.busy.Load() {
			second = d.writers[1].queue
		}
		select {
		case first.queue <- r:
			return r.end(ctx)
		case second <- r:
			return r.end(ctx)
		case <-ctx.Done():
			err = ctx.Err()
		case <-d.stop:
			err = errClosed()
		}
	}
	d.mem.put(body)
	return "", err
}

// end waits until the bytes are durable and says where.
func (r *request) end(ctx context.Context) (string, error) {
	select {
	case err := <-r.done:
		if err != nil {
			return "", err
		}
		return r.at.String(), nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (w *writer) run() {
	defer close(w.ended)
	defer w.drop()
	var held *request // did not fit into the batch before
	for {
		if held == nil {
			select {
			case held = <-w.queue:
			case <-w.dir.stop:
				return
			}
		}
		held = w.batch(held)
	}
}

// drop ends the segment; the next record begins another.
func (w *writer) drop() {
	if w.seg != nil {
		w.seg.retire()
		w.seg = nil
	}
}

// batch takes the first request and what waits behind it, writes them and answers them. It gives
// back a request that did not fit.
func (w *writer) batch(first *request) *request {
	if err := w.makeFit(recordSize(len(first.body))); err != nil {
		if !w.pass(first) {
			w.answer([]*request{first}, diskError("open segment", err))
		}
		return nil
	}
	var taken []*request
	later := true // an instance that came over the network waits for the rest of its study
	w.list = w.list[:0]
	n, small := int64(0), int64(0)
	r := first
	for r != nil {
		size := recordSize(len(r.body))
		if n > 0 && n+size > usualBatch || small+size > smallRoom && recordOf(r.body) == nil || w.seg.end+n+size > w.seg.size {
			break
		}
		if err := r.ctx.Err(); err != nil {
			w.answer([]*request{r}, err)
		} else {
			small += w.take(r, n, small)
			taken, later = append(taken, r), later && r.seal.From > 0
			n += size
		}
		r = w.waiting()
	}
	if n > 0 {
		w.answer(taken, w.append(n, later))
	}
	return r
}

// pass gives a request of the second writer to the first, whose segment may have room where the disk has none for another.
func (w *writer) pass(r *request) bool {
	first := w.dir.writers[0]
	if w == first {
		return false
	}
	select {
	case first.queue <- r:
		return true
	case <-first.ended:
		return false
	}
}

func (w *writer) waiting() *request {
	select {
	case r := <-w.queue:
		return r
	default:
		return nil
	}
}

// take makes a record of a request, which goes to n of the batch, and says how much of the room for small ones, of which so much was
// taken, it takes: those are copied.
func (w *writer) take(r *request, n, small int64) (took int64) {
	r.at = location{segment: w.seg.id, offset: w.seg.end + n, length: int64(len(r.body))}
	if rec := recordOf(r.body); rec != nil {
		finishRecord(rec, len(r.body), r.seal)
		w.list = append(w.list, rec)
		return 0
	}
	rec := w.room()[small : small+recordSize(len(r.body))]
	putRecord(rec, r.body, r.seal)
	w.list = append(w.list, rec)
	return int64(len(rec))
}

func (w *writer) room() []byte {
	if w.buf == nil {
		w.buf = aligned(smallRoom)
	}
	return w.buf
}

func (w *writer) answer(rs []*request, err error) {
	for _, r := range rs {
		w.dir.mem.put(r.body)
		r.done <- err
	}
}

// append makes the records of a batch, n bytes, durable, past the page cache if all are read later. After an error nothing is known
// about the file's pages, so the segment is never written or synced again.
func (w *writer) append(n int64, later bool) error {
	w.busy.Store(true)
	defer w.busy.Store(false)
	err := w.dir.env.write(w.seg.by(later), w.list, w.seg.end)
	fail.Point("before_blob_sync")
	if err == nil {
		err = w.dir.env.sync(w.seg.f)
	}
	if err != nil {
		w.drop()
		return diskError("write segment", err)
	}
	w.seg.end += n
	return nil
}

// makeFit sees to a segment with room for a record of that size.
func (w *writer) makeFit(size int64) error {
	if w.seg != nil && w.seg.end+size <= w.seg.size {
		return nil
	}
	for {
		id := segmentID{worker: w.dir.worker, number: w.next}
		seg, err := createSegment(w, id, max(w.size, block+size))
		if errors.Is(err, fs.ErrExist) {
			w.next++ // from an earlier run under this id
			continue
		}
		if err != nil {
			return err // the old segment may still have room for others
		}
		w.drop()
		w.seg = seg
		w.next++
		return nil
	}
}
