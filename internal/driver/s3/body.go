package s3

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"sync"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// piece is a part of an output, or the whole of it.
type piece struct {
	size int64
	sum  gantry.Digest
}

// body gives a piece of r and holds it to size and digest: before the last byte goes out it is known
// that all are right, so that a server never gets a whole body that is wrong.
type body struct {
	mu     sync.Mutex
	ctx    context.Context
	r      io.Reader
	sum    hash.Hash
	left   int64
	want   gantry.Digest
	last   bool // nothing may follow the piece
	closed bool
	err    error // what was wrong
}

func newBody(ctx context.Context, r io.Reader, p piece, last bool) *body {
	return &body{ctx: ctx, r: r, sum: sha256.New(), left: p.size, want: p.sum, last: last}
}

// Read gives the reader's own errors as they are; a wrong size or digest is Transient.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return 0, io.ErrClosedPipe
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	}
	n, err := b.read(p)
	if err != nil && err != io.EOF {
		b.err = err
		return 0, err
	}
	return n, err
}

func (b *body) read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.sum.Write(p[:n])
	b.left -= int64(n)
	switch {
	case err != nil && err != io.EOF:
		return 0, err
	case b.left > 0 && err == io.EOF:
		return 0, gantry.Errorf(gantry.Transient, CodeSizeMismatch, "deliver: %d bytes fewer than announced", b.left)
	case b.left > 0:
		return n, nil
	}
	return n, b.whole()
}

// whole checks a piece whose bytes have all come.
func (b *body) whole() error {
	if b.last {
		switch n, err := io.ReadFull(b.r, make([]byte, 1)); {
		case n > 0:
			return gantry.Errorf(gantry.Transient, CodeSizeMismatch, "deliver: more bytes than announced")
		case err != io.EOF:
			return err
		}
	}
	if gantry.Digest(b.sum.Sum(nil)) != b.want {
		return gantry.Errorf(gantry.Transient, CodeChecksumMismatch, "deliver: other bytes than announced")
	}
	return nil
}

// stop makes the body give nothing more: the transport may still hold it. It gives what was wrong.
func (b *body) stop() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.err
}

// measure reads r to its end and gives the digest of the whole and of each piece of a size.
func measure(ctx context.Context, r io.Reader, size int64) (whole piece, pieces []piece, err error) {
	all := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		one := sha256.New()
		n, err := io.CopyBuffer(io.MultiWriter(all, one), io.LimitReader(bounded{ctx, r}, size), buf)
		if err != nil {
			return piece{}, nil, err
		}
		if n > 0 || len(pieces) == 0 {
			whole.size += n
			pieces = append(pieces, piece{n, gantry.Digest(one.Sum(nil))})
		}
		if n < size {
			whole.sum = gantry.Digest(all.Sum(nil))
			return whole, pieces, nil
		}
	}
}

// bounded reads until ctx ends.
type bounded struct {
	ctx context.Context
	r   io.Reader
}

// Read reads on.
func (b bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.Read(p)
}
