package http

import (
	"bufio"
	"encoding/base64"
	"io"
	"strconv"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// base64Text decodes the rest of a JSON string, up to its closing quote, from base64 (RFC 4648
// section 4, with padding). Line breaks within count as nothing, and characters may be escaped, as
// some encoders do with + and /. What it holds does not grow.
type base64Text struct {
	r     *bufio.Reader
	text  [4096]byte // unescaped and not decoded yet
	n     int
	plain [3072]byte
	out   []byte // of plain, to be handed out next
	ended bool   // the padding came
	err   error
}

// Read reads the bytes that the text stands for.
func (b *base64Text) Read(p []byte) (int, error) {
	for len(b.out) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		b.fill()
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

// fill decodes more of the text. The characters are a whole number of fours.
func (b *base64Text) fill() {
	for b.n = 0; b.n < len(b.text) && b.err == nil; {
		b.err = b.run()
	}
	if b.err != nil && b.err != io.EOF || b.n == 0 {
		return
	}
	n, err := base64.StdEncoding.Strict().Decode(b.plain[:], b.text[:b.n])
	if err != nil || b.ended {
		b.err = badBase64()
		return
	}
	b.ended = n < b.n/4*3
	b.out = b.plain[:n]
}

// run takes characters up to one that is not what it says; io.EOF at the closing quote.
func (b *base64Text) run() error {
	if _, err := b.r.Peek(1); err != nil {
		return badJSON(err)
	}
	ready, _ := b.r.Peek(min(b.r.Buffered(), len(b.text)-b.n))
	for i, c := range ready {
		if c == '"' || c == '\\' || c < ' ' {
			b.n += copy(b.text[b.n:], ready[:i])
			b.r.Discard(i + 1)
			return b.special(c)
		}
	}
	b.n += copy(b.text[b.n:], ready)
	_, err := b.r.Discard(len(ready))
	return err
}

// special takes what stands behind a quote, a backslash or a control character.
func (b *base64Text) special(c byte) error {
	switch {
	case c == '"':
		return io.EOF
	case c < ' ':
		return badJSON(nil)
	}
	c, err := b.r.ReadByte()
	switch {
	case err != nil:
		return badJSON(err)
	case c == 'n' || c == 'r':
		return nil
	case c == 'u':
		if c, err = b.hex(); err != nil || c == '\n' || c == '\r' {
			return err
		}
	case c != '/':
		return badBase64()
	}
	b.text[b.n] = c
	b.n++
	return nil
}

// hex reads the four digits of \u.
func (b *base64Text) hex() (byte, error) {
	digits, err := b.r.Peek(4)
	if err != nil {
		return 0, badJSON(err)
	}
	x, err := strconv.ParseUint(string(digits), 16, 7)
	if err != nil {
		return 0, badBase64()
	}
	_, err = b.r.Discard(4)
	return byte(x), err
}

func badBase64() error {
	return gantry.Errorf(gantry.BadResponse, CodeBadBase64, "read answer: data are no base64")
}
