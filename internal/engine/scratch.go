package engine

import (
	"context"
	"io"
	"os"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// scratch makes bytes with random access, in a file without a name.
func (e *Engine) scratch(write func(*os.File) (int64, error)) (io.ReaderAt, int64, func() error, error) {
	f, err := os.CreateTemp(e.Scratch, "nested-*")
	if err != nil {
		return nil, 0, nil, gantry.Errorf(gantry.Unavailable, "no_space", "make scratch file: %w", err)
	}
	os.Remove(f.Name())
	n, err := write(f)
	if err != nil {
		f.Close()
		return nil, 0, nil, err
	}
	return f, n, f.Close, nil
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func readerWith(ctx context.Context, r io.Reader) io.Reader { return ctxReader{ctx, r} }

// Read stops when ctx ends.
func (c ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}
