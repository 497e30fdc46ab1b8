package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

const (
	maxRecord   = 8 << 20   // the largest blob that goes into a segment, bytes
	unknownMost = 1 << 20   // what a blob of unknown size may grow to in memory
	chunk       = 256 << 10 // how much of a file is written at once
	maxEmpty    = 100       // reads in a row that may give nothing
)

// Stage reads r to its end into memory or, if it is large or memory is short, into a temporary
// file. More than limit bytes are Illegal with code too_large, a full disk Unavailable with code
// no_space; errors of r pass through. size is only a hint; -1 if not known.
func (d *Dir) Stage(ctx context.Context, r io.Reader, size, limit int64) (gantry.Staged, error) {
	if err := d.checkOpen(); err != nil {
		return nil, err
	}
	h, err := stageInto(ctx, room{d.mem, d.temp, true}, r, size, limit)
	if err != nil {
		return nil, err
	}
	return &staged{held: h, dir: d}, nil
}

// room is where blobs lie that are not yet durable.
type room struct {
	mem   *memory
	temp  func() (*os.File, error)
	seals bool // what fits into memory need not have a digest, but a seal
}

// stageInto reads r to its end into a room.
func stageInto(ctx context.Context, in room, r io.Reader, size, limit int64) (*held, error) {
	limit = max(limit, 0)
	s := &stager{room: in, from: r, src: &capped{r: r, left: limit, limit: limit}}
	_, digested := r.(gantry.Digested)
	if _, sealed := r.(gantry.Sealed); !digested && !(sealed && in.seals) {
		s.hash = sha256.New()
	}
	defer s.drop() // what finish took is no longer there to drop
	if err := s.begin(ctx, min(size, limit)); err != nil {
		return nil, err
	}
	if err := s.read(ctx); err != nil {
		return nil, err
	}
	return s.finish()
}

// stager reads one blob. Until there is a file, buf holds all of it; then, what is not yet written.
type stager struct {
	room
	from io.Reader
	src  *capped
	hash hash.Hash // nil: from has the digest at its end
	buf  []byte
	most int // buf may grow to this
	file *os.File
	size int64
}

func (s *stager) begin(ctx context.Context, size int64) error {
	switch {
	case size < 0:
		s.most = unknownMost
		s.buf = make([]byte, 0, gantry.InlineLimit)
	case size <= gantry.InlineLimit:
		s.most = unknownMost
		s.buf = make([]byte, 0, max(size, 1))
	case size <= maxRecord:
		s.most = unknownMost
		buf, err := s.mem.get(ctx, int(size))
		if err != nil {
			return err
		}
		if s.buf = buf; buf != nil {
			return nil
		}
		fallthrough
	default:
		s.most = gantry.InlineLimit
		s.buf = make([]byte, 0, gantry.InlineLimit)
	}
	return nil
}

