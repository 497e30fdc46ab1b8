package blob

import (
	"context"
	"errors"
	"io/fs"
	"unsafe"

	"github.com/gantry-imaging/gantry/internal/fail"
	"github.com/gantry-imaging/gantry/internal/gantry"
)

// writer appends records to this worker's segment, from one goroutine. While it syncs, commits
// queue up at the channel, and together they are the next batch: one write and one sync for all.
type writer struct {
	dir   *Dir
	size  int64 // of a new segment
	queue chan *request
	ended chan struct{}

	// The goroutine's own:
	seg  *segment
	next int64  // number of the next segment
	buf  []byte // one batch, aligned to the block
}

// usualBatch is the most that a batch comes to, in bytes, unless one record alone is larger.
const usualBatch = 3 << 20

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

// commit makes the body durable and says where. From here on the writer owns the body, and
// returns it to memory when it is copied or given up.
func (w *writer) commit(ctx context.Context, body []byte, seal gantry.Seal) (string, error) {
	r := &request{ctx: ctx, body: body, seal: seal, done: make(chan error, 1)}
	err := ctx.Err()
	if err == nil {
		err = w.dir.checkOpen()
	}
	if err == nil {
		select {
		case w.queue <- r:
			select {
			case err := <-r.done:
				if err != nil {
					return "", err
				}
				return r.at.String(), nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		case <-ctx.Done():
			err = ctx.Err()
		case <-w.dir.stop:
			err = errClosed()
		}
	}
	w.dir.mem.put(body)
	return "", err
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
	if need := int(recordSize(len(first.body))); len(w.buf) < need {
		w.buf = aligned(max(need, usualBatch))
	}
	if err := w.makeFit(recordSize(len(first.body))); err != nil {
		w.answer([]*request{first}, diskError("open segment", err))
		return nil
	}
	var taken []*request
	n := int64(0)
	r := first
	for r != nil {
		size := recordSize(len(r.body))
		if n+size > int64(len(w.buf)) || w.seg.end+n+size > w.seg.size {
			break
		}
		if err := r.ctx.Err(); err != nil {
			w.answer([]*request{r}, err)
		} else {
			w.take(r, n, size)
			taken = append(taken, r)
			n += size
		}
		r = w.waiting()
	}
	if n > 0 {
		w.answer(taken, w.append(w.buf[:n]))
	}
	return r
}

func (w *writer) waiting() *request {
	select {
	case r := <-w.queue:
		return r
	default:
		return nil
	}
}

// take copies a request into the batch at n, and its body is free.
func (w *writer) take(r *request, n, size int64) {
	putRecord(w.buf[n:n+size], r.body, r.seal)
	r.at = location{segment: w.seg.id, offset: w.seg.end + n, length: int64(len(r.body))}
	w.dir.mem.put(r.body)
	r.body = nil
}

func (w *writer) answer(rs []*request, err error) {
	for _, r := range rs {
		w.dir.mem.put(r.body)
		r.done <- err
	}
}

// append makes a batch durable. After an error nothing is known about the file's pages, so the
// segment is never written or synced again.
func (w *writer) append(b []byte) error {
	err := w.dir.env.write(w.seg.f, b, w.seg.end)
	fail.Point("before_blob_sync")
	if err == nil {
		err = w.dir.env.sync(w.seg.f)
	}
	if err != nil {
		w.drop()
		return diskError("write segment", err)
	}
	w.seg.end += int64(len(b))
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

// aligned gives n bytes at an address that is a multiple of the block size.
func aligned(n int) []byte {
	b := make([]byte, n+block)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (block - 1)
	return b[skip : skip+uintptr(n)]
}
