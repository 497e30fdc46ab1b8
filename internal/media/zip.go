package media

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Zip is an open archive (PKWARE APPNOTE 6.3.10). It holds a small record of each entry and
// nothing of their bytes, so its entries may be opened in any order, again, and at the same time.
type Zip struct {
	r      io.ReaderAt
	depth  int
	budget *Budget
	files  []record
}

// Entry is one file of an archive, as its directory declares it.
type Entry struct {
	Ordinal  int         // its place in the directory, from 0; folders count
	Name     string      // in printable form: bytes that do not print stand as %XX
	Size     int64       // bytes after unpacking, as declared; no read gives more; -1 if it cannot be true
	Packed   int64       // bytes in the archive, in the same way
	Reason   gantry.Code // why it is refused, or a warning; else empty
	Rejected bool        // Reason is a refusal: Open gives it as error
}

// record is an entry with what it takes to read it.
type record struct {
	Entry
	raw    string // the name as it stands in the archive
	offset int64  // of the local header, in r
	limit  int64  // where the next local header or the directory begins
	mark   int64  // how far its bytes were charged; guarded by the budget
	crc    uint32
	flags  uint16
	method uint16
}

// Compression methods (APPNOTE 4.4.5).
const (
	stored   = 0
	deflated = 8
)

// maxInflation is more than deflate can expand by: a longer claim is a lie.
const maxInflation = 1040

// OpenZip reads the directory of a zip of size bytes that lies depth archives deep, the outermost
// at 1. Before it believes a number it checks it, and it allocates by what was read, never by what
// was declared. A verdict is an Illegal *gantry.Error: truncated, malformed, empty, encrypted (as a
// whole), too_deep, too_many_entries, archive_bomb (by ratio, by size, or since entries overlap),
// length_out_of_bounds, too_large (a directory out of all proportion) or unsupported_format
// (several volumes). Any other error is r's.
//
// The archive's entries are counted in b at once, their bytes as they are read.
func OpenZip(r io.ReaderAt, size int64, depth int, b *Budget) (*Zip, error) {
	z := &Zip{r: r, depth: depth, budget: b}
	if err := z.open(size); err != nil {
		return nil, fmt.Errorf("open zip: %w", err)
	}
	return z, nil
}

func (z *Zip) open(size int64) error {
	if err := z.budget.enter(z.depth); err != nil {
		return err
	}
	d, err := findDirectory(z.r, size)
	if err != nil {
		return err
	}
	if err := z.list(d); err != nil {
		return err
	}
	if err := z.refuseWhole(); err != nil {
		return err
	}
	z.markDuplicates()
	return z.checkOverlap(d.start)
}

// list reads the directory.
func (z *Zip) list(d directory) error {
	room := z.budget.room()
	if d.count > uint64(max(room, 0)) {
		return z.budget.tooMany()
	}
	if most := 1<<20 + 512*int64(z.budget.limits.MaxEntries); d.size > most {
		return illegal(gantry.CodeTooLarge, "directory of %d bytes, limit %d", d.size, most)
	}
	r := bufio.NewReaderSize(io.NewSectionReader(z.r, d.start, d.size), int(min(d.size, 32<<10)))
	z.files = make([]record, 0, min(int(d.count), int(d.size/centralSize)))
	var scratch []byte
	n := 0
	for left := d.size; left > 0; n++ {
		if n == room {
			return z.budget.tooMany()
		}
		c, rest, err := readCentral(r, left, &scratch)
		if errors.Is(err, errSigned) {
			break
		}
		if err != nil {
			return readError(fmt.Sprintf("entry %d", n), err)
		}
		if left = rest; !c.folder() {
			z.files = append(z.files, c.record(n, d))
		}
	}
	// Writers from before zip64 kept the lower 16 bits of a larger count.
	if uint64(n) != d.count && (d.zip64 || uint16(n) != uint16(d.count)) {
		return illegal(gantry.CodeMalformed, "%d entries, %d declared", n, d.count)
	}
	return z.budget.addEntries(n)
}

