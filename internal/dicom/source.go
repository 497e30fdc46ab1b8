package dicom

import (
	"compress/flate"
	"errors"
	"hash"
	"io"
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// errShort means that the bytes end before those asked for.
var errShort = errors.New("unexpected end")

// bufferSize is also the most that peek can show.
const bufferSize = 64 << 10

// source reads ahead into one buffer, counts and hashes what it reads.
type source struct {
	r      io.Reader
	hash   hash.Hash    // nil if these bytes are not the file's own
	check  func() error // after each read; nil for none
	buf    []byte
	lo, hi int
	base   int64     // offset of buf[0]
	size   int64     // -1 if not known
	err    error     // why there are no more bytes
	seek   io.Seeker // of r, where bytes may be gone past without reading them; nil if not
	past   Skipper   // r, where it goes past bytes by itself; nil if not
}

func newSource(r io.Reader, size int64, h hash.Hash) *source {
	return &source{r: r, hash: h, buf: buffers.Get().(*[bufferSize]byte)[:], size: max(size, -1)}
}

// buffers are those of sources that were read to the end.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// free gives the buffer back. Nothing that peek showed may be used any more.
func (s *source) free() {
	buffers.Put((*[bufferSize]byte)(s.buf))
	s.buf = nil
}

// pos is the offset of the next byte.
func (s *source) pos() int64 { return s.base + int64(s.lo) }

// fill reads once, behind what is still unread.
func (s *source) fill() {
	if s.lo > 0 {
		copy(s.buf, s.buf[s.lo:s.hi])
		s.base += int64(s.lo)
		s.hi -= s.lo
		s.lo = 0
	}
	for range 100 {
		n, err := s.r.Read(s.buf[s.hi:])
		if s.hash != nil {
			s.hash.Write(s.buf[s.hi : s.hi+n])
		}
		s.hi += n
		if err != nil {
			s.err = err
		} else if s.check != nil {
			s.err = s.check()
		}
		if n > 0 || s.err != nil {
			return
		}
	}
	s.err = io.ErrNoProgress
}

// why is the reason that bytes are missing.
func (s *source) why() error {
	if s.err == io.EOF {
		return errShort
	}
	return s.err
}

// peek shows the next n bytes, n <= bufferSize. They are good until the next call.
func (s *source) peek(n int) ([]byte, error) {
	for s.hi-s.lo < n {
		if s.err != nil {
			return s.buf[s.lo:s.hi], s.why()
		}
		s.fill()
	}
	return s.buf[s.lo : s.lo+n], nil
}

// more tells whether a byte is left.
func (s *source) more() (bool, error) {
	_, err := s.peek(1)
	if errors.Is(err, errShort) {
		return false, nil
	}
	return err == nil, err
}

// chunk shows between 1 and n of the next bytes and goes past them.
func (s *source) chunk(n int64) ([]byte, error) {
	if _, err := s.peek(1); err != nil {
		return nil, err
	}
	k := int(min(n, int64(s.hi-s.lo)))
	s.lo += k
	return s.buf[s.lo-k : s.lo], nil
}

// skip goes past n bytes.
func (s *source) skip(n int64) error {
	if s.seek != nil && n-int64(s.hi-s.lo) > bufferSize && n <= s.size-s.pos() {
		at := s.pos() + n
		if _, err := s.seek.Seek(at, io.SeekStart); err != nil {
			return err
		}
		s.base, s.lo, s.hi, s.err = at, 0, 0, nil
		return nil
	}
	if held := int64(s.hi - s.lo); s.past != nil && s.err == nil && n > held {
		k, err := s.past.Skip(n - held)
		s.base, s.lo, s.hi, s.err = s.pos()+held+k, 0, 0, err
		if k < n-held {
			return s.why()
		}
		return nil
	}
	for n > 0 {
		b, err := s.chunk(n)
		if err != nil {
			return err
		}
		n -= int64(len(b))
	}
	return nil
}

// drain reads to the end.
func (s *source) drain() error {
	for s.err == nil {
		s.lo = s.hi
		s.fill()
	}
	s.lo = s.hi
	if s.err == io.EOF {
		return nil
	}
	return s.err
}

// Read and ReadByte let the inflater take exactly what it needs.
func (s *source) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := s.chunk(int64(len(p)))
	if err != nil {
		return 0, s.err
	}
	return copy(p, b), nil
}

func (s *source) ReadByte() (byte, error) {
	if s.lo == s.hi {
		if _, err := s.peek(1); err != nil {
			return 0, s.err
		}
	}
	s.lo++
	return s.buf[s.lo-1], nil
}

// ratioFrom is how much must have come out before the ratio counts.
const ratioFrom = 10 << 20

// inflate puts the inflater between the file and the elements (PS3.5 section A.5, RFC 1951). Every
// error of the inflater is a verdict, unless the file could not be read.
func (s *scanner) inflate() {
	start := s.raw.pos()
	out := newSource(&inflated{flate.NewReader(s.raw), s.raw}, -1, nil)
	out.check = func() error {
		n, in := out.base+int64(out.hi), s.raw.pos()-start
		if n > s.lim.MaxInflated || n > ratioFrom && n/s.lim.MaxRatio > in {
			return gantry.Errorf(gantry.Illegal, CodeArchiveBomb, "inflated to %d bytes from %d", n, in)
		}
		return nil
	}
	s.src = out
}

// maxTrailer is what may follow a deflated data set: the trailer of gzip (CRC-32 and size), which
// some writers leave there, and one byte of padding.
const maxTrailer = 9

func (s *scanner) endOfInflated() error {
	at := s.raw.pos()
	if err := s.raw.drain(); err != nil {
		return err
	}
	if n := s.raw.pos() - at; n > maxTrailer {
		return gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "%d bytes behind the deflated data set at %d", n, at)
	}
	return nil
}

// inflated sorts out whose fault an error is.
type inflated struct {
	r   io.Reader
	raw *source
}

func (i *inflated) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	switch {
	case err == nil || err == io.EOF:
	case i.raw.err != nil && i.raw.err != io.EOF:
		err = i.raw.err
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = gantry.Errorf(gantry.Illegal, gantry.CodeTruncated, "the deflated data set ends early")
	default:
		err = gantry.Errorf(gantry.Illegal, gantry.CodeMalformed, "inflate near byte %d: corrupt data", i.raw.pos())
	}
	return n, err
}
