package blob

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	blockSize  = 1 << 20 // what is kept of an open blob in memory, in bytes, comes in blocks
	mostAhead  = 8       // blocks of one request, once a reader goes on in order
	mostBlocks = 16      // kept of one open blob
	allBlocks  = 128     // kept of all that are open in a process; above that, each keeps fewBlocks at most
	fewBlocks  = 2
	mostRuns   = 8 // readers that are told apart by where they go on
)

// object is an open blob in a bucket: a ReaderAt by ranges. A few blocks stay in memory, and a reader that goes
// on in order gets more at once. All of it comes from the one object that was there when it was opened.
type object struct {
	b    *Bucket
	key  *string
	etag *string
	size int64
	ctx  context.Context // ends with Close; the blob may outlive the call of Open
	end  context.CancelFunc

	mu     sync.Mutex
	blocks map[int64]*cachedBlock
	clock  int64
	runs   []run
}

// cachedBlock is a piece of a blob that is there, or on its way.
type cachedBlock struct {
	ready chan struct{} // closed once data or err is set
	data  []byte
	err   error
	used  int64
}

// run is a reader that goes on in order.
type run struct{ next, ahead int64 } // in blocks

// Open reads a blob by its location, with one request that brings its first MiB along. One that is not there is
// NotFound with code blob_missing. A blob that is changed while it is open is Transient with code blob_changed;
// its digest is checked by whoever reads it to the end.
func (b *Bucket) Open(ctx context.Context, where string) (gantry.Blob, error) {
	if err := b.checkOpen(); err != nil {
		return nil, err
	}
	l, err := parseLocation(where)
	if err != nil {
		return nil, err
	}
	if l.sha.IsZero() {
		return nil, gantry.Errorf(gantry.NotFound, CodeMissing, "open blob %s: it lies in a folder, and this store is a bucket", l)
	}
	o := &object{b: b, key: b.keyOf(l.sha), size: -1, blocks: map[int64]*cachedBlock{}}
	first := &cachedBlock{ready: make(chan struct{})}
	err = b.several(ctx, func(ctx context.Context) error {
		_, err := o.request(ctx, 0, []*cachedBlock{first})
		return err
	})
	if err != nil {
		return nil, err
	}
	if o.size > 0 {
		o.blocks[0] = first
		b.cached.Add(1)
	}
	o.runs = []run{{1, 1}}
	o.ctx, o.end = context.WithCancel(context.WithoutCancel(ctx))
	return o, nil
}

// Size is that of the blob in bytes.
func (o *object) Size() int64 { return o.size }

// Close gives the memory back and ends what is being read.
func (o *object) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ctx.Err() != nil {
		return os.ErrClosed
	}
	o.end()
	for at := range o.blocks {
		o.drop(at)
	}
	return nil
}

