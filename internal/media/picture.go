package media

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// cutter cuts a stream of pictures, one right behind another, by their own structure, which it checks.
type cutter struct {
	r       *bufio.Reader
	kind    string
	picture []byte
}

func newCutter(r io.Reader, kind string) *cutter {
	return &cutter{r: bufio.NewReaderSize(r, 64<<10), kind: kind}
}

// next gives the next picture, of most bytes at most, valid until the next call; io.EOF where the
// stream ends between two. An end inside one is errShort, a longer one too_large.
func (c *cutter) next(most int64) ([]byte, error) {
	c.picture = c.picture[:0]
	s := structureOf(c.kind)
	for !s.ended() {
		if _, err := c.r.Peek(1); err != nil {
			switch {
			case errors.Is(err, io.EOF) && len(c.picture) == 0:
				return nil, io.EOF
			case errors.Is(err, io.EOF):
				return nil, errShort
			}
			return nil, fmt.Errorf("read pictures: %w", err)
		}
		b, _ := c.r.Peek(c.r.Buffered())
		rest, err := s.feed(b)
		if err != nil {
			return nil, err
		}
		n := len(b) - len(rest)
		if int64(len(c.picture)+n) > most {
			return nil, illegal(gantry.CodeTooLarge, "a picture of over %d bytes", most)
		}
		c.picture = append(c.picture, b[:n]...)
		_, _ = c.r.Discard(n)
	}
	return c.picture, nil
}
