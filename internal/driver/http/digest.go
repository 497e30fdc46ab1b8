package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// CodeChecksumMismatch: bytes are not those that their digest speaks of. Of an answer it is BadResponse, of
// an output that is to be delivered Transient.
const CodeChecksumMismatch gantry.Code = "checksum_mismatch"

const sha256Entry = "sha-256="

// digest is an entry of Content-Digest (RFC 9530 section 2).
func digest(sha gantry.Digest) string {
	return sha256Entry + ":" + base64.StdEncoding.EncodeToString(sha[:]) + ":"
}

// says tells whether an answer names a digest as that of what lies there.
func says(h http.Header, want string) bool {
	for _, name := range []string{"Repr-Digest", "Content-Digest"} {
		for entry := range entries(h.Values(name)) {
			if entry == want {
				return true
			}
		}
	}
	return false
}

// entries goes through the entries of a header that holds a dictionary of digests.
func entries(lines []string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for _, line := range lines {
			for entry := range strings.SplitSeq(line, ",") {
				if !yield(strings.TrimSpace(entry)) {
					return
				}
			}
		}
	}
}

// claimed gives the digest that an answer, or a part of one, names as that of its content: the last
// entry that speaks of SHA-256, as in any dictionary (RFC 8941 section 3.2). Nil if there is none. One
// that is no digest equals none.
func claimed(lines []string) []byte {
	var claim []byte
	for entry := range entries(lines) {
		if text, ok := strings.CutPrefix(entry, sha256Entry); ok {
			claim = []byte{}
			if b, err := base64.StdEncoding.DecodeString(strings.Trim(text, ":")); err == nil && len(b) == sha256.Size {
				claim = b
			}
		}
	}
	return claim
}

// checked reads until ctx ends. It ends in an error of a kind if the bytes are not those that it was
// told.
type checked struct {
	ctx  context.Context
	r    io.Reader
	sum  hash.Hash
	want []byte // nil: not known
	kind gantry.Kind
}

func newChecked(ctx context.Context, r io.Reader, want []byte, kind gantry.Kind) *checked {
	return &checked{ctx: ctx, r: r, sum: sha256.New(), want: want, kind: kind}
}

// Digest is that of the stream that is passed on.
func (c *checked) Digest() (gantry.Digest, int64, bool) { return gantry.DigestOf(c.r) }

// Read reads on.
func (c *checked) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	if c.want == nil {
		return n, err
	}
	c.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && !bytes.Equal(c.sum.Sum(nil), c.want) {
		err = gantry.Errorf(c.kind, CodeChecksumMismatch, "read bytes: they are not those that their digest speaks of")
	}
	return n, err
}
