package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Sizes and signatures of the records at the end of a zip (APPNOTE 6.3.10, 4.3.12 to 4.3.16).
const (
	endSize      = 22
	locatorSize  = 20
	end64Size    = 56
	centralSize  = 46
	localSize    = 30
	maxComment   = 1<<16 - 1
	zipCentral   = "PK\x01\x02"
	zipSigned    = "PK\x05\x05" // a signature may close the directory
	zipEnd64     = "PK\x06\x06"
	zipLocator   = "PK\x06\x07"
	centralCrypt = 62 // version needed for an encrypted directory (APPNOTE 4.4.3.2)
)

var le = binary.LittleEndian

// directory says where a zip's central directory lies and what its end record claims of it.
type directory struct {
	start  int64 // of the directory, in the file
	size   int64
	base   int64 // what to add to its offsets: the bytes before the archive
	count  uint64
	zip64  bool
	offset uint64 // of the directory, as declared
	end    int64  // where the directory must have ended
	length uint64 // declared size, before it was checked
	needs  uint16 // version needed, of a zip64 end record
}

// findDirectory reads the end of a zip. No end record is a cut archive; one whose numbers cannot
// be true is refused before anything is read that they point to.
func findDirectory(r io.ReaderAt, size int64) (directory, error) {
	rec, at, err := findEnd(r, size)
	if err != nil {
		return directory{}, err
	}
	d := directory{
		end: at, count: uint64(le.Uint16(rec[10:])),
		length: uint64(le.Uint32(rec[12:])), offset: uint64(le.Uint32(rec[16:])),
	}
	if err := d.read64(r, at); err != nil {
		return d, err
	}
	disk, here := le.Uint16(rec[4:]), le.Uint16(rec[8:])
	if !d.zip64 && (disk != 0 || uint64(here) != d.count) {
		return d, illegal(gantry.CodeUnsupportedFormat, "archive in several volumes")
	}
	if d.length > uint64(d.end) || d.offset > uint64(d.end)-d.length {
		return d, illegal(CodeLengthOutOfBounds, "directory of %d bytes at %d, before byte %d", d.length, d.offset, d.end)
	}
	d.size = int64(d.length)
	return d, d.place(r)
}

// nearEnd is where an end record most often lies: few archives have a comment.
const nearEnd = 1 << 10

// findEnd finds the last end record that is whole, in the last 64 KiB. Most are read no further than nearEnd.
func findEnd(r io.ReaderAt, size int64) ([]byte, int64, error) {
	for _, n := range [...]int64{nearEnd, endSize + maxComment} {
		tail := make([]byte, min(size, n))
		if err := readAt(r, tail, size-int64(len(tail))); err != nil {
			return nil, 0, err
		}
		if i := lastEnd(tail); i >= 0 {
			return tail[i : i+endSize], size - int64(len(tail)-i), nil
		}
	}
	return nil, 0, illegal(gantry.CodeTruncated, "no end of a zip directory")
}

// lastEnd finds the last end record that is whole in what a file ends with; -1 if there is none.
func lastEnd(tail []byte) int {
	for i := len(tail); ; {
		if i = bytes.LastIndex(tail[:i], []byte(zipEnd)); i < 0 {
			return -1
		}
		if rest := tail[i:]; len(rest) >= endSize && len(rest) >= endSize+int(le.Uint16(rest[20:])) {
			return i
		}
	}
}

// read64 takes the numbers of a zip64 end record where there is one. Those of the plain end record
// that are not "see zip64" must agree, or two readers would see two archives.
func (d *directory) read64(r io.ReaderAt, at int64) error {
	rec, pos, err := findEnd64(r, at)
	if err != nil || rec == nil {
		return err
	}
	if le.Uint32(rec[16:]) != 0 || le.Uint32(rec[20:]) != 0 || le.Uint64(rec[24:]) != le.Uint64(rec[32:]) {
		return illegal(gantry.CodeUnsupportedFormat, "archive in several volumes")
	}
	for _, f := range []struct {
		have *uint64
		full uint64
		want uint64
	}{
		{&d.count, 1<<16 - 1, le.Uint64(rec[32:])},
		{&d.length, 1<<32 - 1, le.Uint64(rec[40:])},
		{&d.offset, 1<<32 - 1, le.Uint64(rec[48:])},
	} {
		if *f.have != f.full && *f.have != f.want {
			return illegal(gantry.CodeMalformed, "the two end records differ")
		}
		*f.have = f.want
	}
	d.zip64, d.end, d.needs = true, pos, le.Uint16(rec[14:])
	return nil
}

// findEnd64 follows the zip64 locator before the end record at byte at. The record lies where the
// locator says, or, if data was put before the archive, right before the locator. No locator, or
// one that leads nowhere, is no zip64 archive.
func findEnd64(r io.ReaderAt, at int64) ([]byte, int64, error) {
	at -= locatorSize
	if at < end64Size {
		return nil, 0, nil
	}
	var loc [locatorSize]byte
	if err := readAt(r, loc[:], at); err != nil || string(loc[:4]) != zipLocator {
		return nil, 0, err
	}
	rec := make([]byte, end64Size)
	for _, pos := range []uint64{le.Uint64(loc[8:]), uint64(at - end64Size)} {
		if pos > uint64(at-end64Size) {
			continue
		}
		if err := readAt(r, rec, int64(pos)); err != nil {
			return nil, 0, err
		}
		if string(rec[:4]) == zipEnd64 {
			return rec, int64(pos), nil
		}
	}
	return nil, 0, nil
}

