package media

import "sync"

// Limits bounds what may come out of one task's source objects, over all nesting. Each is the largest
// value allowed; 0 allows nothing.
type Limits struct {
	Depth      int   // archives in archives; an object in a plain archive is at 1
	MaxBytes   int64 // inflated bytes in all
	MaxEntries int   // entries of all archives, folders too
	MaxRatio   int   // inflated to stored bytes, once ratioFrom bytes have come out
}

// ratioFrom is what may come out before the ratio counts: small things, such as a blank mask,
// shrink by any factor.
const ratioFrom = 10 << 20

// over tells whether out bytes from in stored ones break the ratio.
func (l Limits) over(out, in int64) bool {
	return out > ratioFrom && (out-1)/int64(max(l.MaxRatio, 1)) >= in
}

// Budget is what one task may still unpack. All archives that come out of its source objects share
// one Budget, however they are nested, so that many small ones cannot do what a large one may not.
// It is safe for concurrent use.
//
// A Budget is for one pass: each OpenZip counts the archive's entries, each entry of an opened Zip
// counts its bytes once, the first time that a read gets so far. Who opens the archives of a task
// anew, instead of keeping them, takes a new Budget.
type Budget struct {
	limits Limits
	pool   sync.Pool // of *inflater: they are large, and entries are many and small

	mu      sync.Mutex
	top     int   // the depth of the outermost archive; 0 before the first
	entries int   // of all archives
	in      int64 // stored bytes of the outermost archive's entries that were opened
	out     int64 // bytes that came out, at any depth
	prepaid int64 // bytes of tars that came out of streams and were counted then
	frames  int64 // bytes of pictures that were made: video shrinks by any factor, so no ratio counts
	stream  bool  // the outermost archive is a compressed tar
}

// NewBudget makes a full Budget.
func NewBudget(l Limits) *Budget { return &Budget{limits: l} }

// AddFrames counts n frames of a multi-frame file or a video, or source objects, among the entries. The error is Illegal,
// too_many_entries.
func (b *Budget) AddFrames(n int) error { return b.addEntries(n) }

// Next says that another source object of the same task begins: which of its archives is the outermost is found anew.
func (b *Budget) Next() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.top, b.stream = 0, false
}

// Left says how many frames, and bytes of their pictures, may still be made.
func (b *Budget) Left() (frames int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.limits.MaxEntries-b.entries), max(0, b.limits.MaxBytes-b.out-b.frames)
}

// Made counts bytes of pictures that were made. The error is Illegal, archive_bomb.
func (b *Budget) Made(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frames += n
	return b.check()
}

// enter says whether an archive may be opened at this depth.
func (b *Budget) enter(depth int) error {
	if depth > b.limits.Depth {
		return illegal(CodeTooDeep, "archive at depth %d, limit %d", depth, b.limits.Depth)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.top == 0 {
		b.top = depth
	}
	return nil
}

// room is how many entries may still be added.
func (b *Budget) room() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.limits.MaxEntries - b.entries
}

func (b *Budget) addEntries(n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries += n
	if b.entries > b.limits.MaxEntries {
		return b.tooMany()
	}
	return nil
}

func (b *Budget) tooMany() error {
	return illegal(CodeTooManyEntries, "over %d entries", b.limits.MaxEntries)
}

// notOpened is the mark of an entry that nobody has opened.
const notOpened = -1

// admit counts the stored bytes of an entry when it is first opened. Only the outermost archive's
// count: what lies further in came out of those. mark is the entry's own and guarded by b.
func (b *Budget) admit(mark *int64, depth int, packed int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if *mark != notOpened {
		return
	}
	*mark = 0
	if depth == b.top {
		b.in += packed
	}
}

// charge counts the bytes of an entry up to position to, less those counted before.
func (b *Budget) charge(mark *int64, to int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if to <= *mark {
		return nil
	}
	b.out += to - *mark
	*mark = to
	return b.check()
}

// check holds what came out to the limits; mu is held.
func (b *Budget) check() error {
	if b.out+b.frames > b.limits.MaxBytes {
		return illegal(CodeArchiveBomb, "over %d bytes unpacked", b.limits.MaxBytes)
	}
	if b.limits.over(b.out, b.in) {
		return illegal(CodeArchiveBomb, "%d bytes unpacked from %d, limit %d:1", b.out, b.in, b.limits.MaxRatio)
	}
	return nil
}

// refuse judges an archive, or an entry, by the sizes that it declares. A lie does not help: no
// read gets past the declared size.
func (b *Budget) refuse(size, packed int64) error {
	if size > b.limits.MaxBytes || b.limits.over(size, packed) {
		return illegal(CodeArchiveBomb, "declares %d bytes in %d, limits %d and %d:1",
			size, packed, b.limits.MaxBytes, b.limits.MaxRatio)
	}
	return nil
}

// unpacks notes that a compressed tar is opened at depth, and tells whether it is the outermost
// archive.
func (b *Budget) unpacks(depth int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stream = b.stream || depth == b.top
	return depth == b.top
}

// stored counts bytes of the outermost archive as they are read.
func (b *Budget) stored(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.in += n
}

// prepay counts bytes of a tar as they come out of a stream.
func (b *Budget) prepay(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.out += n
	b.prepaid += n
	return b.check()
}

// admitTar is admit for the entry of a tar. If that came out of the outermost stream, the bytes that
// were sent are the stream's, not the entry's.
func (b *Budget) admitTar(mark *int64, depth int, size int64) {
	b.mu.Lock()
	stream := b.stream && depth == b.top
	b.mu.Unlock()
	if stream {
		size = 0
	}
	b.admit(mark, depth, size)
}

// chargeTar is charge for the entry of a tar: what was counted as it came out of a stream is not
// counted again.
func (b *Budget) chargeTar(mark *int64, to int64) error {
	b.mu.Lock()
	if n := min(to-*mark, b.prepaid); n > 0 {
		b.prepaid -= n
		*mark += n
	}
	b.mu.Unlock()
	return b.charge(mark, to)
}
