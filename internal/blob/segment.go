package blob

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// A segment file is a header block and then records, each at a multiple of the block size:
//
//	header  "GANTSEG1", worker u64, number u64, length of id u8, id of the store
//	record  "GBLB", from u16, version u16, length u64, seal from there (32 bytes), body, zeros up to the next block
//
// Numbers are big-endian. What lies after the last record is whatever a crash left; nothing names it.
const (
	block        = 4 << 10 // bytes; what O_DIRECT needs
	recordHeader = 48      // bytes
	recordWhole  = 1       // version of a record whose seal is the SHA-256 of its body, from 0
	recordSealed = 2       // and of one with another seal
	segmentMagic = "GANTSEG1"
	recordMagic  = "GBLB"
	maxStoreID   = 64
	maxSealFrom  = 1<<16 - 1 // bytes
)

// recordSize is what a record takes in its segment.
func recordSize(body int) int64 {
	return (recordHeader + int64(body) + block - 1) / block * block
}

// putRecord writes a record into b, which is recordSize(len(body)) long.
func putRecord(b, body []byte, seal gantry.Seal) {
	copy(b[recordHeader:], body)
	finishRecord(b, len(body), seal)
}

// finishRecord writes what is about a body of n bytes, which is in its place.
func finishRecord(b []byte, n int, seal gantry.Seal) {
	copy(b, recordMagic)
	binary.BigEndian.PutUint16(b[4:], uint16(seal.From))
	binary.BigEndian.PutUint16(b[6:], recordWhole)
	if seal.From > 0 {
		binary.BigEndian.PutUint16(b[6:], recordSealed)
	}
	binary.BigEndian.PutUint64(b[8:], uint64(n))
	copy(b[16:recordHeader], seal.SHA[:])
	clear(b[recordHeader+n:])
}

// checkRecord tells whether b begins as a record of that length does.
func checkRecord(b []byte, length int64) bool {
	if len(b) < recordHeader || string(b[:4]) != recordMagic || binary.BigEndian.Uint64(b[8:]) != uint64(length) {
		return false
	}
	from := int64(binary.BigEndian.Uint16(b[4:]))
	switch binary.BigEndian.Uint16(b[6:]) {
	case recordWhole:
		return from == 0
	case recordSealed:
		return from > 0 && from <= length
	}
	return false
}

// sealOf is that of a record which was checked.
func sealOf(b []byte) gantry.Seal {
	return gantry.Seal{From: int64(binary.BigEndian.Uint16(b[4:])), SHA: gantry.Digest(b[16:recordHeader])}
}

// segmentID names a segment file.
type segmentID struct {
	worker gantry.WorkerID
	number int64
}

func (i segmentID) path(root string) string {
	return filepath.Join(root, "seg", strconv.FormatInt(int64(i.worker), 10), strconv.FormatInt(i.number, 10))
}

func (i segmentID) header(store string) []byte {
	b := append([]byte(segmentMagic), make([]byte, 16)...)
	binary.BigEndian.PutUint64(b[8:], uint64(i.worker))
	binary.BigEndian.PutUint64(b[16:], uint64(i.number))
	return append(append(b, byte(len(store))), store...)
}

// openSegment opens a segment for reading, if it is one and of this store.
func openSegment(root, store string, id segmentID) (*os.File, error) {
	f, err := os.Open(id.path(root))
	if err != nil {
		return nil, err
	}
	want := id.header(store)
	got := make([]byte, len(want))
	_, err = f.ReadAt(got, 0)
	if err != nil && err != io.EOF {
		f.Close()
		return nil, err
	}
	if err == io.EOF || !bytes.Equal(got, want) {
		f.Close()
		return nil, gantry.Errorf(gantry.Illegal, CodeCorrupt, "open segment %d/%d: its header is damaged or another's", id.worker, id.number)
	}
	return f, nil
}

// segment is the file that the writer appends to.
type segment struct {
	id     segmentID
	f      *os.File
	direct *os.File // the same past the page cache; nil where the filesystem knows no direct writes
	end    int64    // where the next record goes; all before it is durable
	size   int64
}

// createSegment makes a segment with room for size bytes and makes its name durable.
func createSegment(w *writer, id segmentID, size int64) (*segment, error) {
	path := id.path(w.dir.root)
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	lock(f)
	s := &segment{id: id, f: f, end: block, size: size}
	if directFlag != 0 {
		s.direct, _ = os.OpenFile(path, os.O_RDWR|directFlag, 0) // nil if the filesystem refuses the flag
	}
	if err := w.prepare(s); err != nil {
		s.close()
		os.Remove(path)
		return nil, err
	}
	return s, nil
}

// prepare reserves the segment's space and writes its header.
func (w *writer) prepare(s *segment) error {
	if err := reserve(s.f, s.size); err != nil {
		return err
	}
	head := w.room()[:block]
	clear(head)
	copy(head, s.id.header(w.dir.id))
	err := w.dir.env.write(s.by(true), [][]byte{head}, 0)
	if errors.Is(err, syscall.EINVAL) { // direct writes were taken at open and are refused now
		s.direct.Close()
		s.direct = nil
		err = w.dir.env.write(s.f, [][]byte{head}, 0)
	}
	if err != nil {
		return err
	}
	if err := s.f.Sync(); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.f.Name()))
}

// by is the file to write through: past the page cache what nobody reads soon. What is read at once would come from the disk then, which
// costs more than the copy: 75 to 160 us of processor time for 100 KB, and as long a wait.
func (s *segment) by(later bool) *os.File {
	if later && s.direct != nil {
		return s.direct
	}
	return s.f
}

// retire gives back the space after the last record. If that fails, it is only space.
func (s *segment) retire() {
	s.f.Truncate(s.end)
	s.close()
}

// close closes the files. A file that is nil takes that, too.
func (s *segment) close() {
	s.f.Close()
	s.direct.Close()
}
