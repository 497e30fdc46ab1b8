package dir

import (
	"context"
	"io"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Describe tells nothing: a file has neither a content type, nor metadata, nor tags.
func (s *source) Describe(ctx context.Context, _ gantry.Object, _ gantry.Facts) (gantry.Description, error) {
	return gantry.Description{}, ctx.Err()
}

// Peek reads a part of a file. One that is not as it was announced any more is NotFound with code source_gone.
func (s *source) Peek(ctx context.Context, o gantry.Object, from, n int64) (io.ReadCloser, error) {
	if from < 0 || n < 1 || from+n > o.Size {
		return nil, gantry.Errorf(gantry.Illegal, CodeBadPath, "open object: it has no such part")
	}
	r, err := s.Open(ctx, o.Ref)
	if err != nil {
		return nil, err
	}
	x := r.(object)
	info, err := x.file.Stat()
	if err == nil {
		_, err = x.file.Seek(from, io.SeekStart)
	}
	switch {
	case err != nil:
		err = classify("open object", err)
	case o.Sequencer != "" && stampOf(info).String() != o.Sequencer:
		err = gantry.Errorf(gantry.NotFound, gantry.CodeSourceGone, "open object: it is being changed")
	default:
		return part{io.LimitReader(x, n), x}, nil
	}
	x.Close()
	return nil, err
}

// part is a part of an open file.
type part struct {
	io.Reader
	file io.Closer
}

// Close closes the file.
func (p part) Close() error { return p.file.Close() }
