package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// mostTries is how often a process that begins says what it may say several times.
const mostTries = 3

// again does what may be done several times once more where its connection broke off, on another one. What the server itself refuses
// it is asked once.
func again(ctx context.Context, do func() error) error {
	for n := 1; ; n++ {
		err := do()
		if _, answered := errors.AsType[*pgconn.PgError](err); err == nil || answered || n == mostTries || ctx.Err() != nil {
			return err
		}
	}
}
