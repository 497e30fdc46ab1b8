package media

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// tarMaxExtended is the longest extended header that is read.
const tarMaxExtended = 1 << 20

// Tar is an open plain tar (POSIX.1-2017 pax and ustar, GNU, v7). It holds a small record of each
// entry and nothing of their bytes.
type Tar struct {
	r      io.ReaderAt
	depth  int
	budget *Budget
	files  []tarRecord
}

type tarRecord struct {
	Entry
	raw    string
	offset int64
	mark   int64 // guarded by the budget
}

// OpenTar reads the headers of a plain tar of size bytes that lies depth archives deep, the outermost
// at 1. A verdict on the whole is an Illegal *gantry.Error: truncated (it ends where no entry can be
// blamed, such as before the zero block at its end), malformed, checksum_mismatch (of a header), empty,
// too_deep, too_many_entries, too_large (names, or an extended header) or archive_bomb (more bytes
// than allowed). An entry is refused alone for truncated, length_out_of_bounds, unsafe_path and
// unsupported_entry: links, devices, pipes, sparse files. Any other error is r's.
//
// The archive's entries are counted in b at once, their bytes as they are read, unless Decompress
// counted them before. Owners, modes and times are not looked at.
func OpenTar(r io.ReaderAt, size int64, depth int, b *Budget) (*Tar, error) {
	t := &Tar{r: r, depth: depth, budget: b}
	if err := t.open(size); err != nil {
		return nil, fmt.Errorf("open tar: %w", err)
	}
	return t, nil
}

func (t *Tar) open(size int64) error {
	if err := t.budget.enter(t.depth); err != nil {
		return err
	}
	w := &tarWalk{t: t, size: size, room: t.budget.room(), names: 1<<20 + 512*int64(t.budget.limits.MaxEntries)}
	if err := w.walk(); err != nil {
		return err
	}
	if err := t.budget.addEntries(w.count); err != nil {
		return err
	}
	if len(t.files) == 0 {
		return illegal(gantry.CodeEmpty, "no entries")
	}
	var sum int64
	for i := range t.files {
		if f := &t.files[i]; !f.Rejected {
			sum += f.Size // at most size in all: entries do not overlap
		}
	}
	t.markDuplicates()
	return t.budget.refuse(sum, sum)
}

func (t *Tar) markDuplicates() {
	order := make([]*tarRecord, len(t.files))
	for i := range t.files {
		order[i] = &t.files[i]
	}
	slices.SortStableFunc(order, func(a, b *tarRecord) int { return cmp.Compare(a.raw, b.raw) })
	for i := 1; i < len(order); i++ {
		if f := order[i]; f.raw == order[i-1].raw && f.Reason == "" {
			f.Reason = CodeDuplicateName
		}
	}
}

// tarWalk is one pass over the headers.
type tarWalk struct {
	t     *Tar
	size  int64
	at    int64
	count int
	room  int
	names int64 // bytes that names may still take
	over  bool  // nothing behind can be told any more

	pax    *paxRecords // of the next entry
	long   string      // GNU long name of the next entry
	isLong bool
}

func (w *tarWalk) walk() error {
	h := make([]byte, tarBlock)
	zero := make([]byte, tarBlock)
	for !w.over {
		if err := readAt(w.t.r, h, w.at); err != nil {
			return err
		}
		if bytes.Equal(h, zero) {
			if w.pax != nil || w.isLong {
				return illegal(gantry.CodeMalformed, "an extended header without an entry")
			}
			return w.tail()
		}
		if !isTar(h) {
			if w.at == 0 {
				return illegal(gantry.CodeMalformed, "no tar header")
			}
			return illegal(CodeChecksumMismatch, "no sound header at byte %d", w.at)
		}
		if err := w.header(h); err != nil {
			return fmt.Errorf("header at byte %d: %w", w.at, err)
		}
	}
	return nil
}

// tail wants nothing but zeros behind the end: an archive behind an archive would be lost without a
// word.
func (w *tarWalk) tail() error {
	r := io.NewSectionReader(w.t.r, w.at, w.size-w.at)
	buf, zero := make([]byte, 32<<10), make([]byte, 32<<10)
	for {
		n, err := io.ReadFull(r, buf)
		if !bytes.Equal(buf[:n], zero[:n]) {
			return illegal(gantry.CodeMalformed, "bytes behind the end of the tar")
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the end: %w", err)
		}
	}
}