func (s *stager) read(ctx context.Context) error {
	for {
		n, err := s.fill(ctx, s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		// The buffer is full. Only a byte more is a reason to need more room.
		var more [1]byte
		if _, err := s.fill(ctx, more[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.makeRoom(ctx, more[0]); err != nil {
			return err
		}
		s.buf = append(s.buf, more[0])
	}
}

// fill reads and hashes until p is full; io.EOF is the end of the blob.
func (s *stager) fill(ctx context.Context, p []byte) (int, error) {
	n, empty := 0, 0
	for n < len(p) {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		got, err := s.src.Read(p[n:])
		if s.hash != nil {
			s.hash.Write(p[n : n+got])
		}
		n += got
		s.size += int64(got)
		if err != nil {
			return n, err
		}
		if empty++; got > 0 {
			empty = 0
		} else if empty >= maxEmpty {
			return n, io.ErrNoProgress
		}
	}
	return n, nil
}

// makeRoom makes buf larger or empties it into the file, for the byte that was read behind it.
func (s *stager) makeRoom(ctx context.Context, more byte) error {
	if s.file != nil {
		return s.flush()
	}
	if cap(s.buf) < gantry.InlineLimit {
		s.buf = append(make([]byte, 0, gantry.InlineLimit), s.buf...)
		return nil
	}
	if cap(s.buf) < s.most {
		larger, err := s.mem.get(ctx, min(4*cap(s.buf), s.most))
		if err != nil {
			return err
		}
		if larger != nil {
			s.replace(larger)
			return nil
		}
	}
	var err error
	if s.file, err = s.temp(); err != nil {
		return diskError("make temporary file", err)
	}
	if _, sealed := s.from.(gantry.Sealed); sealed && s.hash == nil { // a file needs a digest; it is not read again for it
		s.hash = sha256.New()
		s.hash.Write(s.buf)
		s.hash.Write([]byte{more})
	}
	if cap(s.buf) < chunk {
		if larger := s.mem.tryGet(chunk); larger != nil {
			s.replace(larger)
			return nil
		}
	}
	return s.flush()
}

func (s *stager) replace(larger []byte) {
	larger = append(larger, s.buf...)
	s.mem.put(s.buf)
	s.buf = larger
}

func (s *stager) flush() error {
	if _, err := s.file.Write(s.buf); err != nil {
		return diskError("write temporary file", err)
	}
	s.buf = s.buf[:0]
	return nil
}

func (s *stager) finish() (*held, error) {
	out := &held{mem: s.mem, size: s.size}
	var sealed bool
	if out.seal, sealed = s.sealed(); !sealed {
		var err error
		if out.sha, err = s.digest(); err != nil {
			return nil, err
		}
		out.seal = gantry.Seal{SHA: out.sha}
	}
	switch {
	case s.file != nil:
		if err := s.flush(); err != nil {
			return nil, err
		}
		out.file, s.file = s.file, nil
	case s.size <= gantry.InlineLimit && cap(s.buf) > gantry.InlineLimit:
		out.body = bytes.Clone(s.buf) // inline bytes outlive the buffer
	default:
		out.body, s.buf = s.buf, nil
	}
	return out, nil
}

// sealed gives the seal of what was read, if that is enough: a file has its digest for a name.
func (s *stager) sealed() (gantry.Seal, bool) {
	if s.hash != nil || s.file != nil {
		return gantry.Seal{}, false
	}
	x, n, ok := gantry.SealOf(s.from)
	return x, ok && n == s.size && x.From <= maxSealFrom
}

// digest is that of what was read. A stream that says it has one and then has none, or one of
// another number of bytes, is digested here after all.
func (s *stager) digest() (gantry.Digest, error) {
	if s.hash != nil {
		return gantry.Digest(s.hash.Sum(nil)), nil
	}
	if sum, n, ok := gantry.DigestOf(s.from); ok && n == s.size {
		return sum, nil
	}
	h := sha256.New()
	if s.file != nil {
		if _, err := io.Copy(h, io.NewSectionReader(s.file, 0, s.size-int64(len(s.buf)))); err != nil {
			return gantry.Digest{}, diskError("read temporary file", err)
		}
	}
	h.Write(s.buf)
	return gantry.Digest(h.Sum(nil)), nil
}

func (s *stager) drop() {
	s.mem.put(s.buf)
	if s.file != nil {
		dropFile(s.file)
	}
}

func dropFile(f *os.File) {
	f.Close()
	os.Remove(f.Name()) // one that stays is swept at a later start
}

// temp makes a temporary file in one of the shard folders by turns: a folder shared by all would
// be a lock shared by all.
func (d *Dir) temp() (*os.File, error) {
	for {
		n := d.temps.Add(1)
		dir := shardDir(d.root, byte(n))
		path := filepath.Join(dir, fmt.Sprintf("%s%d-%d", tempPrefix, d.worker, n))
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, fs.ErrNotExist):
			err = os.Mkdir(dir, 0o700)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
}

// capped lets left bytes pass and reads at most one more to tell whether there is one. An error
// that came with bytes comes after them.
type capped struct {
	r           io.Reader
	left, limit int64
	err         error
}

func (c *capped) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	if int64(len(p))-1 > c.left {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		return 0, gantry.Errorf(gantry.Illegal, gantry.CodeTooLarge, "read blob: over the limit of %d bytes", c.limit)
	}
	c.left -= int64(n)
	if n > 0 {
		c.err, err = err, nil
	}
	return n, err
}
