package media

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

var be = binary.BigEndian

// structure follows a picture's structure through its bytes as they come, and buffers nothing.
type structure interface {
	// feed takes the next bytes and gives those that lie behind the picture's end back.
	feed(b []byte) (rest []byte, err error)
	// ended tells whether the picture is complete.
	ended() bool
	// cut is the verdict on bytes that end here although the picture has not.
	cut() error
}

// structureOf gives a fresh structure for a media type, or nil if there is none for it.
func structureOf(media string) structure {
	switch media {
	case gantry.MediaPNG:
		return newPNG()
	case gantry.MediaJPEG:
		return newJPEG()
	}
	return nil
}

// Verify wraps the reader of an object of the given media type, so that its end is an error unless
// the object is whole. The pixels are not decoded, and what follows the end of the picture passes.
//
// For a PNG whole means: signature, sound chunks in a legal order, each with its CRC-32, IHDR first,
// image data, IEND last. For a JPEG: SOI, sound segments, a frame header before the first scan, at
// least one scan, EOI (ISO/IEC 10918-1 annex B).
//
// The error is an Illegal *gantry.Error: truncated, malformed, checksum_mismatch,
// length_out_of_bounds, bad_value or, for a hierarchical JPEG, unsupported_format, and comes as soon
// as it can be told. Other media pass unseen. Nothing is buffered.
func Verify(media string, r io.Reader) io.Reader {
	s := structureOf(media)
	if s == nil {
		return r
	}
	return &verifier{r: r, s: s, what: media}
}

// verifier passes bytes on and follows the structure in them.
type verifier struct {
	r    io.Reader
	s    structure
	what string
	err  error
}

// Digest is that of the stream that is passed on.
func (v *verifier) Digest() (gantry.Digest, int64, bool) { return gantry.DigestOf(v.r) }

// Read passes on what the wrapped reader gives, until something is wrong with it.
func (v *verifier) Read(buf []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	n, err := v.r.Read(buf)
	if _, bad := v.s.feed(buf[:n]); bad != nil {
		v.err = fmt.Errorf("check %s: %w", v.what, bad)
		return 0, v.err
	}
	if errors.Is(err, io.EOF) && !v.s.ended() {
		err = fmt.Errorf("check %s: %w", v.what, v.s.cut())
	}
	v.err = err
	return n, err
}