// header takes one header and moves behind its data.
func (w *tarWalk) header(h []byte) error {
	size, _ := tarNumber(h[124:136])
	switch kind := h[156]; kind {
	case tarPAX, tarSolaris, tarGlobal, tarLongName, tarLongLink:
		return w.extended(kind, size)
	default:
		return w.entry(h, size)
	}
}

// extended reads a header that speaks of the next entry.
func (w *tarWalk) extended(kind byte, size int64) error {
	if size < 0 || size > tarMaxExtended {
		return illegal(gantry.CodeTooLarge, "an extended header of %d bytes, limit %d", size, tarMaxExtended)
	}
	data := make([]byte, size)
	if err := readAt(w.t.r, data, w.at+tarBlock); err != nil {
		return err
	}
	w.at += tarBlock + padded(size)
	switch kind {
	case tarLongLink:
	case tarLongName:
		if w.isLong {
			return illegal(gantry.CodeMalformed, "two long names for one entry")
		}
		w.long, w.isLong = tarText(data), true
	default:
		p, ok := parsePAX(string(data))
		if !ok || kind == tarGlobal && (p.hasPath || p.size != "" || p.sparse) || kind != tarGlobal && w.pax != nil {
			return illegal(gantry.CodeMalformed, "an extended header that makes no sense")
		}
		if kind != tarGlobal {
			w.pax = &p
		}
	}
	return nil
}

// padded rounds up to whole blocks.
func padded(n int64) int64 { return (n + tarBlock - 1) &^ (tarBlock - 1) }

// entry takes the header of a file, a folder or anything else that has a name.
func (w *tarWalk) entry(h []byte, size int64) error {
	if w.count >= w.room {
		return w.t.budget.tooMany()
	}
	name, sparse, kind := tarName(h), h[156] == tarSparse, h[156]
	if w.isLong {
		name = w.long
	}
	if p := w.pax; p != nil {
		if p.hasPath {
			if w.isLong && w.long != p.path {
				return illegal(gantry.CodeMalformed, "two names for one entry")
			}
			name = p.path
		}
		if p.size != "" {
			size = decimal(p.size)
		}
		sparse = sparse || p.sparse
	}
	w.pax, w.long, w.isLong = nil, "", false
	if kind >= tarLink && kind <= tarFIFO {
		size = 0 // a link, device, folder or pipe has no data, whatever it says
	}
	if kind == tarV7 && strings.HasSuffix(name, "/") {
		kind = tarFolder
	}
	data, err := w.dataAt(h)
	if err != nil {
		return err
	}
	ordinal := w.count
	w.count++
	if kind == tarFolder || kind == tarVolume && size == 0 {
		w.at = data
		return nil
	}
	return w.add(tarRecord{Entry: Entry{Ordinal: ordinal, Size: size}, raw: name, offset: data, mark: notOpened},
		kind, sparse)
}

// dataAt is where an entry's data begin: after its header and, for a sparse file, the headers that go
// on with its map (GNU tar manual, "Storing Sparse Files").
func (w *tarWalk) dataAt(h []byte) (int64, error) {
	at := w.at + tarBlock
	if h[156] != tarSparse {
		return at, nil
	}
	for more := h[482] != 0; more; at += tarBlock {
		var flag [1]byte
		if err := readAt(w.t.r, flag[:], at+504); err != nil {
			return 0, err
		}
		more = flag[0] != 0
	}
	return at, nil
}

// add judges an entry and moves behind it.
func (w *tarWalk) add(f tarRecord, kind byte, sparse bool) error {
	if w.names -= int64(len(f.raw)); w.names < 0 {
		return illegal(gantry.CodeTooLarge, "names out of all proportion")
	}
	f.Name = printable(f.raw)
	left := w.size - f.offset
	switch {
	case f.Size < 0, f.Size > left && f.Size > 1<<31:
		f.Reason, w.over = CodeLengthOutOfBounds, true
	case f.Size > left:
		f.Reason, w.over = gantry.CodeTruncated, true
	case unsafeName(f.raw):
		f.Reason = CodeUnsafePath
	case sparse, kind != tarV7 && kind != tarFile && kind != tarContig:
		f.Reason = CodeUnsupportedEntry
	case strings.HasSuffix(f.raw, "/"):
		f.Reason = gantry.CodeMalformed // a file with a folder's name
	}
	f.Rejected, f.Packed = f.Reason != "", f.Size
	w.at = f.offset
	if w.over {
		f.Size, f.Packed = -1, -1
	} else {
		w.at += padded(f.Size)
	}
	w.t.files = append(w.t.files, f)
	return nil
}
