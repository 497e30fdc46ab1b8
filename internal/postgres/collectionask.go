package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// ClaimQuestion takes a question about an open collection that is due; false if there is none. Nobody else has it for the lease, after which it
// is due again. Versions in busy are passed over.
func (s *Store) ClaimQuestion(ctx context.Context, lease time.Duration, busy []int32) (q gantry.Question, ok bool, err error) {
	err = s.pool.QueryRow(ctx, claimAskSQL, micros(lease), notNil(busy)).Scan(&q.Collection, &q.Number, &q.Version, &q.Pipeline, &q.Source, &q.Study, &q.Series)
	if errors.Is(err, pgx.ErrNoRows) {
		return q, false, nil
	}
	if err != nil {
		return q, false, fmt.Errorf("look for a question: %w", err)
	}
	return q, true, nil
}

// NextQuestion is how long it is until the next question is due; below 0 if there is none. Versions in busy are passed over.
func (s *Store) NextQuestion(ctx context.Context, busy []int32) (time.Duration, error) {
	var secs *float64
	if err := s.pool.QueryRow(ctx, nextAskSQL, notNil(busy)).Scan(&secs); err != nil {
		return 0, fmt.Errorf("look for questions: %w", err)
	}
	if secs == nil {
		return -1, nil
	}
	return max(0, time.Duration(*secs*float64(time.Second))), nil
}

// Unanswered asks again after a time. It changes nothing if the question is not the collection's last one.
func (s *Store) Unanswered(ctx context.Context, q gantry.Question, again time.Duration) error {
	if _, err := s.pool.Exec(ctx, unansweredSQL, q.Collection, q.Number, micros(again)); err != nil {
		return fmt.Errorf("put off a question: %w", err)
	}
	return nil
}

// Answered takes in how many instances there are of what a collection is of, under the rules of its version, and says what follows; false if
// the collection is closed, or knows a later answer. again is when to ask the next time, sooner if
// the count has only to hold for a while.
func (s *Store) Answered(ctx context.Context, q gantry.Question, n int, rules gantry.Collect, again time.Duration) (c gantry.Counted, ok bool, err error) {
	if rules.Expect == nil {
		return c, false, gantry.Errorf(gantry.Illegal, "", "take an answer in: its pipeline asks nobody")
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		b.Queue(lockOpenSQL, q.Collection)
		b.Queue(answeredSQL, q.Collection, q.Number, int32(n), micros(again), micros(rules.Expect.Steady), rules.Expect.Missing == gantry.MissingWait, micros(rules.Quiet)).
			Query(func(rows pgx.Rows) error {
				var due, ask int64
				_, err := pgx.ForEachRow(rows, []any{&due, &ask}, func() error {
					c, ok = gantry.Counted{Due: time.Duration(due) * time.Microsecond, Ask: time.Duration(ask) * time.Microsecond}, true
					return nil
				})
				return err
			})
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return c, false, fmt.Errorf("take an answer in: %w", err)
	}
	return c, ok, nil
}

// notNil is a list that is no null to the database.
func notNil(list []int32) []int32 { return append([]int32{}, list...) }
