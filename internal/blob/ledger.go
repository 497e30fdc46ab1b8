package blob

import (
	"context"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// Ledger keeps a row for each blob that is an object or a file of its own, for the collection of garbage.
type Ledger interface {
	// KeepBlob writes the row of a blob that is about to be committed, or revives it: from then on the blob is
	// no garbage for a grace. leaving: it is being deleted at this moment, and must not be relied on.
	KeepBlob(ctx context.Context, x gantry.KeptBlob) (leaving bool, err error)
}

const (
	leavingPause = 50 * time.Millisecond
	leavingTries = 60
)

// note writes the row of a blob before its bytes. A deletion that is under way is waited for: it takes a moment,
// unless who began it died.
func note(ctx context.Context, l Ledger, x gantry.KeptBlob) error {
	if l == nil {
		return nil
	}
	for range leavingTries {
		leaving, err := l.KeepBlob(ctx, x)
		if err != nil || !leaving {
			return err
		}
		select {
		case <-time.After(leavingPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := gantry.Errorf(gantry.Unavailable, CodeLeaving, "commit blob: garbage of the same bytes is being deleted")
	err.RetryAfter = time.Minute
	return err
}
