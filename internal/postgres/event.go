package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// maxMessageKept is how much of a message is kept, in bytes.
const maxMessageKept = 64 << 10

// NewestEvent gives the greatest event that told of any state of an object; empty if none has such a place.
func (s *Store) NewestEvent(ctx context.Context, source string, ref gantry.Digest) (string, error) {
	var newest string
	err := s.pool.QueryRow(ctx, `select coalesce(max(event), '') from arrival where source = $1 and ref_mac = $2`, source, ref[:]).Scan(&newest)
	if err != nil {
		return "", fmt.Errorf("ask for events: %w", err)
	}
	return newest, nil
}

// KeepMessage keeps a message to a source that tells of no object, with the reason: up to 64 KiB of it, and the
// size and digest of all. One that is on record stays as it is.
func (s *Store) KeepMessage(ctx context.Context, source string, n gantry.Notice) error {
	sum := sha256.Sum256(n.Body)
	_, err := s.pool.Exec(ctx, `insert into source_event(source, channel, code, size, sha, body) values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
		source, string(n.Channel), string(n.Code), len(n.Body), sum[:], n.Body[:min(len(n.Body), maxMessageKept)])
	if err != nil {
		return fmt.Errorf("keep message: %w", err)
	}
	return nil
}

// sweepMessagesSQL removes old messages. The time is that of the statement: the index ends a scan by no other. $1 how old, $2 how many.
const sweepMessagesSQL = `delete from source_event where id = any(array(
	select id from source_event where at < now() - $1::interval order by at limit $2))`

// SweepMessages removes messages that tell of no object and were kept longer ago than keep, the oldest first, at most limit; it says
// how many.
func (s *Store) SweepMessages(ctx context.Context, keep time.Duration, limit int) (int64, error) {
	tag, err := s.pool.Exec(ctx, sweepMessagesSQL, keep, limit)
	if err != nil {
		return 0, fmt.Errorf("sweep messages: %w", err)
	}
	return tag.RowsAffected(), nil
}
