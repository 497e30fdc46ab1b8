package postgres

import (
	"context"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestAgain tries what was cut off, a few times, and nothing that was answered.
func TestAgain(t *testing.T) {
	t.Parallel()
	over, end := context.WithCancel(t.Context())
	end()
	refused := &pgconn.PgError{Code: "42501"}
	for name, c := range map[string]struct {
		ctx   context.Context
		gives []error
		want  error
		tries int
	}{
		"well":      {t.Context(), []error{nil}, nil, 1},
		"cut once":  {t.Context(), []error{io.ErrUnexpectedEOF, nil}, nil, 2},
		"cut often": {t.Context(), []error{io.EOF, io.EOF, io.ErrUnexpectedEOF, nil}, io.ErrUnexpectedEOF, 3},
		"refused":   {t.Context(), []error{io.EOF, refused, nil}, refused, 2},
		"over":      {over, []error{io.EOF, nil}, io.EOF, 1},
	} {
		tries := 0
		if err := again(c.ctx, func() error { tries++; return c.gives[tries-1] }); err != c.want || tries != c.tries {
			t.Errorf("%s: %v after %d tries", name, err, tries)
		}
	}
}
