package media

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/klauspost/compress/flate"
)

// Open reads one entry from its start. Bytes that cannot be as they are declared end the stream
// with an Illegal *gantry.Error: length_out_of_bounds (more or fewer bytes than declared),
// checksum_mismatch, truncated, malformed, or archive_bomb once the budget is spent. A stream that
// ends with io.EOF was complete and had the right CRC-32. Errors of the storage keep their kind.
// Close frees the decoder; a stream is for one goroutine, but several may be open.
func (z *Zip) Open(ordinal int) (io.ReadCloser, error) {
	f, err := z.find(ordinal)
	if err != nil {
		return nil, fmt.Errorf("open entry %d: %w", ordinal, err)
	}
	data, err := z.body(f)
	if err != nil {
		return nil, fmt.Errorf("open entry %d: %w", ordinal, err)
	}
	s := &stream{z: z, f: f, src: source{r: data}}
	switch {
	case f.method == stored, f.Size == 0 && f.Packed == 0: // some writers deflate nothing to nothing
		s.body = &s.src
	default:
		s.inflate = z.budget.inflater(&s.src)
		s.body = s.inflate.flate
	}
	return s, nil
}

// Section gives random access to an entry that is stored without compression, which is what an
// archive in an archive takes. ok is false if there is none, and Open will say why. Its CRC-32 is
// not checked, and its bytes, which are the archive's own, are not charged.
func (z *Zip) Section(ordinal int) (s *io.SectionReader, ok bool) {
	f, err := z.find(ordinal)
	if err != nil || f.method != stored {
		return nil, false
	}
	s, err = z.body(f)
	return s, err == nil
}

// body finds an entry's stored bytes by its local header, which must tell the same as the
// directory and leave them before the next entry.
func (z *Zip) body(f *record) (*io.SectionReader, error) {
	head := make([]byte, localSize+len(f.raw))
	if err := readAt(z.r, head, f.offset); err != nil {
		return nil, err
	}
	if string(head[:4]) != zipLocal || int(le.Uint16(head[26:])) != len(f.raw) || string(head[localSize:]) != f.raw {
		return nil, illegal(gantry.CodeMalformed, "the local header is not that of the directory")
	}
	if !f.agrees(head) {
		return nil, illegal(gantry.CodeMalformed, "the local header and the directory differ")
	}
	at := f.offset + int64(len(head)) + int64(le.Uint16(head[28:]))
	if at+f.Packed > f.limit {
		return nil, illegal(CodeArchiveBomb, "overlaps the next entry")
	}
	z.budget.admit(&f.mark, z.depth, f.Packed)
	return io.NewSectionReader(z.r, at, f.Packed), nil
}

// agrees compares the local header with the directory. Sizes that stand after the data (bit 3) or
// in a zip64 field are not in it.
func (f *record) agrees(head []byte) bool {
	const encrypted, streamed = 1, 1 << 3
	flags := le.Uint16(head[6:])
	if le.Uint16(head[8:]) != f.method || (flags^f.flags)&encrypted != 0 {
		return false
	}
	if flags&streamed != 0 {
		return true
	}
	packed, size := le.Uint32(head[18:]), le.Uint32(head[22:])
	return le.Uint32(head[14:]) == f.crc &&
		(packed == 1<<32-1 || int64(packed) == f.Packed) && (size == 1<<32-1 || int64(size) == f.Size)
}

// source remembers why reading failed, so that a decoder's complaint about bad bytes can be told
// from the storage's about no bytes.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// inflater is a decoder with its buffer, about 60 kB.
type inflater struct {
	buf   *bufio.Reader
	flate io.Reader
}

// inflater takes a decoder from the pool.
func (b *Budget) inflater(src io.Reader) *inflater {
	if d, ok := b.pool.Get().(*inflater); ok {
		d.buf.Reset(src)
		// Reset of a decoder without dictionary cannot fail.
		_ = d.flate.(flate.Resetter).Reset(d.buf, nil)
		return d
	}
	buf := bufio.NewReaderSize(src, 16<<10)
	return &inflater{buf: buf, flate: flate.NewReader(buf)}
}

// stream is an open entry.
type stream struct {
	z       *Zip
	f       *record
	src     source
	body    io.Reader
	inflate *inflater // nil if stored
	n       int64     // bytes given
	crc     uint32
	err     error // how it ended
}

// Read gives at most the declared bytes. It asks for one more, to learn whether there are more.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil || len(p) == 0 {
		return 0, s.err
	}
	left := s.f.Size - s.n
	if int64(len(p)) > left {
		p = p[:left+1]
	}
	n, err := s.body.Read(p)
	if int64(n) > left {
		n, err = int(left), illegal(CodeLengthOutOfBounds, "more than the %d bytes declared", s.f.Size)
	}
	s.crc = crc32.Update(s.crc, crc32.IEEETable, p[:n])
	s.n += int64(n)
	if over := s.z.budget.charge(&s.f.mark, s.n); over != nil {
		n, err = 0, over
	}
	if err != nil {
		s.end(err)
	}
	return n, s.err
}

// end decides what the end of the decoder's output means.
func (s *stream) end(err error) {
	if err = s.verdict(err); err != nil {
		s.err = fmt.Errorf("read entry %d: %w", s.f.Ordinal, err)
	} else {
		s.err = io.EOF
	}
}

func (s *stream) verdict(err error) error {
	switch {
	case s.src.err != nil:
		return s.src.err
	case gantry.KindOf(err) == gantry.Illegal:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF && s.inflate == nil && s.n < s.f.Size:
		return illegal(gantry.CodeTruncated, "ends at byte %d of %d", s.n, s.f.Size)
	case err != io.EOF:
		return illegal(gantry.CodeMalformed, "broken compression after byte %d", s.n)
	case s.n < s.f.Size:
		return illegal(CodeLengthOutOfBounds, "%d bytes, %d declared", s.n, s.f.Size)
	case s.crc != s.f.crc:
		return illegal(CodeChecksumMismatch, "wrong CRC-32")
	}
	return nil
}

// Close frees the decoder; what is read afterwards is fs.ErrClosed.
func (s *stream) Close() error {
	if s.inflate != nil {
		s.z.budget.pool.Put(s.inflate)
		s.inflate, s.body = nil, nil
	}
	s.err = fs.ErrClosed
	return nil
}