// readError tells the end of the bytes, a verdict, from failures of storage.
func readError(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return illegal(gantry.CodeTruncated, "%s: ends early", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Unix file types, in the upper half of the attributes.
const (
	typeMask   = 0o170000
	typeFolder = 0o040000
	typeFile   = 0o100000
)

// fileType is the Unix type of an entry made on Unix or macOS; 0 if it tells none.
func (c *central) fileType() uint32 {
	if c.creator != 3 && c.creator != 19 {
		return 0
	}
	return c.attributes >> 16 & typeMask
}

// folder tells whether the entry only names a folder.
func (c *central) folder() bool {
	slash := strings.HasSuffix(c.name, "/") || strings.HasSuffix(c.name, `\`)
	return c.size == 0 && (slash || c.fileType() == typeFolder)
}

// record judges one header.
func (c *central) record(ordinal int, d directory) record {
	rec := record{
		Entry: Entry{Ordinal: ordinal, Name: printable(c.name), Size: -1, Packed: -1},
		raw:   c.name, mark: notOpened, crc: c.crc, flags: c.flags, method: c.method,
	}
	rec.Reason = c.reason(d)
	rec.Rejected = rec.Reason != ""
	if rec.Reason != CodeLengthOutOfBounds {
		rec.Size, rec.Packed, rec.offset = int64(c.size), int64(c.packed), d.base+int64(c.offset)
	}
	return rec
}

func (c *central) reason(d directory) gantry.Code {
	most := uint64(d.start - d.base) // what offsets may reach
	least := uint64(localSize + len(c.name))
	switch {
	case c.lost, c.packed > most, c.offset > most, c.offset+c.packed+least > most, c.size > math.MaxInt64,
		c.method == deflated && c.size/maxInflation > c.packed,
		c.method == stored && c.flags&1 == 0 && c.size != c.packed:
		return CodeLengthOutOfBounds
	case unsafeName(c.name):
		return CodeUnsafePath
	case c.flags&(1|1<<6|1<<13) != 0 || c.method == 99:
		return CodeEncrypted
	case c.fileType() != 0 && c.fileType() != typeFile:
		return CodeUnsupportedEntry
	case strings.HasSuffix(c.name, "/"):
		return gantry.CodeMalformed // a folder with content
	case c.method != stored && c.method != deflated:
		return CodeUnsupportedEntry
	}
	return ""
}

// refuseWhole gives the verdicts that are about the archive and can be told from its directory.
func (z *Zip) refuseWhole() error {
	var size, packed int64
	encrypted := 0
	for i := range z.files {
		f := &z.files[i]
		if f.Reason == CodeEncrypted {
			encrypted++
		}
		if f.Rejected {
			continue // nobody will read it
		}
		if err := z.budget.refuse(f.Size, f.Packed); err != nil {
			return fmt.Errorf("entry %d: %w", f.Ordinal, err)
		}
		if size += f.Size; size < 0 {
			size = math.MaxInt64
		}
		packed += f.Packed
	}
	switch {
	case len(z.files) == 0:
		return illegal(gantry.CodeEmpty, "no entries")
	case encrypted == len(z.files):
		return illegal(CodeEncrypted, "every entry is encrypted")
	}
	return z.budget.refuse(size, packed)
}

// markDuplicates puts a warning on each sound entry whose name, to the byte, stood there before.
func (z *Zip) markDuplicates() {
	order := z.sorted(func(a, b *record) int { return cmp.Compare(a.raw, b.raw) })
	for i := 1; i < len(order); i++ {
		if f := order[i]; f.raw == order[i-1].raw && f.Reason == "" {
			f.Reason = CodeDuplicateName
		}
	}
}

// checkOverlap refuses an archive in which two entries, with the least that their local headers
// take, share bytes: that is how small archives hold endless ones. It notes for each entry where
// the next begins, which Open holds it to.
func (z *Zip) checkOverlap(start int64) error {
	order := z.sorted(func(a, b *record) int { return cmp.Compare(a.offset, b.offset) })
	order = slices.DeleteFunc(order, func(f *record) bool { return f.Reason == CodeLengthOutOfBounds })
	for i, f := range order {
		f.limit = start
		if i+1 < len(order) {
			f.limit = order[i+1].offset
		}
		if f.offset+localSize+int64(len(f.raw))+f.Packed > f.limit {
			return illegal(CodeArchiveBomb, "entry %d overlaps the next", f.Ordinal)
		}
	}
	return nil
}

// sorted gives the records in an order; equals stay in the directory's.
func (z *Zip) sorted(by func(a, b *record) int) []*record {
	order := make([]*record, len(z.files))
	for i := range z.files {
		order[i] = &z.files[i]
	}
	slices.SortStableFunc(order, by)
	return order
}

// Entries lists the files of the archive in the directory's order, refused ones too. Folders are
// left out; the ordinals are still those of the directory.
func (z *Zip) Entries() []Entry {
	out := make([]Entry, len(z.files))
	for i := range z.files {
		out[i] = z.files[i].Entry
	}
	return out
}

// find gives the record of an ordinal that may be read, or the entry's verdict.
func (z *Zip) find(ordinal int) (*record, error) {
	i, ok := sort.Find(len(z.files), func(i int) int { return cmp.Compare(ordinal, z.files[i].Ordinal) })
	if !ok {
		return nil, gantry.Errorf(gantry.NotFound, "", "no such file in the archive")
	}
	f := &z.files[i]
	if f.Rejected {
		return nil, illegal(f.Reason, "refused: %s", f.Reason)
	}
	return f, nil
}

// RawName is the name of a sound entry as it stands in the archive; "" for any other.
func (z *Zip) RawName(ordinal int) string {
	f, err := z.find(ordinal)
	if err != nil {
		return ""
	}
	return f.raw
}
