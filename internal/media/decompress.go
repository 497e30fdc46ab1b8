package media

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// zstdWindow is the largest window that a zstd stream may ask for, in bytes: what `zstd -21` takes.
const zstdWindow = 64 << 20

// Decompress writes the tar that lies in a gzip (RFC 1952) or zstd (RFC 8878) stream to dst, and
// gives its size. kind is gantry.MediaGZIP or MediaZSTD; the stream lies depth archives deep, as the
// tar in it will when it is opened. The stream's bytes and those of the tar are counted in b as they
// come; the tar's are not counted again when its entries are read.
//
// A verdict is an Illegal *gantry.Error: unsupported_format (what is in it is no tar, which is told
// from its first block), empty, truncated, malformed (also for bytes behind the stream),
// checksum_mismatch, length_out_of_bounds, too_large (a zstd window of over 64 MiB), too_deep or
// archive_bomb. Streams may have several members. Any other error is r's, dst's or ctx's.
func Decompress(ctx context.Context, kind string, r io.Reader, dst io.Writer, depth int, b *Budget) (int64, error) {
	n, err := decompress(ctx, kind, r, dst, depth, b)
	if err != nil {
		return n, fmt.Errorf("decompress after byte %d: %w", n, err)
	}
	return n, nil
}

func decompress(ctx context.Context, kind string, r io.Reader, dst io.Writer, depth int, b *Budget) (int64, error) {
	if err := b.enter(depth); err != nil {
		return 0, err
	}
	src := &source{r: &counted{r: r, b: b, outermost: b.unpacks(depth)}}
	in, closeIt, err := decoder(kind, src)
	if err != nil {
		return 0, streamError(src, err)
	}
	defer closeIt()
	var total int64
	buf := make([]byte, 64<<10)
	for end := false; !end; {
		if ctx.Err() != nil {
			return total, context.Cause(ctx)
		}
		n, err := io.ReadFull(in, buf)
		if over := b.prepay(int64(n)); over != nil {
			return total, over
		}
		end = err == io.EOF || err == io.ErrUnexpectedEOF && in.ended
		if err != nil && !end {
			return total, streamError(src, err)
		}
		if total == 0 {
			if bad := beginsTar(buf[:n]); bad != nil {
				return 0, bad
			}
		}
		m, err := dst.Write(buf[:n])
		total += int64(m)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// beginsTar refuses what is no tar by its first bytes. A tar without entries begins with zeros.
func beginsTar(b []byte) error {
	if len(b) == 0 {
		return illegal(gantry.CodeEmpty, "nothing in the stream")
	}
	if len(b) < tarBlock || !isTar(b[:tarBlock]) && b[0] != 0 {
		return illegal(gantry.CodeUnsupportedFormat, "no tar in the stream")
	}
	for _, c := range b[:tarBlock] {
		if b[0] == 0 && c != 0 {
			return illegal(gantry.CodeUnsupportedFormat, "no tar in the stream")
		}
	}
	return nil
}

// clean tells a decoder's true end from that of bytes that are missing: io.ReadFull says
// io.ErrUnexpectedEOF for both.
type clean struct {
	io.Reader
	ended bool
}

func (c *clean) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.ended = c.ended || err == io.EOF
	return n, err
}

func decoder(kind string, src io.Reader) (*clean, func(), error) {
	switch kind {
	case gantry.MediaGZIP:
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, nil, err
		}
		return &clean{Reader: z}, func() { z.Close() }, nil
	case gantry.MediaZSTD:
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(zstdWindow), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, nil, err
		}
		return &clean{Reader: z}, z.Close, nil
	}
	return nil, nil, illegal(gantry.CodeUnsupportedFormat, "no kind of stream that is known")
}

// streamError makes a verdict of a decoder's complaint.
func streamError(src *source, err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case src.err != nil:
		return src.err
	case gantry.KindOf(err) == gantry.Illegal:
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return illegal(gantry.CodeTruncated, "the stream ends early")
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zstd.ErrCRCMismatch):
		return illegal(CodeChecksumMismatch, "wrong checksum")
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return illegal(gantry.CodeTooLarge, "a window of over %d bytes", zstdWindow)
	case errors.Is(err, zstd.ErrFrameSizeMismatch), errors.Is(err, zstd.ErrFrameSizeExceeded):
		return illegal(CodeLengthOutOfBounds, "another size than declared")
	case errors.As(err, &corrupt):
		return illegal(gantry.CodeMalformed, "broken compression")
	}
	return illegal(gantry.CodeMalformed, "broken stream")
}

// counted counts the stored bytes of an outermost stream as they are read.
type counted struct {
	r         io.Reader
	b         *Budget
	outermost bool
}

// Read passes on.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.outermost {
		c.b.stored(int64(n))
	}
	return n, err
}