// ReadAt reads through the blocks.
func (o *object) ReadAt(p []byte, off int64) (n int, err error) {
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

// block gives a block, from memory or with those after it from the bucket.
func (o *object) block(at int64) ([]byte, error) {
	o.mu.Lock()
	if o.ctx.Err() != nil {
		o.mu.Unlock()
		return nil, os.ErrClosed
	}
	o.clock++
	if x := o.blocks[at]; x != nil {
		x.used = o.clock
		o.mu.Unlock()
		<-x.ready
		return x.data, x.err
	}
	list := make([]*cachedBlock, o.ahead(at))
	for i := range list {
		list[i] = &cachedBlock{ready: make(chan struct{}), used: o.clock}
		o.blocks[at+int64(i)] = list[i]
	}
	o.b.cached.Add(int64(len(list)))
	o.trim()
	o.mu.Unlock()
	o.fetch(at, list)
	return list[0].data, list[0].err
}

// ahead says how many blocks to ask for from one on, and notes where its reader will go on; mu is held.
func (o *object) ahead(at int64) int64 {
	n := int64(1)
	if i := slices.IndexFunc(o.runs, func(r run) bool { return r.next == at }); i >= 0 {
		n = min(2*o.runs[i].ahead, mostAhead)
		o.runs = slices.Delete(o.runs, i, i+1)
	}
	if len(o.runs) == mostRuns {
		o.runs = o.runs[1:]
	}
	n = min(n, (o.size-1)/blockSize+1-at)
	if o.b.cached.Load() > allBlocks {
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

// trim lets go of the blocks that were not read for the longest time, where there are too many; mu is held. Those
// on their way stay.
func (o *object) trim() {
	most := mostBlocks
	if o.b.cached.Load() > allBlocks {
		most = fewBlocks
	}
	for len(o.blocks) > most {
		oldest := int64(-1)
		for at, x := range o.blocks {
			select {
			case <-x.ready:
				if oldest < 0 || x.used < o.blocks[oldest].used {
					oldest = at
				}
			default:
			}
		}
		if oldest < 0 {
			return
		}
		o.drop(oldest)
	}
}

// drop forgets a block; mu is held.
func (o *object) drop(at int64) {
	if _, ok := o.blocks[at]; ok {
		delete(o.blocks, at)
		o.b.cached.Add(-1)
	}
}

// fetch reads blocks, with another try or two where a connection breaks: from where it broke.
func (o *object) fetch(at int64, list []*cachedBlock) {
	got := 0
	err := o.b.several(o.ctx, func(ctx context.Context) error {
		n, err := o.request(ctx, at+int64(got), list[got:])
		got += n
		return err
	})
	if err == nil {
		return
	}
	if o.ctx.Err() != nil {
		err = os.ErrClosed
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, x := range list[got:] {
		x.err = err
		close(x.ready)
		o.drop(at + int64(got+i))
	}
}

// request makes one request for blocks, and says how many came. The first of all tells the blob's size.
func (o *object) request(ctx context.Context, at int64, list []*cachedBlock) (got int, err error) {
	one, cancel := context.WithTimeout(ctx, rangeTime)
	defer cancel()
	from, to := at*blockSize, (at+int64(len(list)))*blockSize
	if o.size >= 0 {
		to = min(to, o.size)
	}
	out, err := o.b.client.GetObject(one, &sdk.GetObjectInput{Bucket: &o.b.Bucket, Key: o.key, IfMatch: o.etag, Range: aws.String(fmt.Sprintf("bytes=%d-%d", from, to-1))})
	if status(err) == http.StatusRequestedRangeNotSatisfiable && o.size < 0 {
		return 0, o.empty(one, ctx)
	}
	if err != nil {
		return 0, classify(ctx, "open blob", err)
	}
	defer out.Body.Close()
	if err := o.judge(out, from, to); err != nil {
		return 0, err
	}
	to = min(to, o.size)
	for _, x := range list {
		data := make([]byte, min(blockSize, to-from-int64(got)*blockSize))
		if _, err := io.ReadFull(out.Body, data); err != nil {
			return got, readError(ctx, err)
		}
		x.data = data
		close(x.ready)
		got++
	}
	return got, nil
}

// judge holds an answer to what was asked for, and takes size and tag from the first. The size was promised by
// the first one; a server may not know If-Match.
func (o *object) judge(out *sdk.GetObjectOutput, from, to int64) error {
	malformed := gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "read blob: the answer is not the range that was asked for")
	head, total, ok := strings.Cut(aws.ToString(out.ContentRange), "/")
	size, err := strconv.ParseInt(total, 10, 64)
	if !ok || err != nil || size <= 0 || out.ETag == nil {
		return malformed
	}
	if o.size >= 0 && (size != o.size || *out.ETag != *o.etag) {
		return gantry.Errorf(gantry.Transient, CodeChanged, "read blob: another object took its place")
	}
	if to = min(to, size); head != fmt.Sprintf("bytes %d-%d", from, to-1) || out.ContentLength != nil && *out.ContentLength != to-from {
		return malformed
	}
	if o.size < 0 { // alone: afterwards several requests may be under way
		o.size, o.etag = size, out.ETag
	}
	return nil
}

// empty opens a blob without bytes, of which there is no range.
func (o *object) empty(one, ctx context.Context) error {
	head, err := o.b.client.HeadObject(one, &sdk.HeadObjectInput{Bucket: &o.b.Bucket, Key: o.key})
	if err != nil {
		return classify(ctx, "open blob", err)
	}
	if aws.ToInt64(head.ContentLength) != 0 {
		return gantry.Errorf(gantry.BadResponse, CodeMalformedAnswer, "read blob: the server gives no range of it")
	}
	o.size, o.etag = 0, head.ETag
	return nil
}
