package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gantry-imaging/gantry/internal/gantry"
)

// slowStore answers its second heartbeat late, though in time for the lease.
type slowStore struct {
	Store
	beats int
	took  time.Duration
}

// Heartbeat renews the lease.
func (s *slowStore) Heartbeat(ctx context.Context, _ gantry.WorkerID, _ time.Duration) (bool, error) {
	if s.beats++; s.beats != 2 {
		return true, nil
	}
	select {
	case <-time.After(s.took):
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// TestLostStaysLost: whoever was told that the lease is lost has let go of its task; a heartbeat that goes through
// after that must not keep the task for a process in which nobody works on it.
func TestLostStaysLost(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			h := newHeart(&slowStore{took: 7 * time.Second}, 1, 15*time.Second, time.Now())
			time.AfterFunc(15*time.Second, func() { // ten after the last good heartbeat
				h.origin = h.origin.Add(-3 * time.Second) // the process stood still for three more
				if asked && h.alive() {
					t.Error("thirteen of fifteen seconds after a heartbeat the lease was called good")
				}
			})
			if err := h.run(ctx); errors.Is(err, ErrLeaseLost) != asked {
				t.Errorf("asked %t: %v", asked, err)
			}
		})
	}
}