// place decides where the directory starts: right before its end, or, if it is not there, where
// its end record says. If there is one at both places nobody can tell which is meant.
func (d *directory) place(r io.ReaderAt) error {
	if d.count == 0 && d.size == 0 {
		return nil
	}
	before, declared := d.end-d.size, int64(d.offset)
	atEnd, err := isCentral(r, before, d.end)
	if err != nil {
		return err
	}
	d.start, d.base = before, before-declared
	if d.base == 0 && atEnd {
		return nil
	}
	if atEnd {
		if err := d.refuseInner(r); err != nil {
			return err
		}
	}
	atOffset, err := isCentral(r, declared, d.end)
	switch {
	case err != nil:
		return err
	case atEnd && atOffset:
		return illegal(gantry.CodeMalformed, "two directories, at byte %d and %d", declared, before)
	case atOffset:
		d.start, d.base = declared, 0
	case !atEnd && d.needs >= centralCrypt:
		return illegal(CodeEncrypted, "the directory is encrypted")
	case !atEnd:
		return illegal(gantry.CodeMalformed, "no directory at byte %d", declared)
	}
	return nil
}

// refuseInner refuses a directory whose offsets do not count from the first byte in a file that
// begins as a zip: most likely the file was cut, and the directory is that of an archive stored
// in it. Taking it would lose all other entries without a word.
func (d *directory) refuseInner(r io.ReaderAt) error {
	var sig [4]byte
	if err := readAt(r, sig[:], 0); err != nil {
		return err
	}
	if d.base > 0 && string(sig[:]) == zipLocal {
		return illegal(gantry.CodeTruncated, "the directory at byte %d is not that of the archive at byte 0", d.start)
	}
	return nil
}

func isCentral(r io.ReaderAt, at, end int64) (bool, error) {
	if at+centralSize > end {
		return false, nil
	}
	var sig [4]byte
	if err := readAt(r, sig[:], at); err != nil {
		return false, err
	}
	return string(sig[:]) == zipCentral, nil
}

// central is one header of the directory (APPNOTE 4.3.12).
type central struct {
	creator      byte // the system that the attributes are of
	flags        uint16
	method       uint16
	crc          uint32
	packed, size uint64
	offset       uint64
	attributes   uint32
	name         string
	lost         bool // a size that should stand in a zip64 field does not
}

// errSigned ends a directory early: a digital signature follows.
var errSigned = errors.New("digital signature")

// readCentral reads the next header; left is what remains of the directory, and what remains after
// it. scratch holds the variable fields.
func readCentral(r io.Reader, left int64, scratch *[]byte) (central, int64, error) {
	var h [centralSize]byte
	n := min(left, centralSize)
	if _, err := io.ReadFull(r, h[:n]); err != nil {
		return central{}, 0, err
	}
	if n >= 4 && string(h[:4]) == zipSigned {
		return central{}, 0, errSigned
	}
	if n < centralSize || string(h[:4]) != zipCentral {
		return central{}, 0, illegal(gantry.CodeMalformed, "no header where one must be")
	}
	name, extra, comment := int(le.Uint16(h[28:])), int(le.Uint16(h[30:])), int(le.Uint16(h[32:]))
	if left -= int64(centralSize + name + extra + comment); left < 0 {
		return central{}, 0, illegal(CodeLengthOutOfBounds, "a header crosses the end of the directory")
	}
	if need := name + extra + comment; cap(*scratch) < need {
		*scratch = make([]byte, need)
	}
	rest := (*scratch)[:name+extra+comment]
	if _, err := io.ReadFull(r, rest); err != nil {
		return central{}, 0, err
	}
	c := central{
		creator: h[5], flags: le.Uint16(h[8:]), method: le.Uint16(h[10:]), crc: le.Uint32(h[16:]),
		packed: uint64(le.Uint32(h[20:])), size: uint64(le.Uint32(h[24:])), offset: uint64(le.Uint32(h[42:])),
		attributes: le.Uint32(h[38:]), name: string(rest[:name]),
	}
	c.read64(rest[name : name+extra])
	return c, left, nil
}

// read64 takes from the zip64 extra field (APPNOTE 4.5.3) what the header refers to it for.
func (c *central) read64(extra []byte) {
	var field []byte
	for len(extra) >= 4 {
		n := int(le.Uint16(extra[2:]))
		if n > len(extra)-4 {
			break
		}
		if le.Uint16(extra) == 1 {
			field = extra[4 : 4+n]
			break
		}
		extra = extra[4+n:]
	}
	for _, v := range []*uint64{&c.size, &c.packed, &c.offset} {
		if *v != 1<<32-1 {
			continue
		}
		if len(field) < 8 {
			c.lost = true
			return
		}
		*v, field = le.Uint64(field), field[8:]
	}
}
